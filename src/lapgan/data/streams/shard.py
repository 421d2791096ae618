"""A shard: a part of a source that can be read by itself."""

from collections.abc import Iterator
from typing import Protocol

from lapgan.data.sources.base import Item

__all__ = ["Shard"]


class Shard(Protocol):
    """Some images of a source, which can be read from any one of them on, in any process."""

    @property
    def name(self) -> str:
        """What messages call it, such as its path."""

    @property
    def count(self) -> int:
        """How many images it has."""

    def read(self, start: int, stop: int) -> Iterator[Item]:
        """Yields the images from `start` to `stop` - 1.

        Raises:
            LapganError: the shard is broken; the message names it.
        """
