"""Gradient penalties on D."""

from jaxtyping import Float
from torch import Tensor

from lapgan.section import Count, Positive, Section

__all__ = ["FiniteDifferencePenalty", "finite_difference_penalty"]


def finite_difference_penalty(
    logits: Float[Tensor, "n ..."], perturbed: Float[Tensor, "n ..."], scale: float
) -> Tensor:
    """Computes a gradient penalty from logits alone, with no second derivative.

        R = mean (D(x + scale e) - D(x))^2 / scale^2 -> mean ||grad D(x)||^2  for scale -> 0

    in expectation over e ~ N(0, 1). On real examples it approximates R1, on generated ones R2.

    Args:
        logits: D(x).
        perturbed: D(x + scale e).
        scale: the length of the step.

    References:
        Mescheder et al. (2018), equation 9, for R1; Lin et al. (2025), section 3.3, for the
        approximation by a perturbed example.
    """
    return ((perturbed - logits) / scale).square().mean()


class FiniteDifferencePenalty(Section):
    """A gradient penalty on D by finite differences; see `finite_difference_penalty`.

    The loss of D is L + weight / 2 (R1 + R2).

    Args:
        weight: of the penalty.
        every: the penalty is computed once in so many steps, and multiplied by that number.
        scale: the length of the difference, in standard deviations of the features of D.
    """

    weight: Positive = 0.3
    every: Count = 4
    scale: Positive = 0.1
