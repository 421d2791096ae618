"""What a data source offers: its images in order, each with a name, not yet decoded."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lapgan.sizes import Size

__all__ = ["STREAM", "Content", "Item", "Reduced", "Source", "SourceModule"]

STREAM = "stream:"
"""What a source begins with that is decoded while it is used; see `lapgan.data.streams`."""


class Reduced(NamedTuple):
    """An encoded image that is cropped and reduced to a size when it is decoded.

    Args:
        encoded: an image file.
        size: height and width, in pixels.
    """

    encoded: bytes
    size: Size


Content = bytes | Path | NDArray[np.uint8] | Reduced


class Item(NamedTuple):
    """One image of a source.

    Args:
        name: where the image is, for messages.
        content: an encoded image file, the path of one, uint8 (H, W, 3) RGB pixels, or an image
            file that is to be reduced.
        label: the index of its class, None if it has no label.
    """

    name: str
    content: Content
    label: int | None


class Source(Protocol):
    """A sequence of images that can be counted and read as often as needed."""

    @property
    def name(self) -> str:
        """A short name for people."""

    @property
    def size(self) -> Size | None:
        """Height and width of every image, None if they must be read from the images."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class; empty if there are no labels, or labels without names."""

    def __len__(self) -> int: ...

    def fingerprint(self, memory: Path) -> str:
        """Returns a hash of the content.

        Args:
            memory: a folder where hashes of files may be kept between runs.
        """

    def items(self) -> Iterator[Item]:
        """Yields the images, always in the same order."""


class SourceModule(Protocol):
    """A module of `lapgan.data.sources` that opens one kind of source."""

    FORM: Mapping[str, str]
    """What the user writes for this source, and what it opens; lines of the help text."""

    def find(self, text: str, split: str) -> Source | None:
        """Returns the source that `text` names, None if it is not of this kind.

        Raises:
            LapganError: it is of this kind, but cannot be used.
        """
