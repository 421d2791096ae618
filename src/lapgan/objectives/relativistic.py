"""The relativistic objective: real and generated examples are compared in pairs.

References:
    Jolicoeur-Martineau (2019) for the pairs; Huang et al. (2024), R3GAN, for their use with
    gradient penalties on both sides.
"""

from typing import ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lapgan.section import Section

__all__ = ["OBJECTIVES", "Relativistic", "relativistic_loss"]


def relativistic_loss(*, higher: Float[Tensor, "n ..."], lower: Float[Tensor, "n ..."]) -> Tensor:
    """Computes the loss of a net that shall raise one logit above the other, pair by pair.

        L = -mean log sigmoid(a_higher - a_lower)

    References:
        Jolicoeur-Martineau (2019), section 4.2; Huang et al. (2024), equation 2.
    """
    return F.softplus(lower - higher).mean()


class Relativistic(Section):
    """D shall rate the real example of each pair higher, G the generated one."""

    kind: Literal["relativistic"] = "relativistic"
    examples: ClassVar[Literal["halves", "pairs"]] = "pairs"

    def discriminator_loss(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Computes `relativistic_loss` with the real examples higher."""
        return relativistic_loss(higher=real, lower=fake)

    def generator_loss(self, *, real: Tensor, fake: Tensor) -> Tensor:
        """Computes `relativistic_loss` with the generated examples higher."""
        return relativistic_loss(higher=fake, lower=real)


OBJECTIVES = (Relativistic,)
