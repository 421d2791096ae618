"""Pairs of neighboring levels, of generated and of real images: I_{k+1}, l_k and h_k.

    l_k = u(I_{k+1}),   h_k = I_k - l_k

All pairs come in random order and in couples, so that the two of a couple can exchange their
low-pass images: that gives shuffled pairs, and couples are independent of each other.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lapgan.cascade import Cascade
from lapgan.cascade.blocks import BLOCK
from lapgan.progress import tracked
from lapgan.pyramid import Stage, residual_of, stages_of

__all__ = [
    "PairStream",
    "Pairs",
    "balance_labels",
    "couple",
    "cycle_blocks",
    "generate_pairs",
    "make_generator",
    "round_down",
    "spawn_seeds",
    "split_real",
    "track_blocks",
]


@dataclass(frozen=True, eq=False)
class Pairs:
    """A block at one level, in the scale of the nets.

    Args:
        coarse: I_{k+1}.
        low: l_k = u(I_{k+1}).
        high: h_k.
    """

    coarse: Float[Tensor, "b 3 H W"]
    low: Float[Tensor, "b 3 h w"]
    high: Float[Tensor, "b 3 h w"]


# For each block, the pairs of every level but the coarsest, finest first.
PairStream = Iterable[list[Pairs]]


def generate_pairs(cascade: Cascade, n: int, seed: int) -> PairStream:
    """Yields the pairs of n images that a cascade generates, block by block.

    Args:
        cascade: the model.
        n: a multiple of the block size.
        seed: of the images and of the order of labels.
    """
    for stages in cascade.stages(n, seed, balance_labels(cascade, n, seed)):
        # Tensors made in inference mode cannot take part in the training of a critic.
        yield _pair_levels([_clone(stage) for stage in reversed(stages)])


def split_real(cascade: Cascade, blocks: Iterable[UInt8[Tensor, "b 3 h w"]]) -> PairStream:
    """Yields the pairs of real images, block by block."""
    for pixels in blocks:
        images = cascade.normalization.normalize(pixels)
        yield _pair_levels(stages_of(images, cascade.sizes, cascade.operator))


def _pair_levels(stages: Sequence[Stage]) -> list[Pairs]:
    """Returns the pairs of every level but the coarsest, of stages in the same order."""
    return [
        Pairs(coarse.image, stage.low, residual_of(stage.image, stage.low))
        for stage, coarse in itertools.pairwise(stages)
        if stage.low is not None
    ]


def _clone(stage: Stage) -> Stage:
    low = None if stage.low is None else stage.low.clone()
    return Stage(low, stage.high.clone(), stage.image.clone())


def balance_labels(cascade: Cascade, n: int, seed: int) -> Tensor | None:
    """Returns balanced labels in random order, so that neighbors are independent."""
    labels = cascade.labels(n)
    return None if labels is None else labels[torch.randperm(n, generator=make_generator(seed))]


def cycle_blocks(images: Tensor, n: int) -> Iterator[Tensor]:
    """Yields n images in full blocks, again from the start where they end."""
    for start in range(0, n, BLOCK):
        yield images[torch.arange(start, start + BLOCK) % len(images)]


def couple(x: Float[Tensor, "b ..."]) -> Float[Tensor, "couples 2 ..."]:
    """Turns (B, ...) into couples of neighbors (B / 2, 2, ...)."""
    return x.reshape(-1, 2, *x.shape[1:])


def track_blocks(stream: PairStream, what: str, n: int) -> PairStream:
    """Shows a progress bar for the blocks of n pairs."""
    return tracked(stream, what, n // BLOCK)


def round_down(n: int, unit: int) -> int:
    """Returns the largest multiple of `unit` that is at most n."""
    return n - n % unit


def spawn_seeds(seed: int, count: int) -> list[int]:
    """Returns independent seeds that are derived from one.

    Not those of `lapgan.seeds`: published values of the dependence were measured with these.
    """
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(count)]


def make_generator(seed: int) -> torch.Generator:
    """Returns a generator with this very seed."""
    return torch.Generator().manual_seed(seed)
