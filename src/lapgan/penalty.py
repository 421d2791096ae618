"""Gradient penalties on D."""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from pydantic import BeforeValidator, Field
from torch import Tensor

from lapgan.double_backward import differentiable_gradients
from lapgan.section import Count, Positive, Section

__all__ = [
    "AnyPenalty",
    "ExactPenalty",
    "FiniteDifferencePenalty",
    "LabelledHead",
    "Penalty",
    "SelectsPenalized",
    "exact_penalty",
    "finite_difference_penalty",
]

# What D's head sees of examples (`lapgan.models.contracts.FeatureMaps`), and the head by itself: of
# examples whose classes are settled, and of any.
Maps: TypeAlias = tuple[Tensor, ...]
Head: TypeAlias = Callable[[Maps], Tensor]
LabelledHead: TypeAlias = Callable[[Maps, Tensor | None], Tensor]


@runtime_checkable
class SelectsPenalized(Protocol):
    """A discriminator that leaves some of its feature maps out of the exact penalty.

    A low-pass image that real and generated examples share is one that may be left out.
    """

    def select_penalized(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Returns the maps (B, c, h, w), or the planes of them, that are penalized."""


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


def exact_penalty(head: Head, maps: Maps, select: Callable[[Maps], Maps] | None = None) -> Tensor:
    """Computes a gradient penalty by differentiating D twice.

        R = mean over examples of ||grad D(x)||^2

    Of k logits per example it is the mean of theirs, each with respect to maps of its own.

    Args:
        head: D, from maps (n, c, h, w) to logits (n,) or (n, k).
        maps: x; no gradient reaches what they were computed from.
        select: takes the part of the gradients that counts; by default all of them.

    References:
        Mescheder et al. (2018), equation 9.
    """
    maps = tuple(x.detach().requires_grad_() for x in maps)
    gradients = differentiable_gradients(lambda maps: _even(head(maps)), maps)
    parts = gradients if select is None else select(gradients)
    return torch.stack([part.float().square().sum() for part in parts]).sum() / len(maps[0])


class FiniteDifferencePenalty(Section):
    """A gradient penalty on D by finite differences; see `finite_difference_penalty`.

    The loss of D is L + weight / 2 (R1 + R2), where R1 and R2 are those of D without dropout.

    Args:
        weight: of the penalty.
        every: the penalty is computed once in so many steps, and multiplied by that number.
        scale: the length of the difference, in standard deviations of the features of D.
        decay: `cosine` lets the weight fall to 0.3 of itself; see `weight_at`.
    """

    kind: Literal["finite-difference"] = "finite-difference"
    weight: Positive = 0.3
    every: Count = 4
    scale: Positive = 0.03
    decay: Literal["none", "cosine"] = "none"

    def weight_at(self, progress: float) -> float:
        """Returns the weight after a fraction of the budget; see `ExactPenalty.weight_at`."""
        return self.weight if self.decay == "none" else _decay(self.weight, progress)

    def measure(
        self,
        head: LabelledHead,
        maps: Maps,
        label: Tensor | None,
        logits: Tensor | None,
        net: object,
    ) -> Tensor:
        """Computes (R1 + R2) / 2 of real and generated examples, as many of each.

        Args:
            head: D without its dropout.
            maps: what the head sees of the examples.
            label: their classes.
            logits: head(maps, label), if it is known already.
            net: D itself, which is not asked for a selection: all maps count.
        """
        logits = head(maps, label) if logits is None else logits
        perturbed = head(tuple(x + self.scale * torch.randn_like(x) for x in maps), label)
        return finite_difference_penalty(logits, perturbed, self.scale)


class ExactPenalty(Section):
    """A gradient penalty on D by automatic differentiation; see `exact_penalty`.

    The loss of D is L + weight / 2 (R1 + R2), where R1 and R2 are those of D without dropout, on
    the feature maps that D's head sees, or on those that the net selects (`SelectsPenalized`).

    Args:
        weight: of the penalty.
        every: the penalty is computed once in so many steps, and multiplied by that number.
        fraction: of the examples that it is computed on, evenly spread over the minibatch.
        decay: `cosine` lets the weight fall to 0.3 of itself; see `weight_at`.
    """

    kind: Literal["exact"] = "exact"
    weight: Positive = 1.0
    every: Count = 4
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    decay: Literal["none", "cosine"] = "none"

    def weight_at(self, progress: float) -> float:
        """Returns the weight after a fraction p of the budget.

        With `decay = "cosine"` it falls until two thirds of the budget are spent, and then stays:

            weight (0.3 + 0.7 (1 + cos(pi min(1, 3 p / 2))) / 2)
        """
        return self.weight if self.decay == "none" else _decay(self.weight, progress)

    def measure(
        self,
        head: LabelledHead,
        maps: Maps,
        label: Tensor | None,
        logits: Tensor | None,
        net: object,
    ) -> Tensor:
        """Computes (R1 + R2) / 2, with the arguments of `FiniteDifferencePenalty.measure`.

        Known logits are not used: they do not depend on `maps` alone. The net may select the maps
        that count.
        """
        select = net.select_penalized if isinstance(net, SelectsPenalized) else None
        if self.fraction < 1:
            chosen = _spread(len(maps[0]), self.fraction, maps[0].device)
            maps = tuple(x[chosen] for x in maps)
            label = None if label is None else label[chosen]
        return exact_penalty(lambda maps: head(maps, label), maps, select)


def _even(logits: Tensor) -> Tensor:
    """Scales k logits per example, so that a sum of their squared gradients is a mean."""
    return logits / math.sqrt(logits.shape[1]) if logits.dim() > 1 else logits


def _spread(count: int, fraction: float, device: torch.device) -> Tensor:
    """Returns the positions of a fraction of so many examples, one at least, evenly spread."""
    chosen = max(1, round(fraction * count))
    return torch.arange(chosen, device=device) * count // chosen


def _decay(weight: float, progress: float) -> float:
    return weight * (0.3 + 0.7 * (1 + math.cos(math.pi * min(1.0, 1.5 * progress))) / 2)


def _with_kind(value: Any) -> Any:
    """Reads a penalty of earlier versions, which had one kind only and did not name it."""
    return {"kind": "finite-difference", **value} if isinstance(value, dict) else value


Penalty: TypeAlias = FiniteDifferencePenalty | ExactPenalty
AnyPenalty = Annotated[Penalty, Field(discriminator="kind"), BeforeValidator(_with_kind)]
