"""What z_k is: the noise that a generator turns into an image or a residual.

Each kind draws from an explicit `torch.Generator`, so that the same seed gives the same images.

Planes have as much entropy for each pixel of every level. `HashedNoise` and `LowRankNoise` fill
planes of any size from a given number of values: the same number at every level is noise of
constant entropy, one that grows less than the pixels is noise of sublinear growth. Both were asked
for in Huszár's comment on the paper (inference.vc, 2015).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lapgan.sizes import Size

__all__ = [
    "VALUE_BITS",
    "HashedNoise",
    "LowRankNoise",
    "Noise",
    "NoisePlane",
    "NoiseVector",
]

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


@dataclass(frozen=True)
class HashedNoise:
    """Planes in which each pixel shows one of a few values, with a sign.

        z_p = s(p) v_{h(p)},    v uniform in [-1, 1]^dimension

    h spreads the values evenly, s is +1 or -1; both follow from the size alone, so that every image
    has the same ones. Pixels that share a value are wholly dependent, all others independent.

    Source: the hashing trick, Weinberger et al. (2009).

    Args:
        dimension: how many values; those beyond the number of pixels are not used.
        planes: how many planes they are spread over.
    """

    dimension: int = 100
    planes: int = 1

    def sample(self, batch: int, size: Size, generator: torch.Generator) -> Tensor:
        """Draws z with shape (batch, planes, *size)."""
        v = _uniform((batch, self.dimension), generator)
        place, sign = _hash(self.planes * math.prod(size), self.dimension)
        return (v[:, place.to(v.device)] * sign.to(v.device)).view(batch, self.planes, *size)

    def entropy(self, size: Size) -> float:
        """Returns H[z_k] of one image in bits: 24 for each value that is used."""
        return VALUE_BITS * min(self.dimension, self.planes * math.prod(size))


@dataclass(frozen=True)
class LowRankNoise:
    """Planes of correlated noise, whose covariance has a low rank.

        z = A v,    v uniform in [-1, 1]^rank,    Cov[z] = A A^T / 3

    A has random rows of length 1, the same for every image, so that each pixel has the variance of
    uniform noise and every two pixels are correlated by about rank^(-1/2), more or less.

    Args:
        rank: how many values; no more than the planes have pixels.
        planes: how many planes they fill.
    """

    rank: int = 100
    planes: int = 1

    def sample(self, batch: int, size: Size, generator: torch.Generator) -> Tensor:
        """Draws z with shape (batch, planes, *size)."""
        pixels = self.planes * math.prod(size)
        v = _uniform((batch, min(self.rank, pixels)), generator)
        z: Tensor = v @ _rows(pixels, min(self.rank, pixels)).to(v.device).T
        return z.view(batch, self.planes, *size)

    def entropy(self, size: Size) -> float:
        """Returns H[z_k] of one image in bits: 24 for each value, since A is injective."""
        return VALUE_BITS * min(self.rank, self.planes * math.prod(size))


Noise = NoisePlane | HashedNoise | LowRankNoise | NoiseVector


@lru_cache(maxsize=32)
def _hash(pixels: int, dimension: int) -> tuple[Tensor, Tensor]:
    """Returns h(p) and s(p) for all pixels; each value is at equally many, give or take one."""
    random = np.random.default_rng((pixels, dimension))
    place = random.permutation(np.arange(pixels) % dimension)
    sign = random.choice(np.array([-1.0, 1.0], dtype=np.float32), pixels)
    return torch.from_numpy(place), torch.from_numpy(sign)


@lru_cache(maxsize=32)
def _rows(pixels: int, rank: int) -> Tensor:
    """Returns A: (pixels, rank), float32, rows of length 1."""
    rows = np.random.default_rng((pixels, rank, 1)).standard_normal((pixels, rank))
    return torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True)).float()


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device) * 2 - 1
