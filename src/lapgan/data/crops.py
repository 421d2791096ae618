"""Corner crops of images that are larger than a model's."""

import numpy as np
from numpy.typing import NDArray

from lapgan.data.images import Images
from lapgan.sizes import Size

__all__ = ["corner_crops", "corner_offsets"]


def corner_offsets(images: Size, crop: Size) -> list[tuple[int, int]]:
    """Returns top and left of the four corner crops of the given size."""
    bottom, right = images[0] - crop[0], images[1] - crop[1]
    return [(0, 0), (0, right), (bottom, 0), (bottom, right)]


def corner_crops(
    images: Images, indices: NDArray[np.int64], corners: NDArray[np.int64], size: Size
) -> NDArray[np.uint8]:
    """Cuts chosen images to `size`, each at one of its corners.

    Args:
        images: at least as large as `size`.
        indices: which images, (n,).
        corners: the corner of each, 0 to 3, in the order of `corner_offsets`, (n,).
        size: height and width of the crops, in pixels.

    Returns:
        uint8 (n, 3, *size).
    """
    height, width = size
    pixels = np.empty((len(indices), 3, height, width), dtype=np.uint8)
    for corner, (top, left) in enumerate(corner_offsets(images.size, size)):
        chosen = corners == corner
        window = images.pixels[indices[chosen]]
        pixels[chosen] = window[:, :, top : top + height, left : left + width]
    return pixels
