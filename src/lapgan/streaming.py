"""Minibatches of a stream as a function of how many images were seen, read ahead of their use."""

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import get_context, parent_process

import numpy as np
import torch
from numpy.typing import NDArray

from lapgan.batches import Batch, check_image_size
from lapgan.data import Images, ImageStream, ShardOrder, corner_crops
from lapgan.sizes import Size

__all__ = ["StreamedBatches"]

Key = tuple[int, int]


@dataclass(frozen=True)
class StreamedBatches:
    """Shuffled training examples of one size from a stream, without end.

    Each epoch has every image once (see `ShardOrder`). The window that follows is read while one is
    used, so that at most `workers` + 2 windows are in memory. Where a run continues, and how it is
    read, changes nothing: the examples follow from seed and images seen alone.

    Args:
        stream: the images.
        size: height and width of an example, in pixels.
        order: in which they are read; a rank has its own part of each minibatch.
        corners: take the four corner crops of each image; otherwise images have the size already.
        flip: mirror an example left to right with probability 1/2.
        workers: processes that read and decode; 0 for a thread of this process.

    Raises:
        LapganError: the images do not have the size, or are smaller than the crops.
    """

    stream: ImageStream
    size: Size
    order: ShardOrder
    corners: bool = False
    flip: bool = False
    workers: int = 0

    def __post_init__(self) -> None:
        check_image_size(self.stream.name, self.stream.size, self.size, corners=self.corners)

    @property
    def name(self) -> str:
        """The name of the images."""
        return self.stream.name

    @property
    def fingerprint(self) -> str:
        """The hash of the images."""
        return self.stream.fingerprint

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class; empty if there are none."""
        return self.stream.class_names

    @property
    def epoch(self) -> int:
        """How many examples an epoch has, over all ranks."""
        return self._variants * self.order.images * self.order.ranks

    def at(self, images_seen: int, count: int) -> Batch:
        """Returns this rank's part of the `count` examples that follow `images_seen`.

        Args:
            images_seen: by all ranks together; a multiple of their number.
            count: of all ranks together; likewise.

        Returns:
            uint8 pixels (count / ranks, 3, H, W), and their labels if there are any.

        Raises:
            LapganError: an image or a shard cannot be used.
            ValueError: the numbers are no multiples of the number of ranks.
        """
        if images_seen % self.order.ranks or count % self.order.ranks:
            raise ValueError(f"expected multiples of {self.order.ranks}: {images_seen}, {count}")
        position, rest = images_seen // self.order.ranks, count // self.order.ranks
        parts = []
        while rest:
            part = self._read(position, rest)
            parts.append(part)
            position, rest = position + len(part[0]), rest - len(part[0])
        pixels = np.concatenate([pixels for pixels, _ in parts])
        if self.flip:
            random = np.random.default_rng((self.order.seed, 1, images_seen, self.order.rank))
            mirror = random.random(len(pixels)) < 0.5
            pixels[mirror] = pixels[mirror, ..., ::-1]
        labels = [labels for _, labels in parts if labels is not None]
        return torch.from_numpy(pixels), torch.from_numpy(
            np.concatenate(labels)
        ) if labels else None

    @property
    def _variants(self) -> int:
        return 4 if self.corners else 1

    def _read(
        self, position: int, count: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
        """Reads examples of this rank from a position on, at most to the end of their window."""
        epoch, offset = divmod(position, self._variants * self.order.images)
        window, start = divmod(offset, self._variants * self.order.buffer)
        images = self._windows.get((epoch, window))
        examples = self.order.shuffle(epoch, window, self._variants * len(images))
        chosen = examples[start : start + count]
        labels = None if images.labels is None else images.labels[chosen // self._variants]
        if self.corners:
            return corner_crops(images, chosen // 4, chosen % 4, self.size), labels
        return images.pixels[chosen], labels

    @cached_property
    def _windows(self) -> "_Windows":
        load = partial(_load, self.stream, self.order)
        return _Windows(load, lambda key: self.order.following(*key), self.workers)


def _load(stream: ImageStream, order: ShardOrder, key: Key) -> Images:
    return stream.read(order.pieces(*key))


class _Windows:
    """The window in use and those that follow, which are read ahead.

    Args:
        load: reads a window.
        following: the window after one.
        workers: processes that read; 0 for a thread.
    """

    def __init__(
        self, load: Callable[[Key], Images], following: Callable[[Key], Key], workers: int
    ) -> None:
        self.load, self.following, self.ahead = load, following, max(1, workers)
        self.executor: Executor = (
            ProcessPoolExecutor(workers, get_context("spawn"), _follow_parent)
            if workers
            else ThreadPoolExecutor(1, "stream")
        )
        self.futures: dict[Key, Future[Images]] = {}

    def get(self, key: Key) -> Images:
        """Returns a window, and begins to read those that follow."""
        if key == (0, 0) and self.futures and key not in self.futures:
            # A sheet looks back at the first examples: what was read ahead stays.
            return self.load(key)
        keys = [key]
        for _ in range(self.ahead):
            keys.append(self.following(keys[-1]))
        for other in set(self.futures) - set(keys):
            self.futures.pop(other).cancel()
        for other in keys:
            if other not in self.futures:
                self.futures[other] = self.executor.submit(self.load, other)
        return self.futures[key].result()


def _follow_parent() -> None:
    """Lets a worker end with its parent, and not by a signal to the whole group before it."""
    for number in signal.Signals:
        if number.name in ("SIGINT", "SIGHUP", "SIGBREAK"):  # sent to all processes of a terminal
            signal.signal(number, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
