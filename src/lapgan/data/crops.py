"""Corner crops of images that are larger than a model's (Denton et al., 2015, section 4.1)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lapgan.data.images import Images
from lapgan.errors import LapganError
from lapgan.sizes import Size, size_text

__all__ = ["CornerCrops", "check_crop_size", "corner_crops", "corner_offsets"]


@dataclass(frozen=True)
class CornerCrops:
    """A set of images as the set of its corner crops, four per image.

    Example i is the crop of image i // 4 at corner i % 4, in the order of `corner_offsets`.

    Args:
        images: N images, at least as large as `size`.
        size: height and width of the crops, in pixels.

    Raises:
        LapganError: the images are smaller than `size`.
    """

    images: Images
    size: Size

    def __post_init__(self) -> None:
        check_crop_size(self.images.name, self.images.size, self.size)

    def __len__(self) -> int:
        return 4 * len(self.images)

    def pixels(self, examples: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns the pixels of examples (n,), uint8 (n, 3, H, W)."""
        return corner_crops(self.images, examples // 4, examples % 4, self.size)

    def labels(self, examples: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Returns the labels of examples (n,), int64 (n,); None if the images have none."""
        return None if self.images.labels is None else self.images.labels[examples // 4]


def check_crop_size(name: str, images: Size, crop: Size) -> None:
    """Raises a LapganError if images (height, width) are smaller than crops (height, width)."""
    if images[0] < crop[0] or images[1] < crop[1]:
        raise LapganError(
            f"{name}: images are {size_text(images)}, too small for corner crops of "
            f"{size_text(crop)}."
        )


def corner_offsets(images: Size, crop: Size) -> list[tuple[int, int]]:
    """Returns the top and left edges of the four corner crops, in pixels.

    Args:
        images: height and width of the images.
        crop: height and width of the crops.
    """
    bottom, right = images[0] - crop[0], images[1] - crop[1]
    return [(0, 0), (0, right), (bottom, 0), (bottom, right)]


def corner_crops(
    images: Images, indices: NDArray[np.int64], corners: NDArray[np.int64], size: Size
) -> NDArray[np.uint8]:
    """Crops selected images to `size`, each at one of its corners.

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
        selected = corners == corner
        window = images.pixels[indices[selected]]
        pixels[selected] = window[:, :, top : top + height, left : left + width]
    return pixels
