"""Sizes of images: height and width in pixels, always in this order."""

import itertools
from collections.abc import Sequence

from lapgan.errors import LapganError

__all__ = ["Size", "check_sizes", "check_step", "parse_size", "size_text"]

Size = tuple[int, int]


def parse_size(text: str) -> Size:
    """Returns the size that a text stands for: 28 is (28, 28), 48x64 is (48, 64), height first.

    Raises:
        LapganError: the text has another form.
    """
    sides = text.split("x")
    if len(sides) not in (1, 2) or not all(side.isdecimal() for side in sides):
        raise LapganError(
            f"levels.{text}: a level is named by its size, such as 28 or 48x64 (height x width)."
        )
    return int(sides[0]), int(sides[-1])


def size_text(size: Size) -> str:
    """Returns a size as text, height first: 28x28."""
    return f"{size[0]}x{size[1]}"


def check_sizes(sizes: Sequence[Size]) -> None:
    """Raises a LapganError unless all sizes are positive and descend from finest to coarsest."""
    if not sizes:
        raise LapganError("pyramid: there are no sizes. Give at least one, finest first.")
    for fine, coarse in itertools.pairwise(sizes):
        check_step(fine=fine, coarse=coarse)
        if tuple(fine) == tuple(coarse):
            raise LapganError(
                f"pyramid: the level {size_text(fine)} stands twice; sizes must descend, finest "
                "first."
            )
    check_step(fine=sizes[0], coarse=sizes[-1])


def check_step(*, fine: Size, coarse: Size) -> None:
    """Raises a LapganError unless both sizes are positive and `coarse` is not the larger one."""
    if min(*fine, *coarse) < 1:
        raise LapganError(
            f"pyramid: sizes must be at least 1 pixel, found {size_text(fine)} and "
            f"{size_text(coarse)}."
        )
    if coarse[0] > fine[0] or coarse[1] > fine[1]:
        raise LapganError(
            f"pyramid: sizes must descend from finest to coarsest, but {size_text(fine)} is "
            f"followed by {size_text(coarse)}; put the larger first."
        )
