"""The hinge objective.

References:
    Lim and Ye (2017), "Geometric GAN"; Miyato et al. (2018), "Spectral normalization for generative
    adversarial networks", equations 16 and 17.
"""

from typing import ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lapgan.section import Section

__all__ = ["OBJECTIVES", "Hinge", "hinge_loss"]


def hinge_loss(*, real: Float[Tensor, "n ..."], fake: Float[Tensor, "m ..."]) -> Tensor:
    """Computes the hinge loss of D, which ends where all logits are beyond a margin of 1.

        L_D = mean max(0, 1 - a_real) + mean max(0, 1 + a_fake)

    Args:
        real: logits of real examples.
        fake: logits of generated examples.
    """
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


class Hinge(Section):
    """D separates real from generated examples by a margin; G raises its logits."""

    kind: Literal["hinge"] = "hinge"
    examples: ClassVar[Literal["halves", "pairs"]] = "pairs"

    def discriminator_loss(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Computes `hinge_loss`."""
        return hinge_loss(real=real, fake=fake)

    def generator_loss(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Computes L_G = -mean a_fake."""
        return -fake.mean()


OBJECTIVES = (Hinge,)
