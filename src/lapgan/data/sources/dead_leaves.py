"""Dead leaves: synthetic images with the statistics of natural ones; no data, no network."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lapgan.data.sources.base import Item
from lapgan.errors import LapganError
from lapgan.sizes import Size

__all__ = ["FORM", "DeadLeaves", "draw_dead_leaves", "find"]

FORM = {"dead-leaves[:COUNT]": "synthetic images of 32x32 pixels, made without any data"}

_COUNT = 2_000
_SIDE = 32
_RADII = (2.0, 48.0)  # pixels
_FINE = 2  # samples per pixel and axis, averaged to smooth the edges
_LEAVES_AT_ONCE = 32
_SEEDS = {"train": 1, "test": 2}

# Mean color, and standard deviations along brightness, blue-yellow and green-magenta, as in
# everyday photographs.
_MEAN = np.array([0.49, 0.47, 0.44], np.float32)
_AXES = np.array([[0.24, 0.24, 0.24], [0.075, 0.0, -0.075], [0.025, -0.05, 0.025]], np.float32)


@dataclass(frozen=True)
class DeadLeaves:
    """Images of the dead leaves model, each drawn from its own seed.

    Args:
        count: how many images; the first ones are the same for any count.
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
        """Returns everything the images depend on; raise the version when the images change."""
        return f"dead-leaves version 1, {self.split}, {self.count}"

    def items(self) -> Iterator[Item]:
        """Draws the images one by one."""
        for index in range(self.count):
            random = np.random.default_rng((_SEEDS[self.split], index))
            yield Item(f"{self.name}: image {index}", draw_dead_leaves(random), None)


def find(text: str, split: str) -> DeadLeaves | None:
    """Returns the images of `dead-leaves` or `dead-leaves:COUNT`, None for any other name.

    Raises:
        LapganError: COUNT is not a positive number, or there is no such split.
    """
    word, colon, count = text.partition(":")
    if word != "dead-leaves":
        return None
    if colon and not (count.isascii() and count.isdigit()):
        raise LapganError(f"{text}: expected a number of images, such as dead-leaves:5000.")
    return DeadLeaves(int(count) if colon else _COUNT, split)


def draw_dead_leaves(random: np.random.Generator) -> NDArray[np.uint8]:
    """Draws one image: discs of random radius, position and color that occlude one another.

    The density of the radii is proportional to r^-3, which makes the images scale-invariant. Discs
    are drawn front to back until no gap is left, so the image is an exact sample of the model.

    Returns:
        uint8 (32, 32, 3).

    References:
        Lee, Mumford and Huang, "Occlusion models for natural images: a statistical study of a
        scale-invariant dead leaves model", IJCV 41, 2001. https://doi.org/10.1023/A:1011109015675
    """
    side = _SIDE * _FINE
    colors = np.empty((side * side, 3), np.float32)
    uncovered = np.arange(side * side)
    while uncovered.size:
        radius, y, x = _draw_discs(random, side)
        paint = _draw_colors(random)
        row, column = (axis.astype(np.float32)[:, None] for axis in np.divmod(uncovered, side))
        inside = np.square(row - y) + np.square(column - x) < np.square(radius)
        front = inside.argmax(axis=1)
        hit = inside[np.arange(uncovered.size), front]
        colors[uncovered[hit]] = paint[front[hit]]
        uncovered = uncovered[~hit]
    pixels = colors.reshape(_SIDE, _FINE, _SIDE, _FINE, 3).mean(axis=(1, 3))
    return np.asarray(np.round(pixels * 255), np.uint8)


def _draw_discs(
    random: np.random.Generator, side: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Draws radii and centers of discs, from those alone that can touch the image."""
    radius = np.interp(random.random(_LEAVES_AT_ONCE), *_radius_distribution(side))
    reach = side / 2 + radius
    y = side / 2 + random.uniform(-1, 1, _LEAVES_AT_ONCE) * reach
    x = side / 2 + random.uniform(-1, 1, _LEAVES_AT_ONCE) * reach
    return radius.astype(np.float32), y.astype(np.float32), x.astype(np.float32)


@cache
def _radius_distribution(side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the cumulative distribution of the radii, and the radii it is given at.

    A disc of radius r can touch the image if its center lies in a square of side + 2r, so the
    density is proportional to r^-3 (side + 2r)^2; discs farther away would change nothing.
    """
    radius = np.geomspace(_RADII[0], _RADII[1], 512) * _FINE
    spacing = radius  # of the logarithmic grid, up to a constant
    weight = radius**-3 * (side + 2 * radius) ** 2 * spacing
    return np.cumsum(weight) / weight.sum(), radius


def _draw_colors(random: np.random.Generator) -> NDArray[np.float32]:
    deviations = random.standard_normal((_LEAVES_AT_ONCE, 3)).astype(np.float32) @ _AXES
    return np.clip(_MEAN + deviations, 0, 1)
