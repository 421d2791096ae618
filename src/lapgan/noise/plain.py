"""Independent values: as planes, as a vector, or both."""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lapgan.section import Count, Section
from lapgan.sizes import Size

__all__ = [
    "VALUE_BITS",
    "VARIANCE",
    "Distribution",
    "MixedNoise",
    "PlaneNoise",
    "VectorNoise",
    "draw",
    "draw_normal",
]

# torch.rand gives each of the 2^24 multiples of 2^-24 in [0, 1) the same probability, and 2u - 1 is
# exact in float32. Ideal uniform noise would have infinite entropy.
VALUE_BITS = 24.0
VARIANCE = {"uniform": 1 / 3, "normal": 1.0}

Distribution = Literal["uniform", "normal"]


class PlaneNoise(Section):
    """Independent noise as planes of the level's size: z_k of the conditional levels.

    Its dimension, and so its entropy, grows with the number of pixels.

    Args:
        planes: how many planes.
        distribution: `uniform` in [-1, 1], as published, or standard `normal`.

    References:
        Denton et al. (2015), section 4: "a 4th color plane to low-pass l_k".
    """

    kind: Literal["plane"] = "plane"
    planes: Count = 1
    distribution: Distribution = "uniform"

    @property
    def variance(self) -> float:
        """The variance of each value."""
        return VARIANCE[self.distribution]

    def sample(self, batch: int, size: Size, generator: torch.Generator) -> Tensor:
        """Draws z with shape (batch, planes, *size)."""
        return draw((batch, self.planes, *size), self.distribution, generator)

    def entropy(self, size: Size) -> float:
        """Returns H[z_k] of one image in bits: 24 per value (see `VALUE_BITS`)."""
        return VALUE_BITS * self.covariance_rank(size)

    def covariance_rank(self, size: Size) -> int:
        """Returns the rank of Cov[z]: the number of values."""
        return self.planes * math.prod(size)

    def effective_dimension(self, size: Size) -> float:
        """Returns (tr C)^2 / tr C^2 of C = Cov[z]: the number of values."""
        return float(self.covariance_rank(size))

    def values_of(self, z: Tensor) -> Tensor:
        """Returns the independent values (batch, rank) of which z was made."""
        return z.flatten(1)


class VectorNoise(Section):
    """Noise as a vector, whatever the size: z_K of the coarsest level.

    At the other levels it is noise of constant entropy. Nets of planes turn it into one by a matrix
    that they learn (`lapgan.models.noise_planes`).

    Args:
        dimension: the length of the vector.
        distribution: `uniform` in [-1, 1], or standard `normal`.

    References:
        Denton et al. (2015), section 4.1: "z_K is a 100-d vector".
    """

    kind: Literal["vector"] = "vector"
    dimension: Count = 100
    distribution: Distribution = "uniform"

    @property
    def variance(self) -> float:
        """The variance of each value."""
        return VARIANCE[self.distribution]

    def sample(self, batch: int, size: Size, generator: torch.Generator) -> Tensor:
        """Draws z with shape (batch, dimension)."""
        return draw((batch, self.dimension), self.distribution, generator)

    def entropy(self, size: Size) -> float:
        """Returns H[z_K] of one image in bits: 24 per value, whatever the size."""
        return VALUE_BITS * self.dimension

    def covariance_rank(self, size: Size) -> int:
        """Returns the rank of Cov[z], whatever the size."""
        return self.dimension

    def effective_dimension(self, size: Size) -> float:
        """Returns (tr C)^2 / tr C^2 of C = Cov[z], whatever the size."""
        return float(self.dimension)

    def values_of(self, z: Tensor) -> Tensor:
        """Returns z."""
        return z


class MixedNoise(Section):
    """Standard normal noise as a vector and as planes of the level's size, in one tensor.

    The planes place detail, the vector changes the whole image.

    Args:
        dimension: the length of the vector.
        planes: how many planes.
    """

    kind: Literal["mixed"] = "mixed"
    dimension: Count = 64
    planes: Count = 4
    variance: ClassVar[float] = 1.0

    def sample(self, batch: int, size: Size, generator: torch.Generator) -> Tensor:
        """Draws z with shape (batch, dimension + planes h w): the vector, then the planes."""
        return draw_normal((batch, self.covariance_rank(size)), generator)

    def entropy(self, size: Size) -> float:
        """Returns an upper bound of H[z_k] of one image in bits: 24 per value."""
        return VALUE_BITS * self.covariance_rank(size)

    def covariance_rank(self, size: Size) -> int:
        """Returns the rank of Cov[z]: the number of values."""
        return self.dimension + self.planes * math.prod(size)

    def effective_dimension(self, size: Size) -> float:
        """Returns (tr C)^2 / tr C^2 of C = Cov[z]: the number of values."""
        return float(self.covariance_rank(size))

    def values_of(self, z: Tensor) -> Tensor:
        """Returns z."""
        return z


def draw(shape: tuple[int, ...], distribution: Distribution, generator: torch.Generator) -> Tensor:
    """Draws independent values of a distribution from a generator, on its device."""
    if distribution == "normal":
        return draw_normal(shape, generator)
    return torch.rand(shape, generator=generator, device=generator.device) * 2 - 1


def draw_normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draws standard normal values from a generator, on its device."""
    return torch.randn(shape, generator=generator, device=generator.device)
