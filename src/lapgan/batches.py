"""Minibatches as a function of how many images were seen.

Nothing is remembered between calls: the examples at a given count follow from the seed alone, so an
interrupted run continues with exactly the examples that it would have seen.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from lapgan.data import CornerCrops, Images, check_crop_size
from lapgan.errors import LapganError
from lapgan.sizes import Size, size_text

__all__ = ["Batch", "Batches", "Selection", "TrainingSet", "check_image_size"]

Batch = tuple[UInt8[Tensor, "b 3 h w"], Int64[Tensor, " b"] | None]


class TrainingSet(Protocol):
    """Training examples in an order of which every position can be asked for."""

    @property
    def name(self) -> str:
        """A short name for people."""

    @property
    def fingerprint(self) -> str:
        """A hash of the content."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class; empty if there are none."""

    @property
    def epoch(self) -> int:
        """How many examples an epoch has."""

    def at(self, images_seen: int, count: int) -> Batch:
        """Returns the `count` examples that follow `images_seen`, with labels if there are any."""


@dataclass(frozen=True)
class Selection:
    """The examples of a minibatch, before their pixels are read.

    Args:
        examples: indices below the number of examples in an epoch, (n,).
        mirrored: which of them are mirrored left to right, (n,); None for none.
    """

    examples: NDArray[np.int64]
    mirrored: NDArray[np.bool_] | None


@dataclass(frozen=True)
class Batches:
    """Shuffled training examples of one size, without end.

    Each epoch runs through all examples once, in an order of its own; with `replacement` each
    example of a minibatch is drawn from all.

    Args:
        images: the training images.
        size: height and width of an example, in pixels.
        seed: of order and mirroring.
        corners: take the four corner crops of each image (Denton et al., 2015, section 4.1);
            otherwise images must have the size already.
        flip: mirror an example left to right with probability 1/2.
        replacement: draw with replacement, as the authors' code does.

    Raises:
        LapganError: the images do not have the size, or are smaller than the crops.
    """

    images: Images
    size: Size
    seed: int
    corners: bool = False
    flip: bool = False
    replacement: bool = False

    def __post_init__(self) -> None:
        check_image_size(self.images.name, self.images.size, self.size, corners=self.corners)

    @property
    def name(self) -> str:
        """The name of the images."""
        return self.images.name

    @property
    def fingerprint(self) -> str:
        """The hash of the images."""
        return self.images.fingerprint

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class; empty if there are none."""
        return self.images.class_names

    @property
    def epoch(self) -> int:
        """How many examples an epoch has: images, or four times as many crops."""
        return len(self._crops) if self.corners else len(self.images)

    def at(self, images_seen: int, count: int) -> Batch:
        """Returns the `count` examples that follow `images_seen`, with labels if there are any."""
        selection = self.select(images_seen, count)
        pixels, labels = self._read(selection.examples)
        if selection.mirrored is not None:
            pixels[selection.mirrored] = pixels[selection.mirrored, ..., ::-1]
        return torch.from_numpy(pixels), None if labels is None else torch.from_numpy(labels)

    def select(self, images_seen: int, count: int) -> Selection:
        """Returns which examples follow `images_seen`; no pixel is read."""
        examples = self._examples(images_seen, count)
        if not self.flip:
            return Selection(examples, None)
        return Selection(examples, _random(self.seed, 1, images_seen).random(count) < 0.5)

    @property
    def _crops(self) -> CornerCrops:
        return CornerCrops(self.images, self.size)

    def _read(
        self, examples: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
        if self.corners:
            return self._crops.pixels(examples), self._crops.labels(examples)
        labels = self.images.labels
        return self.images.pixels[examples], None if labels is None else labels[examples]

    def _examples(self, images_seen: int, count: int) -> NDArray[np.int64]:
        if self.replacement:
            return _random(self.seed, 2, images_seen).integers(self.epoch, size=count)
        positions = np.arange(images_seen, images_seen + count)
        epochs, offsets = np.divmod(positions, self.epoch)
        return np.concatenate([
            _order(self.seed, int(epoch), self.epoch)[offsets[epochs == epoch]]
            for epoch in np.unique(epochs)
        ])  # fmt: skip


def check_image_size(name: str, images: Size, size: Size, *, corners: bool) -> None:
    """Raises a LapganError unless images give examples of a size.

    Args:
        name: of the images.
        images: their height and width, in pixels.
        size: height and width of an example, in pixels.
        corners: whether examples are corner crops.
    """
    if corners:
        check_crop_size(name, images, size)
    elif tuple(images) != tuple(size):
        raise LapganError(
            f"{name}: images are {size_text(images)}, but the recipe's finest level is "
            f"{size_text(size)}. Nothing is resized silently: make pictures of this size with "
            f"`lapgan prepare --size {size_text(size)}`, rename the level, or set "
            'data.crop="corners" if the images are a little larger.'
        )


def _random(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, length: int) -> NDArray[np.int64]:
    return _random(seed, 0, epoch).permutation(length)
