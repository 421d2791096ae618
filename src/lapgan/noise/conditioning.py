"""Noise on the image that a level is conditioned on."""

import torch
from jaxtyping import Float
from torch import Tensor

from lapgan.noise.plain import draw_normal
from lapgan.section import NotNegative, Positive, Section
from lapgan.sizes import Size

__all__ = ["ConditioningNoise"]


class ConditioningNoise(Section):
    """Normal noise on the image that a level is conditioned on.

        l_k = u(I_{k+1} + sigma e),    e standard normal

    In training sigma is uniform in [0, max], and in sampling it is `sample`; G is given sigma. It
    hides the errors of the coarser level, which a level in training never sees.

    Args:
        max: in the scale of the nets, in which images lie in [-1, 1].
        sample: the same.

    References:
        Ho et al. (2022), "Cascaded diffusion models for high fidelity image generation", section 4.
    """

    max: Positive = 0.12
    sample: NotNegative = 0.04

    def draw(
        self, batch: int, size: Size, generator: torch.Generator
    ) -> tuple[Float[Tensor, "b 1"], Float[Tensor, "b 3 h w"]]:
        """Draws sigma and sigma e for training, e of the coarser level's size."""
        sigma = self.max * torch.rand((batch, 1), generator=generator, device=generator.device)
        return sigma, sigma[..., None, None] * draw_normal((batch, 3, *size), generator)
