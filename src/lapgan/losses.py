"""The adversarial objectives, as functions of logits.

A discriminator returns logits a with D = sigmoid(a), so -log D = softplus(-a) and
-log(1 - D) = softplus(a), which neither overflow nor lose precision.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = [
    "discriminator_loss",
    "finite_difference_penalty",
    "minimax_generator_loss",
    "nonsaturating_generator_loss",
    "relativistic_loss",
]


def discriminator_loss(*, real: Float[Tensor, " n"], fake: Float[Tensor, " m"]) -> Tensor:
    """Computes the binary cross-entropy of a minibatch of real and generated examples.

        L_D = -(sum_real log D + sum_fake log(1 - D)) / (n + m)

    Args:
        real: logits of real examples.
        fake: logits of generated examples.

    Source: Denton et al. (2015), equation 2; Goodfellow et al. (2014), algorithm 1. The mean runs
    over the whole minibatch, as in the authors' code, so a blind D has the loss log 2.
    """
    return (F.softplus(-real).sum() + F.softplus(fake).sum()) / (len(real) + len(fake))


def nonsaturating_generator_loss(fake: Float[Tensor, " m"]) -> Tensor:
    """Computes L_G = -mean log D(G(z)), which has gradients while D still wins.

    Source: Goodfellow et al. (2014), section 3: "we can train G to maximize log D(G(z))".
    """
    return F.softplus(-fake).mean()


def minimax_generator_loss(fake: Float[Tensor, " m"]) -> Tensor:
    """Computes L_G = mean log(1 - D(G(z))), the objective as written in the papers.

    Source: Denton et al. (2015), equation 2.
    """
    return -F.softplus(fake).mean()


def relativistic_loss(*, winner: Float[Tensor, "n ..."], loser: Float[Tensor, "n ..."]) -> Tensor:
    """Computes the loss of a player who wants one logit above the other, pair by pair.

        L = -mean log sigmoid(a_winner - a_loser)

    D plays with the real examples as winners, G with the generated ones.

    Source: Jolicoeur-Martineau (2019), section 4.2; Huang et al. (2024), equation 2.
    """
    return F.softplus(loser - winner).mean()


def finite_difference_penalty(
    logits: Float[Tensor, "n ..."], disturbed: Float[Tensor, "n ..."], scale: float
) -> Tensor:
    """Computes a gradient penalty from logits alone, with no second derivative.

        R = mean (D(x + scale e) - D(x))^2 / scale^2 -> mean ||grad D(x)||^2  for scale -> 0

    in expectation over e ~ N(0, 1). On real examples it stands for R1, on generated ones for R2.

    Args:
        logits: D(x).
        disturbed: D(x + scale e).
        scale: the length of the step.

    Source: Mescheder et al. (2018), equation 9, for R1; Lin et al. (2025), section 3.3, for the
    approximation by a disturbed example.
    """
    return ((disturbed - logits) / scale).square().mean()
