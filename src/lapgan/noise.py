"""What z_k is: the noise that a generator turns into an image or a residual.

Each kind draws from an explicit `torch.Generator`, so that the same seed gives the same images.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lapgan.pyramid import Size

__all__ = ["VALUE_BITS", "Noise", "NoisePlane", "NoiseVector"]

# torch.rand gives each of the 2^24 multiples of 2^-24 in [0, 1) the same probability, and 2u - 1 is
# exact in float32. Ideal uniform noise would have infinite entropy.
VALUE_BITS = 24.0


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

    def entropy(self, size: Size) -> float:
        """Returns H[z_k] of one image in bits: 24 for each number (see `VALUE_BITS`)."""
        return VALUE_BITS * self.planes * size[0] * size[1]


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

    def entropy(self, size: Size) -> float:
        """Returns H[z_K] of one image in bits: 24 for each number, whatever the size."""
        return VALUE_BITS * self.dimension


Noise = NoisePlane | NoiseVector


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device) * 2 - 1
