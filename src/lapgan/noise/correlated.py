"""Dependent values: planes of any size, filled from fewer values than they have pixels."""

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lapgan.noise.plain import VALUE_BITS, VARIANCE, Distribution, draw
from lapgan.section import Count, Fraction, Positive, Section
from lapgan.sizes import Size

__all__ = ["HashedNoise", "LowRankNoise", "SublinearNoise"]

_CPU = torch.device("cpu")

Factor = Literal["fixed", "learned"]


class HashedNoise(Section):
    """Planes in which each pixel takes one of a few values, with a sign.

        z_p = s(p) v_{h(p)},    v in R^dimension

    h spreads the values evenly, s is +1 or -1; both follow from the size alone, so that every image
    has the same ones. Pixels that share a value are wholly dependent, all others independent.

    Args:
        dimension: how many values; those beyond the number of pixels are not used.
        planes: how many planes they fill.
        distribution: of v, `uniform` in [-1, 1] or standard `normal`.

    References:
        Weinberger et al. (2009), for the hashing trick.
    """

    kind: Literal["hashed"] = "hashed"
    dimension: Count = 100
    planes: Count = 1
    distribution: Distribution = "uniform"

    @property
    def variance(self) -> float:
        """The variance of each value."""
        return VARIANCE[self.distribution]

    def sample(self, batch: int, size: Size, generator: torch.Generator) -> Tensor:
        """Draws z with shape (batch, planes, *size)."""
        v = draw((batch, self.dimension), self.distribution, generator)
        place, sign = _hash(self.planes * math.prod(size), self.dimension, v.device)
        return (v[:, place] * sign).view(batch, self.planes, *size)

    def entropy(self, size: Size) -> float:
        """Returns H[z_k] of one image in bits: 24 per value that is used."""
        return VALUE_BITS * self.covariance_rank(size)

    def covariance_rank(self, size: Size) -> int:
        """Returns the rank of Cov[z]: the number of values that are used."""
        return min(self.dimension, self.planes * math.prod(size))

    def effective_dimension(self, size: Size) -> float:
        """Returns (tr C)^2 / tr C^2 of C = Cov[z]: P^2 / sum_j n_j^2, n_j pixels show value j."""
        pixels = self.planes * math.prod(size)
        groups = torch.bincount(_hash(pixels, self.dimension, _CPU)[0]).double()
        return pixels**2 / groups.square().sum().item()

    def values_of(self, z: Tensor) -> Tensor:
        """Returns the independent values (batch, rank) of which z was made: v."""
        z = z.flatten(1)
        place, sign = _hash(z.shape[1], self.dimension, z.device)
        # Each value at the last pixel that shows it.
        pixel = torch.empty(int(place.max()) + 1, dtype=torch.int64)
        pixel[place] = torch.arange(z.shape[1])
        return z[:, pixel] * sign[pixel]


class LowRankNoise(Section):
    """Planes of correlated noise, whose covariance has a low rank.

        z = A v,    v in R^r,    Cov[z] = Var(v) A A^T

    A has random rows of length 1, the same for every image, so that each pixel has the variance of
    one value and every two pixels are correlated by about r^(-1/2), more or less.

    Args:
        rank: r; at most as many as the planes have pixels.
        planes: how many planes they fill.
        distribution: of v, `uniform` in [-1, 1] or standard `normal`.
        factor: `fixed`, or `learned`: A belongs to the weights of G and starts as the fixed one. z
            is then v, and so are the covariance and its rank.
    """

    kind: Literal["low-rank"] = "low-rank"
    rank: Count = 100
    planes: Count = 1
    distribution: Distribution = "uniform"
    factor: Factor = "fixed"

    @property
    def variance(self) -> float:
        """The variance of each value."""
        return VARIANCE[self.distribution]

    def sample(self, batch: int, size: Size, generator: torch.Generator) -> Tensor:
        """Draws z with shape (batch, planes, *size), or v (batch, rank) if A is learned."""
        rank = self.covariance_rank(size)
        v = draw((batch, rank), self.distribution, generator)
        if self.factor == "learned":
            return v
        z: Tensor = v @ _rows(self.planes * math.prod(size), rank, v.device).T
        return z.view(batch, self.planes, *size)

    def entropy(self, size: Size) -> float:
        """Returns H[z_k] of one image in bits: 24 per value, since A is injective."""
        return VALUE_BITS * self.covariance_rank(size)

    def covariance_rank(self, size: Size) -> int:
        """Returns the rank of Cov[z]: the number of values."""
        return min(self.rank, self.planes * math.prod(size))

    def effective_dimension(self, size: Size) -> float:
        """Returns (tr C)^2 / tr C^2 of C = Cov[z]: P^2 / |A^T A|^2 of P pixels."""
        rank, pixels = self.covariance_rank(size), self.planes * math.prod(size)
        if self.factor == "learned":
            return float(rank)
        rows = _rows(pixels, rank, _CPU).double()
        return pixels**2 / (rows.T @ rows).square().sum().item()

    def values_of(self, z: Tensor) -> Tensor:
        """Returns the independent values (batch, rank) of which z was made: v = A^+ z."""
        if self.factor == "learned":
            return z
        z = z.flatten(1)
        rank = min(self.rank, z.shape[1])
        inverse: Tensor = torch.linalg.pinv(_rows(z.shape[1], rank, z.device).double())
        return (z.double() @ inverse.T).to(z)


class SublinearNoise(Section):
    """Planes of correlated noise, whose rank grows as a power of the number of pixels.

        z = A v,    v in R^r,    r = round(coefficient (h w)^exponent)

    A is that of `LowRankNoise`. With an exponent below 1 the entropy per pixel falls from level to
    level, as that of natural images does; 0 is constant entropy, and 1 with a coefficient of 1 has
    as many values as one plane.

    Args:
        exponent: from 0 to 1.
        coefficient: the number of values of an image of one pixel.
        planes: how many planes the values fill; r is at most the number of their pixels.
        distribution: as in `LowRankNoise`.
        factor: the same.

    References:
        Huszár (2015), inference.vc, who asks for noise of sublinear entropy.
    """

    kind: Literal["sublinear"] = "sublinear"
    exponent: Fraction = 0.5
    coefficient: Positive = 8.0
    planes: Count = 1
    distribution: Distribution = "uniform"
    factor: Factor = "fixed"

    @property
    def variance(self) -> float:
        """The variance of each value."""
        return VARIANCE[self.distribution]

    def sample(self, batch: int, size: Size, generator: torch.Generator) -> Tensor:
        """Draws z as `LowRankNoise.sample` does."""
        return self._at(size).sample(batch, size, generator)

    def entropy(self, size: Size) -> float:
        """Returns H[z_k] of one image in bits: 24 per value."""
        return self._at(size).entropy(size)

    def covariance_rank(self, size: Size) -> int:
        """Returns the rank of Cov[z]: r, or the number of pixels if that is smaller."""
        return self._at(size).covariance_rank(size)

    def effective_dimension(self, size: Size) -> float:
        """Returns (tr C)^2 / tr C^2 of C = Cov[z]; see `LowRankNoise.effective_dimension`."""
        return self._at(size).effective_dimension(size)

    def values_of(self, z: Tensor) -> Tensor:
        """Returns the independent values (batch, rank) of which z was made."""
        return z if self.factor == "learned" else self._at((z.shape[-2], z.shape[-1])).values_of(z)

    def _at(self, size: Size) -> LowRankNoise:
        rank = max(1, round(self.coefficient * math.pow(math.prod(size), self.exponent)))
        return LowRankNoise(
            rank=rank, planes=self.planes, distribution=self.distribution, factor=self.factor
        )


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
