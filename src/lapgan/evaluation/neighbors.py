"""The training images nearest to generated ones: does the model copy what it was shown?"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from lapgan.errors import LapganError
from lapgan.evaluation.features import Features, check_images, check_same_size
from lapgan.pictures import sheet
from lapgan.progress import tracked

__all__ = [
    "Memorization",
    "Neighbors",
    "memorization",
    "nearest_by_features",
    "nearest_by_pixels",
    "neighbors_picture",
]

# Rows of the training set that are compared at once: 1,000 of 3x96x96 in float64 are 220 MB.
_BLOCK = 1000
_NEAR = 0.01


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The k nearest training images of n images, nearest first.

    Args:
        indices: int64 (n, k), into the training images.
        distances: float64 (n, k), Euclidean.
        space: `pixels`, or the net whose features were compared.
        n_train: how many images were searched.
    """

    indices: Int64[Tensor, "n k"] = field(repr=False)
    distances: Float[Tensor, "n k"] = field(repr=False)
    space: str
    n_train: int


@dataclass(frozen=True)
class Memorization:
    """How near generated images are to training images, against real images held out.

    Args:
        ratio: the median distance of a generated image to its nearest training image over that of
            a held-out one. About 1 for new images of the same distribution, 0 for copies.
        copies: the share of generated images nearer to a training image than 99% of held-out ones
            are. About 0.01 for new images of the same distribution, 1 for copies.
        space: `pixels`, or the net whose features were compared. In pixels, smooth images are near
            to everything: below 1 there may just mean blurred.
        n_train: training images.
        n_held_out: real images that were held out.
        n_fake: generated images.
    """

    ratio: float
    copies: float
    space: str
    n_train: int
    n_held_out: int
    n_fake: int


def nearest_by_pixels(
    images: UInt8[Tensor, "n 3 h w"], train: Tensor | NDArray[np.uint8], k: int = 5
) -> Neighbors:
    """Finds the nearest training images by pixels: exact, in blocks, without sampling.

    Distances are Euclidean over all 3 h w values of 0 to 255.

    Args:
        images: the images to look up.
        train: uint8 (N, 3, h, w), such as `Images.pixels`, which is read block by block.
        k: how many neighbours.

    Raises:
        LapganError: the images are no uint8 images, or of another size than the training images,
            or there are fewer than k of these.
    """
    check_images(images, "images")
    check_same_size((train.shape[-2], train.shape[-1]), (images.shape[-2], images.shape[-1]))
    return _nearest(images, train, k, "pixels")


def nearest_by_features(images: Features, train: Features, k: int = 5) -> Neighbors:
    """Finds the nearest training images by the Euclidean distance of features; exact, in blocks.

    Raises:
        LapganError: the features come from different nets, or there are fewer than k images.
    """
    if images.extractor != train.extractor:
        raise LapganError(
            f"features by {images.extractor} and by {train.extractor} cannot be compared."
        )
    return _nearest(images.values, train.values, k, images.extractor)


def _nearest(queries: Tensor, train: Tensor | NDArray[np.uint8], k: int, space: str) -> Neighbors:
    if not 1 <= k <= len(train):
        raise LapganError(f"{k} neighbours: expected 1 to {len(train)}, the number of images.")
    x = _rows(queries)
    distances, indices = x.new_empty((len(x), 0)), torch.empty((len(x), 0), dtype=torch.int64)
    for start in tracked(range(0, len(train), _BLOCK), f"neighbours by {space}"):
        block = train[start : start + _BLOCK]
        y = _rows(block if isinstance(block, Tensor) else torch.from_numpy(np.array(block)))
        # In float64 the products of pixels are exact, so a copy is at a distance of 0.
        found = torch.cdist(x, y, compute_mode="use_mm_for_euclid_dist")
        names = torch.arange(start, start + len(y)).expand_as(found)
        distances, indices = torch.cat((distances, found), 1), torch.cat((indices, names), 1)
        distances, order = distances.topk(min(k, distances.shape[1]), largest=False)
        indices = indices.gather(1, order)
    return Neighbors(indices, distances, space, len(train))


def _rows(x: Tensor) -> Float[Tensor, "n d"]:
    return x.flatten(1).double()


def memorization(fake: Neighbors, held_out: Neighbors) -> Memorization:
    """Compares the nearest distances of generated images with those of real images held out.

    Args:
        fake: the neighbours of generated images among the training images.
        held_out: the neighbours of real images that were not trained on, among the same.

    Raises:
        LapganError: the two were not searched in the same space and set, there are no images, or
            those held out are training images.
    """
    if (fake.space, fake.n_train) != (held_out.space, held_out.n_train):
        raise LapganError(
            f"memorization: neighbours by {fake.space} among {fake.n_train} images and by "
            f"{held_out.space} among {held_out.n_train}; search the same way for both."
        )
    x, y = fake.distances[:, 0], held_out.distances[:, 0]
    if not len(x) or not len(y):
        raise LapganError("memorization: no images to compare.")
    if y.median() == 0:
        raise LapganError(
            "memorization: most of the held-out images are training images themselves; hold out "
            "others, such as the test split."
        )
    ratio = float(x.median() / y.median())
    copies = float((x < y.quantile(_NEAR)).double().mean())
    return Memorization(ratio, copies, fake.space, fake.n_train, len(y), len(x))


def neighbors_picture(
    images: UInt8[Tensor, "n 3 h w"],
    by_pixels: UInt8[Tensor, "n k 3 h w"],
    by_features: UInt8[Tensor, "n k 3 h w"],
) -> UInt8[Tensor, "3 H W"]:
    """Lays out one row an image: itself, its neighbours by pixels, its neighbours by features.

    Args:
        images: generated images.
        by_pixels: their nearest training images by pixels, `train[neighbours.indices]`.
        by_features: the same by features.
    """
    blank = torch.full_like(images[:, None], 255)
    rows = torch.cat((images[:, None], blank, by_pixels, blank, by_features), dim=1)
    return sheet(rows.flatten(0, 1), columns=rows.shape[1])
