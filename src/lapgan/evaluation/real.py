"""Real images at the size of a model: what it is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from lapgan.data import Images, corner_crops, is_mixed
from lapgan.errors import LapganError
from lapgan.sizes import Size, size_text

__all__ = ["RealImages", "TrainingExamples", "check_indices", "read_crops", "shuffle_classes"]

# More than an evaluation uses; they are copied.
_SHUFFLED = 60_000


def shuffle_classes(images: Images) -> Images:
    """Returns images that come class by class, or without classes, in a random order.

    The first of them then represent all: class folders and files joined one after another come
    class by class, pictures without classes often in the order in which they were taken. Images
    whose classes alternate as often as at random are returned as they are. At most 60,000 images
    are kept, at least one of each class.
    """
    if len(images) == 0 or (images.labels is not None and is_mixed(images.labels)):
        return images
    order = np.random.default_rng(0).permutation(len(images))
    if len(images) > _SHUFFLED:
        order = _shorten(order, images.labels)
    return Images(
        pixels=images.pixels[order],
        labels=None if images.labels is None else images.labels[order],
        class_names=images.class_names,
        name=images.name,
        fingerprint=f"{images.fingerprint}-mixed",
    )


def _shorten(order: NDArray[np.int64], labels: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Returns the first images of an order, and the first of each class wherever it stands."""
    if labels is None:
        return order[:_SHUFFLED]
    first = np.unique(labels[order], return_index=True)[1]
    others = np.setdiff1d(np.arange(len(order)), first)[: max(_SHUFFLED - len(first), 0)]
    return order[np.sort(np.concatenate((first, others)))]


def read_crops(
    images: Images, indices: Sequence[int] | NDArray[np.int64], size: Size | None = None
) -> UInt8[Tensor, "n 3 h w"]:
    """Reads real images at the size of a model, image i cropped to its corner i mod 4.

    Models smaller than their images are trained on the four corner crops (Denton et al., 2015).

    Args:
        images: the data.
        indices: which of them.
        size: height and width; by default the whole images.

    Raises:
        LapganError: the images are smaller than that, or there are no such indices.
    """
    chosen = check_indices(images, indices)
    size = size or images.size
    if images.size[0] < size[0] or images.size[1] < size[1]:
        raise LapganError(
            f"{images.name}: images are {size_text(images.size)}, too small for crops of "
            f"{size_text(size)}. Give the data that the model was trained on."
        )
    return torch.from_numpy(corner_crops(images, chosen, chosen % 4, size))


def check_indices(images: Images, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the indices as an array; a LapganError if there are no such images."""
    chosen = np.asarray(indices, np.int64)
    if chosen.ndim != 1 or (len(chosen) and not 0 <= chosen.min() <= chosen.max() < len(images)):
        raise LapganError(f"{images.name}: expected indices from 0 to {len(images) - 1}.")
    return chosen


@dataclass(frozen=True)
class TrainingExamples:
    """All that a model can have been trained on: every crop and mirror image of every image.

    Example e is image e // v, with v variants of each: one, or its four corner crops, and then
    these mirrored.

    Args:
        images: the training images.
        size: of the model.
        count: how many of the images, the first ones.
        mirrored: whether the model was trained on mirror images too.
    """

    images: Images
    size: Size
    count: int
    mirrored: bool = False

    @property
    def variants(self) -> int:
        """How many examples there are of each image."""
        return self._corners * (1 + self.mirrored)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of all examples together: (N, 3, H, W)."""
        return len(self), 3, *self.size

    def __len__(self) -> int:
        return self.count * self.variants

    def __getitem__(self, examples: slice | Tensor) -> UInt8[Tensor, "... 3 h w"]:
        """Reads examples, by a slice or by indices of any shape."""
        if isinstance(examples, slice):
            examples = torch.arange(len(self))[examples]
        chosen = examples.flatten().numpy()
        images, variant = np.divmod(chosen, self.variants)
        pixels = torch.from_numpy(
            corner_crops(self.images, images, variant % self._corners, self.size)
        )
        mirrored = torch.from_numpy(variant >= self._corners)[:, None, None, None]
        return torch.where(mirrored, pixels.flip(3), pixels).view(*examples.shape, 3, *self.size)

    def represent(self, n: int) -> Int64[Tensor, " n"]:
        """Returns the examples that `read_crops` reads for the first n images."""
        images = torch.arange(n)
        return images * self.variants + images % 4 % self._corners

    @property
    def _corners(self) -> int:
        return 1 if tuple(self.images.size) == tuple(self.size) else 4


@dataclass(frozen=True)
class RealImages:
    """The parts of a data set that an evaluation uses, at the size of a model.

    Widths are chosen on the last held-out images, which no model has seen; likelihoods are
    computed on the first ones.

    Args:
        training: what the models were trained on.
        held_out: images of the same kind that they were not trained on.
        size: of the model.

    Raises:
        LapganError: the images are smaller than the size, or so large that corner crops of the size
            do not cover them.
    """

    training: Images
    held_out: Images
    size: Size

    def __post_init__(self) -> None:
        for images in (self.training, self.held_out):
            read_crops(images, [], self.size)
            if images.size[0] > 2 * self.size[0] or images.size[1] > 2 * self.size[1]:
                raise LapganError(
                    f"{images.name}: images are {size_text(images.size)}, but the model generates "
                    f"{size_text(self.size)}, and corner crops of that size do not cover them. "
                    "Give the data that the model was trained on."
                )

    @property
    def cropped(self) -> bool:
        """Whether the images are larger than the model's."""
        return tuple(self.training.size) != tuple(self.size)

    def train(self, n: int) -> UInt8[Tensor, "n 3 h w"]:
        """Returns the first n training images."""
        return read_crops(self.training, range(n), self.size)

    def validation(self, n: int) -> UInt8[Tensor, "n 3 h w"]:
        """Returns the last n held-out images."""
        return read_crops(self.held_out, self._last(n), self.size)

    def test(self, n: int) -> UInt8[Tensor, "n 3 h w"]:
        """Returns the first n held-out images."""
        return read_crops(self.held_out, range(n), self.size)

    def labels(self, n: int) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]] | None:
        """Returns the classes of `test(n)` and of `validation(n)`, if there are any."""
        if self.held_out.labels is None:
            return None
        test, validation = self.held_out.labels[:n], self.held_out.labels[self._last(n)]
        return torch.from_numpy(np.array(test)), torch.from_numpy(np.array(validation))

    def _last(self, n: int) -> range:
        return range(len(self.held_out) - n, len(self.held_out))
