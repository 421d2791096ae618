"""What a data source offers: named images one after another, not yet decoded."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lapgan.sizes import Size

__all__ = ["Content", "Item", "Source"]

Content = bytes | Path | NDArray[np.uint8]


class Item(NamedTuple):
    """One image of a source.

    Args:
        name: where the image is, for messages.
        content: an encoded image file, the path of one, or uint8 (H, W, 3) RGB pixels.
        label: the index of its class, None if it has no label.
    """

    name: str
    content: Content
    label: int | None


class Source(Protocol):
    """Images that can be named, counted and read in order, as often as needed."""

    @property
    def name(self) -> str:
        """A short name for people."""

    @property
    def size(self) -> Size | None:
        """Height and width if the source vouches for them, None if each image must be asked."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class; empty if there are none, or labels without names."""

    def __len__(self) -> int: ...

    def fingerprint(self, memory: Path) -> str:
        """A hash of the content; `memory` is a folder that may keep hashes between starts."""

    def items(self) -> Iterator[Item]:
        """The images, in an order that never changes."""
