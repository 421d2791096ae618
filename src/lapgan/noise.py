"""What z_k is: the noise that a generator turns into an image or a residual.

Each kind draws from an explicit `torch.Generator`, so that the same seed gives the same images.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lapgan.pyramid import Size

__all__ = ["Noise", "NoisePlane", "NoiseVector"]


@dataclass(frozen=True)
class NoisePlane:
    """Uniform noise in [-1, 1] as planes of the level's size: z_k of the conditional levels.

    Its dimension, and so its entropy, grows with the number of pixels.

    Source: Denton et al. (2015), section 4: "a 4th color plane to low-pass l_k".

    Args:
        planes: how many planes.
    """

    planes: int = 1

    def sample(self, batch: int, size: Size, generator: torch.Generator) -> Tensor:
        """Draws z with shape (batch, planes, *size)."""
        return _uniform((batch, self.planes, *size), generator)


@dataclass(frozen=True)
class NoiseVector:
    """Uniform noise in [-1, 1] as a vector, whatever the size: z_K of the coarsest level.

    Source: Denton et al. (2015), section 4.1: "z_K is a 100-d vector".

    Args:
        dimension: the length of the vector.
    """

    dimension: int = 100

    def sample(self, batch: int, size: Size, generator: torch.Generator) -> Tensor:
        """Draws z with shape (batch, dimension)."""
        return _uniform((batch, self.dimension), generator)


Noise = NoisePlane | NoiseVector


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device) * 2 - 1
