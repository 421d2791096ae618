"""The objectives of Goodfellow et al. (2014) and Denton et al. (2015).

A discriminator returns logits a with D = sigmoid(a), so -log D = softplus(-a) and
-log(1 - D) = softplus(a), which neither overflow nor lose precision.
"""

from typing import ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lapgan.section import Section

__all__ = [
    "OBJECTIVES",
    "Minimax",
    "NonSaturating",
    "cross_entropy",
    "minimax_generator_loss",
    "nonsaturating_generator_loss",
]


def cross_entropy(*, real: Float[Tensor, "n ..."], fake: Float[Tensor, "m ..."]) -> Tensor:
    """Computes the binary cross-entropy of a minibatch of real and generated examples.

        L_D = -(sum_real log D + sum_fake log(1 - D)) / (n + m)

    Args:
        real: logits of real examples.
        fake: logits of generated examples.

    References:
        Denton et al. (2015), equation 2; Goodfellow et al. (2014), algorithm 1. The mean runs over
        the whole minibatch, as in the authors' code, so a D that is always undecided has the loss
        log 2.
    """
    return (F.softplus(-real).sum() + F.softplus(fake).sum()) / (len(real) + len(fake))


def nonsaturating_generator_loss(fake: Float[Tensor, "m ..."]) -> Tensor:
    """Computes L_G = -mean log D(G(z)), which has gradients even where D is certain.

    References:
        Goodfellow et al. (2014), section 3: "we can train G to maximize log D(G(z))".
    """
    return F.softplus(-fake).mean()


def minimax_generator_loss(fake: Float[Tensor, "m ..."]) -> Tensor:
    """Computes L_G = mean log(1 - D(G(z))), the objective as written in the papers.

    References:
        Denton et al. (2015), equation 2.
    """
    return -F.softplus(fake).mean()


class NonSaturating(Section):
    """What the paper ran: cross-entropy for D, -log D(G(z)) for G."""

    kind: Literal["non-saturating"] = "non-saturating"
    examples: ClassVar[Literal["halves", "pairs"]] = "halves"

    def discriminator_loss(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Computes `cross_entropy`."""
        return cross_entropy(real=real, fake=fake)

    def generator_loss(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Computes `nonsaturating_generator_loss`."""
        return nonsaturating_generator_loss(fake)


class Minimax(Section):
    """What the paper writes: cross-entropy for D, log(1 - D(G(z))) for G."""

    kind: Literal["minimax"] = "minimax"
    examples: ClassVar[Literal["halves", "pairs"]] = "halves"

    def discriminator_loss(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Computes `cross_entropy`."""
        return cross_entropy(real=real, fake=fake)

    def generator_loss(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Computes `minimax_generator_loss`."""
        return minimax_generator_loss(fake)


OBJECTIVES = (NonSaturating, Minimax)
