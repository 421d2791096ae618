"""Reads a source image by image, and records the images that cannot be used."""

import logging
from collections import Counter
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lapgan.data.decode import InvalidImageError, decode, image_size
from lapgan.data.sources.base import Item, Source
from lapgan.errors import LapganError
from lapgan.progress import tracked
from lapgan.sizes import Size

__all__ = ["MAX_LISTED", "OnInvalid", "SourceReader", "warn_skipped"]

OnInvalid = Literal["stop", "skip"]
MAX_LISTED = 10

_log = logging.getLogger("lapgan.data")


@dataclass
class SourceReader:
    """Reads the images of a source once, and records the invalid ones.

    Args:
        source: the source.
        on_invalid: "stop" raises at images that cannot be used, "skip" leaves them out.
        progress: whether to draw a progress bar on stderr; only in a terminal if None.
        invalid: why an image cannot be used, by its index in the source; filled while reading.
    """

    source: Source
    on_invalid: OnInvalid
    progress: bool | None = None
    invalid: dict[int, str] = field(default_factory=dict)

    def common_size(self) -> Size:
        """Returns the most common size, read from the headers before anything is decoded.

        Images of any other size are recorded as invalid, so all that `images` yields have it; with
        "stop", it raises when it has tried the others too, and names all at once.

        Raises:
            LapganError: no image can be used, or most have another size than the most common one
                (with "stop").
        """
        if self.source.size is not None:
            return self.source.size
        sizes = self._read_sizes()
        [(common, count)] = Counter(size for _, size in sizes.values()).most_common(1)
        if self.on_invalid == "stop" and 2 * count < len(sizes):
            raise self._describe_sizes([size for _, size in sizes.values()])
        for index, (name, size) in sizes.items():
            if size != common:
                self.invalid[index] = _describe_size(name, size, common)
        return common

    def survey(self, smallest: Size) -> list[int]:
        """Reads the headers of all images; returns the indices of those that can be used.

        Images whose header alone shows that they cannot be used are recorded as invalid; with
        "stop", `images` raises when it has tried the others too, and names all at once.

        Args:
            smallest: height and width; smaller images are recorded as invalid.

        Raises:
            LapganError: no image can be used.
        """
        sizes = self._read_sizes()
        for index, (name, (height, width)) in sizes.items():
            if height < smallest[0] or width < smallest[1]:
                self.invalid[index] = (
                    f"{name}: is {width}x{height} pixels (width x height), smaller than "
                    f"{smallest[1]}x{smallest[0]}. Remove it or choose a smaller size."
                )
        usable = [index for index in sizes if index not in self.invalid]
        if not usable:
            side = max(min(size) for _, size in sizes.values())
            raise self._describe_invalid(f"The largest --size that any of them allows is {side}.")
        return usable

    def images(
        self,
        transform: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
        indices: Container[int] | None = None,
    ) -> Iterator[tuple[NDArray[np.uint8], int | None]]:
        """Yields the pixels, uint8 (H, W, 3), and the label of each image that can be used.

        Args:
            transform: applied to the pixels; raises InvalidImageError for images it cannot take.
            indices: only these images; all if None.

        Raises:
            LapganError: images cannot be used (with "stop"; after all of them were tried), or none
                can.
        """
        for index, item in self._track("decoding images"):
            if index in self.invalid or (indices is not None and index not in indices):
                continue
            try:
                pixels = decode(item.content)
                pixels = pixels if transform is None else transform(pixels)
            except InvalidImageError as error:
                self.invalid[index] = f"{item.name}: {error}."
                continue
            if not self.invalid or self.on_invalid == "skip":
                yield pixels, item.label
        if self.invalid and self.on_invalid == "stop":
            raise self._describe_invalid()
        if len(self.invalid) == len(self.source):
            raise self._describe_invalid()

    def list_invalid(self) -> list[str]:
        """Returns the first invalid images in the order of the source, each with the reason."""
        return [self.invalid[index] for index in sorted(self.invalid)[:MAX_LISTED]]

    def _read_sizes(self) -> dict[int, tuple[str, Size]]:
        """Returns the name and size of each image whose header can be read; there is one."""
        sizes: dict[int, tuple[str, Size]] = {}
        for index, item in self._track("checking images"):
            try:
                sizes[index] = item.name, image_size(item.content)
            except InvalidImageError as error:
                self.invalid[index] = f"{item.name}: {error}."
        if not sizes:
            raise self._describe_invalid()
        return sizes

    def _track(self, what: str) -> Iterator[tuple[int, Item]]:
        items = tracked(self.source.items(), what, len(self.source), enabled=self.progress)
        yield from enumerate(items)

    def _describe_sizes(self, sizes: list[Size]) -> LapganError:
        (low, high), kinds = (min(sizes), max(sizes)), len(set(sizes))
        return LapganError(
            f"{self.source.name}: expected images of one size, found {kinds} sizes, such as "
            f"{low[1]}x{low[0]} and {high[1]}x{high[0]} pixels (width x height). "
            "`lapgan prepare` crops and reduces them to one size."
        )

    def _describe_invalid(self, more: str = "") -> LapganError:
        if not self.invalid:
            return LapganError(f"{self.source.name}: expected images, but there are none.")
        advice = "Repair them, or leave them out (--skip-invalid, or on_invalid='skip')."
        if len(self.invalid) == len(self.source):
            advice = "No image is left."
        if more:
            advice += f" {more}"
        lines = _list_images(self.source.name, self.list_invalid(), len(self.invalid))
        return LapganError(f"{lines}\n{advice}")


def warn_skipped(name: str, messages: list[str], count: int) -> None:
    """Logs a warning on `lapgan.data` about the images of a source that were left out.

    Args:
        name: the name of the source.
        messages: the first of them, each with the reason.
        count: how many were left out; nothing is logged if none were.
    """
    if count:
        _log.warning("%s\nThey are left out.", _list_images(name, messages, count))


def _list_images(name: str, messages: list[str], count: int) -> str:
    images = "image" if count == 1 else "images"
    more = [f"... and {count - len(messages)} more"] if count > len(messages) else []
    return "\n  ".join([f"{name}: {count} {images} cannot be used:", *messages, *more])


def _describe_size(name: str, size: Size, common: Size) -> str:
    actual, expected = f"{size[1]}x{size[0]}", f"{common[1]}x{common[0]}"
    return (
        f"{name}: is {actual} pixels (width x height), most are {expected}. Crop or resize it, as "
        "`lapgan prepare` does."
    )
