"""The order in which a stream is read, as a function of epoch and place: nothing is remembered."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lapgan.errors import LapganError

__all__ = ["Piece", "ShardOrder"]

Piece = tuple[int, int, int]


@dataclass(frozen=True)
class ShardOrder:
    """Which images of which shards are read when.

    Each epoch has an order of the shards of its own. All images in this order, one shard after
    another, are a sequence; each rank has an equal part of it, and reads it in windows of `buffer`
    images, each shuffled in memory. So every epoch has every image once, except the last ones of
    the sequence (fewer than `ranks`), which are others in each epoch.

    Args:
        counts: the number of images of each shard.
        seed: of the order.
        buffer: how many images are shuffled among each other, and held in memory.
        rank: which of the processes that train together this is.
        ranks: how many processes train together.

    Raises:
        LapganError: there are fewer images than ranks.
    """

    counts: tuple[int, ...]
    seed: int
    buffer: int = 4096
    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.ranks or self.buffer < 1:
            raise ValueError(f"expected 0 <= rank < ranks and a positive buffer, got {self}")
        if self.images < 1:
            raise LapganError(
                f"a stream of {sum(self.counts)} images for {self.ranks} processes: expected at "
                "least one image per process."
            )

    @property
    def images(self) -> int:
        """How many images this rank reads in an epoch."""
        return sum(self.counts) // self.ranks

    def following(self, epoch: int, window: int) -> tuple[int, int]:
        """Returns the epoch and the window after a window."""
        last = (window + 1) * self.buffer >= self.images
        return (epoch + 1, 0) if last else (epoch, window + 1)

    def pieces(self, epoch: int, window: int) -> list[Piece]:
        """Returns what to read for a window: (shard, start, stop) each."""
        shards = self._random(0, epoch).permutation(len(self.counts))
        ends = np.cumsum(np.array(self.counts)[shards])
        begin = self.rank * self.images
        position = begin + window * self.buffer
        stop = begin + min((window + 1) * self.buffer, self.images)
        pieces = []
        for index in range(int(np.searchsorted(ends, position, "right")), len(shards)):
            if position >= stop:
                break
            shard, end = int(shards[index]), int(ends[index])
            first, last = end - self.counts[shard], min(end, stop)
            if last > position:
                pieces.append((shard, position - first, last - first))
                position = last
        return pieces

    def shuffle(self, epoch: int, window: int, count: int) -> NDArray[np.int64]:
        """Returns the order of the examples of a window, (count,)."""
        return self._random(1, epoch, window, self.rank).permutation(count)

    def _random(self, *key: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, 4, *key))
