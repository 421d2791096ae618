"""The entropies of white noise in the unit of `lapgan entropy`, exactly."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lapgan.pyramid import Operator
from lapgan.sizes import Size

__all__ = ["white_noise_bits"]

# Operators whose d(.) takes means of 2x2 blocks where sizes are halved.
_MEANS = ("block-mean", "area-linear")


def white_noise_bits(sizes: Sequence[Size], operator: Operator) -> list[float] | None:
    """Computes H[I_k | I_{k+1}] of images of independent uniform bytes, in bits per pixel.

        H[I_k | I_{k+1}] = 3 (H[b_k] - H[b_{k+1}] / 4)

    b_{k+1} is the rounded mean of four independent draws of b_k, a value of level k: values of
    neighboring blocks stay independent. The entropy falls towards coarser levels because every
    level is rounded to whole bytes, although averaging halves deviations.

    Args:
        sizes: of every level, finest first.
        operator: the pyramid's d(.), by name.

    Returns:
        one value per level, finest first, the last for H[I_K]; None unless every level consists of
        the means of disjoint 2x2 blocks.
    """
    halved = all(tuple(fine) == (2 * coarse[0], 2 * coarse[1]) for fine, coarse in pairwise(sizes))
    if operator not in _MEANS or not halved:
        return None
    values = [np.full(256, 1 / 256)]
    for _ in sizes[1:]:
        values.append(_average_four(values[-1]))
    entropies = [_measure_entropy(p) for p in values]
    conditional = [fine - coarse / 4 for fine, coarse in pairwise(entropies)]
    return [3 * bits for bits in [*conditional, entropies[-1]]]


def _average_four(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the distribution of the rounded mean of four independent bytes."""
    pairs = np.convolve(p, p)
    sums = np.convolve(pairs, pairs)
    means = np.zeros(256)
    np.add.at(means, (np.arange(len(sums)) + 2) // 4, sums)
    return means


def _measure_entropy(p: NDArray[np.float64]) -> float:
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())
