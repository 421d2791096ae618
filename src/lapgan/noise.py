"""The noise z_k that a generator turns into an image or a residual.

Each kind draws from an explicit `torch.Generator`, so that the same seed gives the same images. A
kind is also the section of a recipe that asks for it: `noise = { kind = "plane", planes = 3 }`.

The entropy of `PlaneNoise` is the same for each pixel at every level. `HashedNoise` and
`LowRankNoise` fill planes of any size from a given number of values: the same number at every level
is noise of constant entropy, one that grows less than the pixels is noise of sublinear growth.
Huszár's comment on the paper asks for both (inference.vc, 2015).
"""

import math
from functools import lru_cache
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lapgan.section import Count, Fraction, NotNegative, Positive, Section
from lapgan.sizes import Size

__all__ = [
    "PLANE_NOISES",
    "VALUE_BITS",
    "AnyNoise",
    "AnyPlaneNoise",
    "ConditioningNoise",
    "HashedNoise",
    "LowRankNoise",
    "MixedNoise",
    "PlaneNoise",
    "SublinearNoise",
    "VectorNoise",
    "draw_normal",
]

# torch.rand gives each of the 2^24 multiples of 2^-24 in [0, 1) the same probability, and 2u - 1 is
# exact in float32. Ideal uniform noise would have infinite entropy.
VALUE_BITS = 24.0
_UNIFORM_VARIANCE = 1 / 3


class PlaneNoise(Section):
    """Uniform noise in [-1, 1] as planes of the level's size: z_k of the conditional levels.

    Its dimension, and so its entropy, grows with the number of pixels.

    Args:
        planes: how many planes.

    References:
        Denton et al. (2015), section 4: "a 4th color plane to low-pass l_k".
    """

    kind: Literal["plane"] = "plane"
    planes: Count = 1
    variance: ClassVar[float] = _UNIFORM_VARIANCE

    def sample(self, batch: int, size: Size, generator: torch.Generator) -> Tensor:
        """Draws z with shape (batch, planes, *size)."""
        return _uniform((batch, self.planes, *size), generator)

    def entropy(self, size: Size) -> float:
        """Returns H[z_k] of one image in bits: 24 per value (see `VALUE_BITS`)."""
        return VALUE_BITS * self.planes * size[0] * size[1]


class VectorNoise(Section):
    """Noise as a vector, whatever the size: z_K of the coarsest level.

    Args:
        dimension: the length of the vector.
        distribution: `uniform` in [-1, 1], or standard `normal`.

    References:
        Denton et al. (2015), section 4.1: "z_K is a 100-d vector".
    """

    kind: Literal["vector"] = "vector"
    dimension: Count = 100
    distribution: Literal["uniform", "normal"] = "uniform"

    @property
    def variance(self) -> float:
        """The variance of each value."""
        return 1.0 if self.distribution == "normal" else _UNIFORM_VARIANCE

    def sample(self, batch: int, size: Size, generator: torch.Generator) -> Tensor:
        """Draws z with shape (batch, dimension)."""
        draw = draw_normal if self.distribution == "normal" else _uniform
        return draw((batch, self.dimension), generator)

    def entropy(self, size: Size) -> float:
        """Returns H[z_K] of one image in bits: 24 per value, whatever the size.

        Of normal noise this is an upper bound; see `MixedNoise.entropy`.
        """
        return VALUE_BITS * self.dimension


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
        return draw_normal((batch, self.dimension + self.planes * math.prod(size)), generator)

    def entropy(self, size: Size) -> float:
        """Returns an upper bound of H[z_k] of one image in bits: 24 per value.

        `torch.randn` turns every two uniform values of 24 bits into two normal ones, by the
        transform of Box and Muller (1958); rounding can only lose some.
        """
        return VALUE_BITS * (self.dimension + self.planes * math.prod(size))


class HashedNoise(Section):
    """Planes in which each pixel takes one of a few values, with a sign.

        z_p = s(p) v_{h(p)},    v uniform in [-1, 1]^dimension

    h spreads the values evenly, s is +1 or -1; both follow from the size alone, so that every image
    has the same ones. Pixels that share a value are wholly dependent, all others independent.

    Args:
        dimension: how many values; those beyond the number of pixels are not used.
        planes: how many planes they fill.

    References:
        Weinberger et al. (2009), for the hashing trick.
    """

    kind: Literal["hashed"] = "hashed"
    dimension: Count = 100
    planes: Count = 1
    variance: ClassVar[float] = _UNIFORM_VARIANCE

    def sample(self, batch: int, size: Size, generator: torch.Generator) -> Tensor:
        """Draws z with shape (batch, planes, *size)."""
        v = _uniform((batch, self.dimension), generator)
        place, sign = _hash(self.planes * math.prod(size), self.dimension, v.device)
        return (v[:, place] * sign).view(batch, self.planes, *size)

    def entropy(self, size: Size) -> float:
        """Returns H[z_k] of one image in bits: 24 per value that is used."""
        return VALUE_BITS * min(self.dimension, self.planes * math.prod(size))


class LowRankNoise(Section):
    """Planes of correlated noise, whose covariance has a low rank.

        z = A v,    v uniform in [-1, 1]^rank,    Cov[z] = A A^T / 3

    A has random rows of length 1, the same for every image, so that each pixel has the variance of
    uniform noise and every two pixels are correlated by about rank^(-1/2), more or less.

    Args:
        rank: how many values; at most as many as the planes have pixels.
        planes: how many planes they fill.
    """

    kind: Literal["low-rank"] = "low-rank"
    rank: Count = 100
    planes: Count = 1
    variance: ClassVar[float] = _UNIFORM_VARIANCE

    def sample(self, batch: int, size: Size, generator: torch.Generator) -> Tensor:
        """Draws z with shape (batch, planes, *size)."""
        pixels = self.planes * math.prod(size)
        v = _uniform((batch, min(self.rank, pixels)), generator)
        z: Tensor = v @ _rows(pixels, min(self.rank, pixels), v.device).T
        return z.view(batch, self.planes, *size)

    def entropy(self, size: Size) -> float:
        """Returns H[z_k] of one image in bits: 24 per value, since A is injective."""
        return VALUE_BITS * min(self.rank, self.planes * math.prod(size))


class SublinearNoise(Section):
    """Planes of correlated noise, whose rank grows as a power of the number of pixels.

        z = A v,    v uniform in [-1, 1]^r,    r = round(coefficient (h w)^exponent)

    A is that of `LowRankNoise`. With an exponent below 1 the entropy per pixel falls from level to
    level, as that of natural images does; 0 is constant entropy, and 1 with a coefficient of 1 has
    as many values as one plane.

    Args:
        exponent: from 0 to 1.
        coefficient: the number of values of an image of one pixel.
        planes: how many planes the values fill; r is at most the number of their pixels.

    References:
        Huszár (2015), inference.vc, who asks for noise of sublinear entropy.
    """

    kind: Literal["sublinear"] = "sublinear"
    exponent: Fraction = 0.5
    coefficient: Positive = 8.0
    planes: Count = 1
    variance: ClassVar[float] = _UNIFORM_VARIANCE

    def sample(self, batch: int, size: Size, generator: torch.Generator) -> Tensor:
        """Draws z with shape (batch, planes, *size)."""
        return self._of_rank(size).sample(batch, size, generator)

    def entropy(self, size: Size) -> float:
        """Returns H[z_k] of one image in bits: 24 per value."""
        return self._of_rank(size).entropy(size)

    def rank(self, size: Size) -> int:
        """Returns r, the number of independent values."""
        return max(1, round(self.coefficient * math.pow(math.prod(size), self.exponent)))

    def _of_rank(self, size: Size) -> LowRankNoise:
        return LowRankNoise(rank=self.rank(size), planes=self.planes)


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


# Noise of a level's own size, for generators that see maps; all have `planes`.
AnyPlaneNoise = PlaneNoise | HashedNoise | LowRankNoise | SublinearNoise
AnyNoise = AnyPlaneNoise | VectorNoise | MixedNoise
PLANE_NOISES: tuple[type[AnyNoise], ...] = get_args(AnyPlaneNoise)


@lru_cache(maxsize=32)
def _hash(pixels: int, dimension: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns h(p) and s(p) for all pixels; each value has equally many, give or take one."""
    random = np.random.default_rng((pixels, dimension))
    place = random.permutation(np.arange(pixels) % dimension)
    sign = random.choice(np.array([-1.0, 1.0], dtype=np.float32), pixels)
    return torch.from_numpy(place).to(device), torch.from_numpy(sign).to(device)


@lru_cache(maxsize=32)
def _rows(pixels: int, rank: int, device: torch.device) -> Tensor:
    """Returns A: (pixels, rank), float32, rows of length 1."""
    rows = np.random.default_rng((pixels, rank, 1)).standard_normal((pixels, rank))
    unit = torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True)).float()
    return unit.to(device)


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device) * 2 - 1


def draw_normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draws standard normal values from a generator, on its device."""
    return torch.randn(shape, generator=generator, device=generator.device)
