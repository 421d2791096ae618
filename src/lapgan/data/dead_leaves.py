"""Dead leaves: made images with the statistics of natural ones, without data or network."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lapgan.data.source import Item
from lapgan.errors import LapganError
from lapgan.sizes import Size

__all__ = ["DeadLeaves", "dead_leaf_image"]

_SIDE = 32
_RADII = (2.0, 48.0)  # pixels
_FINE = 2  # dots a pixel and axis, averaged against jagged edges
_LEAVES_AT_ONCE = 32
_SEEDS = {"train": 1, "test": 2}

# Means, and deviations of brightness, blue-yellow and green-magenta, as in everyday photographs.
_MEAN = np.array([0.49, 0.47, 0.44], np.float32)
_AXES = np.array([[0.24, 0.24, 0.24], [0.075, 0.0, -0.075], [0.025, -0.05, 0.025]], np.float32)


@dataclass(frozen=True)
class DeadLeaves:
    """Images of the dead leaves model, each made from its own seed.

    Args:
        count: how many; the first images are the same for any count.
        split: "train" or "test", which share no image.

    Raises:
        LapganError: there is no such split, or the count is not positive.
    """

    count: int
    split: str
    name: str = "dead-leaves"
    size: Size = (_SIDE, _SIDE)
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.split not in _SEEDS:
            raise LapganError(
                f"{self.name}: there is no split '{self.split}'. Choose {' or '.join(_SEEDS)}."
            )
        if self.count < 1:
            raise LapganError(f"{self.name}: expected a count of at least 1, got {self.count}.")

    def __len__(self) -> int:
        return self.count

    def fingerprint(self, memory: Path) -> str:
        """Names all that the images depend on; raise the version when their look changes."""
        return f"dead-leaves version 1, {self.split}, {self.count}"

    def items(self) -> Iterator[Item]:
        """Makes the images one by one."""
        for index in range(self.count):
            random = np.random.default_rng((_SEEDS[self.split], index))
            yield Item(f"{self.name}: image {index}", dead_leaf_image(random), None)


def dead_leaf_image(random: np.random.Generator) -> NDArray[np.uint8]:
    """Draws one image: discs of random size, place and color that cover one another.

    The radii have the density r^-3, so the picture looks alike at all scales; what lies in front
    is drawn first, until no gap is left, so the picture is a true sample.

    Returns:
        uint8 (32, 32, 3).

    Source: Lee, Mumford, Huang, "Occlusion models for natural images" (IJCV 2001).
    """
    side = _SIDE * _FINE
    colors = np.empty((side * side, 3), np.float32)
    bare = np.arange(side * side)
    while bare.size:
        radius, y, x = _leaves(random, side)
        paint = _colors(random)
        row, column = (axis.astype(np.float32)[:, None] for axis in np.divmod(bare, side))
        inside = np.square(row - y) + np.square(column - x) < np.square(radius)
        front = inside.argmax(axis=1)
        hit = inside[np.arange(bare.size), front]
        colors[bare[hit]] = paint[front[hit]]
        bare = bare[~hit]
    pixels = colors.reshape(_SIDE, _FINE, _SIDE, _FINE, 3).mean(axis=(1, 3))
    return np.asarray(np.round(pixels * 255), np.uint8)


def _leaves(
    random: np.random.Generator, side: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Draws radii and centers of discs, only such as may touch the picture."""
    radius = np.interp(random.random(_LEAVES_AT_ONCE), *_cumulative(side))
    spread = side / 2 + radius
    y = side / 2 + random.uniform(-1, 1, _LEAVES_AT_ONCE) * spread
    x = side / 2 + random.uniform(-1, 1, _LEAVES_AT_ONCE) * spread
    return radius.astype(np.float32), y.astype(np.float32), x.astype(np.float32)


@cache
def _cumulative(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The share of discs up to a radius, and that radius.

    A disc of radius r may touch the picture from a square of side + 2r, so radii are drawn in
    proportion to r^-3 (side + 2r)^2; discs that lie farther off would change nothing.
    """
    radius = np.geomspace(_RADII[0], _RADII[1], 512) * _FINE
    share = radius**-3 * (side + 2 * radius) ** 2 * radius  # the last for the spacing of the radii
    return np.cumsum(share) / share.sum(), radius


def _colors(random: np.random.Generator) -> NDArray[np.float32]:
    deviations = random.standard_normal((_LEAVES_AT_ONCE, 3)).astype(np.float32) @ _AXES
    return np.clip(_MEAN + deviations, 0, 1)
