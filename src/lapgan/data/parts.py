"""Parts of a set of images: those to train on, and those that are held out."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lapgan.data.images import Images
from lapgan.errors import LapganError

__all__ = ["hold_out_images", "is_mixed"]

# Standard deviations from a random order.
_UNLIKELY = 5


def hold_out_images(images: Images, count: int) -> tuple[Images, Images]:
    """Returns the images to train on, and `count` others.

    Where classes alternate as at random, as in CIFAR-10, the last images are held out. Otherwise
    they are drawn at random, always the same, and both parts are copied into memory.

    Args:
        images: all of them.
        count: how many to hold out; 0 for none.

    Raises:
        LapganError: fewer than two images would be left.
    """
    kept = len(images) - count
    if count and kept < 2:
        raise LapganError(
            f"{images.name}: of {len(images)} images {count} cannot be held out, since at least 2 "
            "must be left to train on; lower data.hold_out."
        )
    if not count or (images.labels is not None and is_mixed(images.labels)):
        return _take(images, slice(kept), count), _take(images, slice(kept, None), count)
    order = np.random.default_rng(0).permutation(len(images))
    parts = np.sort(order[:kept]), np.sort(order[kept:])
    return _take(images, parts[0], count), _take(images, parts[1], count)


def is_mixed(labels: NDArray[np.int64]) -> bool:
    """Returns whether neighbors have one class about as often as at random, or there is one."""
    shares = np.bincount(labels) / len(labels)
    expected = (shares**2).sum()
    alike = (np.diff(labels) == 0).mean() if len(labels) > 1 else 0.0
    error = (expected * (1 - expected) / max(len(labels) - 1, 1)) ** 0.5
    return bool(alike <= expected + _UNLIKELY * error)


def _take(images: Images, part: slice | NDArray[np.int64], held_out: int) -> Images:
    pixels = images.pixels[part]
    mark = f"-{len(pixels)}-of-{len(images)}" if held_out else ""
    return replace(
        images,
        pixels=pixels,
        labels=None if images.labels is None else images.labels[part],
        fingerprint=images.fingerprint + mark,
        content=images.content and images.content + mark,
    )
