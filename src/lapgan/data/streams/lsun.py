"""LSUN's databases as shards: ranges of keys."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from lapgan.data.sources.base import Item
from lapgan.data.sources.lsun import Lsun, count_images, every_key

__all__ = ["KeyRange", "key_ranges"]

_IMAGES = 1000


@dataclass(frozen=True)
class KeyRange:
    """The photographs of one class from a key on.

    Args:
        source: the databases.
        index: which of its classes.
        first: the key.
        count: how many photographs.
    """

    source: Lsun
    index: int
    first: bytes
    count: int

    @property
    def name(self) -> str:
        """The database and the key."""
        return f"{self.source.folders[self.index]}: from {self.first.decode('ascii', 'replace')}"

    def read(self, start: int, stop: int) -> Iterator[Item]:
        """Yields the photographs from `start` to `stop` - 1."""
        return islice(self.source.items_from(self.index, self.first), start, stop)


def key_ranges(source: Lsun, images: int = _IMAGES) -> tuple[KeyRange, ...]:
    """Divides the databases into ranges of so many images each."""
    ranges = []
    for index, folder in enumerate(source.folders):
        total = count_images(folder)
        for number, key in enumerate(every_key(folder, images)):
            ranges.append(KeyRange(source, index, key, min(images, total - number * images)))
    return tuple(ranges)
