"""Reads a source image by image, and deals with the ones that cannot be used."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from lapgan.data.decode import InvalidImageError, decode, image_size
from lapgan.data.source import Item, Source
from lapgan.errors import LapganError
from lapgan.sizes import Size

__all__ = ["MOST_NAMED", "OnInvalid", "Reading", "warn_skipped"]

OnInvalid = Literal["stop", "skip"]
MOST_NAMED = 10

_log = logging.getLogger("lapgan.data")


@dataclass
class Reading:
    """One pass over a source; afterwards `bad` tells which images were left out and why.

    Args:
        source: what to read.
        on_invalid: "stop" raises at images that cannot be used, "skip" leaves them out.
        progress: whether to draw a progress bar on stderr.
    """

    source: Source
    on_invalid: OnInvalid
    progress: bool
    bad: dict[int, str] = field(default_factory=dict)

    def survey(self) -> Size:
        """Finds the commonest size from the headers alone, before anything is decoded.

        Returns:
            The height and width that all images which `images` yields have.

        Raises:
            LapganError: some images cannot be used (on "stop"), or all.
        """
        if self.source.size is not None:
            return self.source.size
        sizes: dict[int, tuple[str, Size]] = {}
        for index, item in self._tracked("checking images"):
            try:
                sizes[index] = item.name, image_size(item.content)
            except InvalidImageError as error:
                self.bad[index] = f"{item.name}: {error}."
        if not sizes:
            raise self._refusal()
        [(common, _)] = Counter(size for _, size in sizes.values()).most_common(1)
        for index, (name, size) in sizes.items():
            if size != common:
                self.bad[index] = _odd_size(name, size, common)
        if self.bad and self.on_invalid == "stop":
            raise self._refusal()
        return common

    def images(
        self, made: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = lambda pixels: pixels
    ) -> Iterator[tuple[NDArray[np.uint8], int | None]]:
        """Yields the pixels, uint8 (H, W, 3), and the label of each image that can be used.

        Args:
            made: what to make of the pixels; raises InvalidImageError where it cannot.
        """
        for index, item in self._tracked("decoding images"):
            if index in self.bad:
                continue
            try:
                yield made(decode(item.content)), item.label
            except InvalidImageError as error:
                self.bad[index] = f"{item.name}: {error}."
                if self.on_invalid == "stop":
                    raise self._refusal() from error
        if len(self.bad) == len(self.source):
            raise self._refusal()

    def named(self) -> list[str]:
        """The first few images that were left out, in order, each with the reason."""
        return [self.bad[index] for index in sorted(self.bad)[:MOST_NAMED]]

    def _tracked(self, doing: str) -> Iterator[tuple[int, Item]]:
        with Progress(
            console=Console(stderr=True), transient=True, disable=not self.progress
        ) as bar:
            yield from enumerate(
                bar.track(self.source.items(), total=len(self.source), description=doing)
            )

    def _refusal(self) -> LapganError:
        if not self.bad:
            return LapganError(f"{self.source.name}: expected images, but there are none.")
        choice = "Mend them, or leave them out (--skip-bad, or on_invalid='skip')."
        if len(self.bad) == len(self.source):
            choice = "No image is left."
        return LapganError(f"{_listing(self.source.name, self.named(), len(self.bad))}\n{choice}")


def warn_skipped(name: str, named: list[str], count: int) -> None:
    """Names the images that were left out of a source on the log `lapgan.data`."""
    if count:
        _log.warning("%s\nThey are left out.", _listing(name, named, count))


def _listing(name: str, named: list[str], count: int) -> str:
    images = "image" if count == 1 else "images"
    more = [f"... and {count - len(named)} more"] if count > len(named) else []
    return "\n  ".join([f"{name}: {count} {images} cannot be used:", *named, *more])


def _odd_size(name: str, size: Size, common: Size) -> str:
    found, expected = f"{size[1]}x{size[0]}", f"{common[1]}x{common[0]}"
    return f"{name}: is {found} pixels (width x height), most are {expected}. Crop or resize it."
