"""Measures how each level of a cascade depends on the level below.

Per level, each with a known value at one end of its range:

    fidelity      rms(d(I~_k) - I~_{k+1}), own pairs against shuffled ones
    diversity     E Var(h~_k | l_k) / Var(h~_k), the fraction of the residual's variance from noise
    image         a critic's lower bound of the information between l_k and I_k: 0 if l_k is ignored
    detail        the same between l_k and the part of I_k that no low-pass image can show: 0 if
                  that detail might as well be a stranger's

Both bounds are of whole images and of patches of 8x8 pixels, where they do not saturate. The same
is measured for real images: their fidelity is 0 by construction, their information is what a
perfect model would have.

References:
    The questions are those of Huszár's comment (inference.vc, 2015) on the model of Denton et al.
    (2015).
"""

from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from lapgan.cascade import Cascade
from lapgan.cascade.blocks import BLOCK
from lapgan.errors import LapganError
from lapgan.evaluation.metrics.dependence.diversity import Diversity, measure_diversity
from lapgan.evaluation.metrics.dependence.pairs import (
    cycle_blocks,
    generate_pairs,
    make_generator,
    round_down,
    spawn_seeds,
    split_real,
    track_blocks,
)
from lapgan.evaluation.metrics.dependence.ties import CANDIDATES, Tie, measure_ties
from lapgan.sizes import Size

__all__ = ["LevelDependence", "check_counts", "measure_dependence"]


@dataclass(frozen=True)
class LevelDependence:
    """What ties one level of a cascade to the level below, and the same for real images.

    Args:
        size: height and width of the level, in pixels.
        seed: of all that is random.
        generated: of the cascade's own images.
        real: of the given images.
        diversity: of the residuals given one low-pass image.
    """

    size: Size
    seed: int
    generated: Tie
    real: Tie
    diversity: Diversity


def measure_dependence(
    cascade: Cascade,
    images: UInt8[Tensor, "n 3 h w"],
    n: int = 1024,
    training: int = 2048,
    seed: int = 0,
) -> list[LevelDependence]:
    """Measures how each level of a cascade depends on the one below.

    With classes, labels are balanced; pairs are shuffled across classes.

    Args:
        cascade: the model.
        images: real images of the finest size that it was not trained on, at least n + 64. Those
            beyond n train the critics, repeatedly if there are few.
        n: pairs to measure, at least 64, rounded down to a multiple of 64 (of 256 from there on);
            diversity uses a quarter of them.
        training: pairs that each critic is trained on, at least 128, in batches of 64, the last of
            which fits its gain; each generated one is used once.
        seed: the same seed gives the same values.

    Returns:
        one entry per level but the coarsest, finest first.

    Raises:
        LapganError: the images do not have the finest size, or there are too few.
    """
    _check(cascade, images, n, training)
    if len(cascade.levels) == 1:
        return []
    n, training = round_down(n, min(n - n % BLOCK, CANDIDATES)), round_down(training, BLOCK)
    order, first, second, third, critics, real_critics = spawn_seeds(seed, 6)
    real = images[torch.randperm(len(images), generator=make_generator(order))]
    generated_ties = _measure_generated(cascade, n, training, (first, second, critics))
    real_ties = _measure_real(cascade, real, n, training, real_critics)
    diversities = measure_diversity(cascade, max(n // 4, BLOCK), real[:n], third)
    ties = zip(generated_ties, real_ties, strict=True)
    results = zip(cascade.sizes, ties, diversities, strict=False)
    return [LevelDependence(size, seed, *pair, diversity) for size, pair, diversity in results]


def _measure_generated(
    cascade: Cascade, n: int, training: int, seeds: tuple[int, int, int]
) -> list[Tie]:
    first, second, critics = seeds
    return measure_ties(
        cascade,
        track_blocks(
            generate_pairs(cascade, training, first), "generated: training critics", training
        ),
        track_blocks(generate_pairs(cascade, n, second), "generated: measuring", n),
        critics,
    )


def _measure_real(cascade: Cascade, images: Tensor, n: int, training: int, seed: int) -> list[Tie]:
    blocks, held_out = cycle_blocks(images[n:], training), torch.split(images[:n], BLOCK)
    return measure_ties(
        cascade,
        track_blocks(split_real(cascade, blocks), "real: training critics", training),
        track_blocks(split_real(cascade, held_out), "real: measuring", n),
        seed,
    )


def _check(cascade: Cascade, images: Tensor, n: int, training: int) -> None:
    height, width = cascade.sizes[0]
    if images.dtype != torch.uint8 or images.shape[1:] != (3, height, width):
        raise LapganError(
            f"images: expected uint8 (N, 3, {height}, {width}), the model's finest size, found "
            f"{images.dtype} {tuple(images.shape)}; crop or resize them first."
        )
    check_counts(len(images), n, training)


def check_counts(images: int, n: int, training: int) -> None:
    """Checks the numbers of held-out images, pairs and pairs to train on.

    Raises:
        LapganError: there are too few.
    """
    if n < BLOCK or training < 2 * BLOCK:
        raise LapganError(
            f"dependence: n = {n} must be at least {BLOCK}, training = {training} at least "
            f"{2 * BLOCK}."
        )
    if images < n + BLOCK:
        raise LapganError(
            f"dependence: {images} images are too few for n = {n}; give at least {n + BLOCK}, "
            "of which the first n are measured and the others train a critic, or lower n."
        )
