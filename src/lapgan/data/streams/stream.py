"""Images that are decoded while they are used: never all of them in memory or on the disk."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lapgan.data.decode import InvalidImageError, decode, image_size
from lapgan.data.images import Images
from lapgan.data.reading import OnInvalid
from lapgan.data.sources.base import Item
from lapgan.data.streams.order import Piece
from lapgan.data.streams.shard import Shard
from lapgan.errors import LapganError
from lapgan.sizes import Size, size_text

__all__ = ["ImageStream", "common_size"]

_SAMPLE = 4096
_SAMPLED_SHARDS = 64

_log = logging.getLogger("lapgan.data")


@dataclass(frozen=True)
class ImageStream:
    """Images of one size in shards, read when they are asked for.

    It stands where `Images` stand in a run: it has their name, size, classes and fingerprint.

    Args:
        shards: where the images are.
        class_names: the name of each class; empty if the images have none.
        name: a short name for people.
        fingerprint: a hash of the content, or of the names and sizes of the files.
        size: height and width of every image, in pixels.
        on_invalid: "stop" raises at images and shards that cannot be used; "skip" leaves them out
            with a warning, and an image that is near in the order takes the place of each.
    """

    shards: tuple[Shard, ...] = field(repr=False)
    class_names: tuple[str, ...]
    name: str
    fingerprint: str
    size: Size
    on_invalid: OnInvalid = "stop"
    content: ClassVar[str] = ""

    def __len__(self) -> int:
        return sum(self.counts)

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of images of each shard."""
        return tuple(shard.count for shard in self.shards)

    def describe(self) -> str:
        """Returns what they are on one line: name, number, size and classes."""
        names = ", ".join(self.class_names[:10]) + (", ..." if len(self.class_names) > 10 else "")
        classes = f"{len(self.class_names)} classes ({names})" if self.class_names else "no classes"
        return (
            f"{self.name}, {len(self):,} images of {size_text(self.size)} streamed from "
            f"{len(self.shards):,} shards, {classes}"
        )

    def sample(self, count: int = _SAMPLE) -> Images:
        """Reads images from the beginnings of up to 64 shards, evenly spread over all of them."""
        total = min(_SAMPLED_SHARDS, len(self.shards))
        chosen = np.linspace(0, len(self.shards) - 1, total).round().astype(int).tolist()
        each = -(-count // total)
        return self.read([(shard, 0, min(each, self.counts[shard])) for shard in chosen])

    def read(self, pieces: Sequence[Piece]) -> Images:
        """Reads and decodes images, in the order of the pieces.

        Raises:
            LapganError: an image or a shard cannot be used (with "stop"), or none can.
        """
        total = sum(stop - start for _, start, stop in pieces)
        pixels = np.empty((total, 3, *self.size), np.uint8)
        labels = np.zeros(total, np.int64)
        valid = np.zeros(total, bool)
        place = 0
        for shard, start, stop in pieces:
            for index, item in self._read_piece(self.shards[shard], start, stop):
                try:
                    pixels[place + index] = self._decode(item).transpose(2, 0, 1)
                except InvalidImageError as error:
                    self._refuse(f"{item.name}: {error}.")
                    continue
                labels[place + index] = item.label or 0
                valid[place + index] = True
            place += stop - start
        if not valid.all():
            _fill(valid, pixels, labels, self.name)
        known = labels if self.class_names else None
        return Images(pixels, known, self.class_names, self.name, self.fingerprint)

    def _read_piece(self, shard: Shard, start: int, stop: int) -> Iterator[tuple[int, Item]]:
        count = 0
        try:
            for item in shard.read(start, stop):
                yield count, item
                count += 1
        except LapganError as error:
            self._refuse(str(error))
            return
        if count < stop - start:
            self._refuse(f"{shard.name}: expected {shard.count} images, found {start + count}.")

    def _decode(self, item: Item) -> NDArray[np.uint8]:
        pixels = decode(item.content)
        if pixels.shape[:2] != tuple(self.size):
            height, width = pixels.shape[:2]
            raise InvalidImageError(
                f"is {size_text((height, width))}, expected {size_text(self.size)}. Write shards "
                "of one size with `lapgan prepare --shards`"
            )
        if self.class_names and not 0 <= (-1 if item.label is None else item.label) < len(
            self.class_names
        ):
            raise InvalidImageError(
                f"has the class {item.label}, expected 0 to {len(self.class_names) - 1}. Correct it"
            )
        return pixels

    def _refuse(self, message: str) -> None:
        """Raises a LapganError about an image or a shard, or warns that it is left out."""
        if self.on_invalid == "stop":
            advice = "Repair it, or leave it out (--skip-invalid, or on_invalid='skip')."
            raise LapganError(f"{message} {advice}" if "--skip-invalid" not in message else message)
        _log.warning("%s It is left out.", message)


def _fill(
    valid: NDArray[np.bool_], pixels: NDArray[np.uint8], labels: NDArray[np.int64], name: str
) -> None:
    """Puts, in place of each image that cannot be used, the one before or else the first one."""
    if not valid.any():
        raise LapganError(f"{name}: none of {len(valid)} images can be used. Repair the shards.")
    source = np.maximum.accumulate(np.where(valid, np.arange(len(valid)), -1))
    source[source < 0] = np.argmax(valid)
    missing = ~valid
    pixels[missing], labels[missing] = pixels[source[missing]], labels[source[missing]]


def common_size(shards: Sequence[Shard], name: str) -> Size:
    """Returns the size of the first image whose header can be read.

    Raises:
        LapganError: there is none among the first images of the shards.
    """
    for shard in shards:
        try:
            for item in shard.read(0, min(8, shard.count)):
                try:
                    return image_size(item.content)
                except InvalidImageError:
                    continue
        except LapganError:
            continue
    raise LapganError(f"{name}: no image can be read. Give a source with images.")
