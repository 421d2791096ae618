"""How pixels of 0 to 255 become the numbers that the nets see, and back."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lapgan.data.crops import corner_offsets
from lapgan.data.images import Images
from lapgan.pyramid import Operator, downsample, upsample
from lapgan.sizes import Size

__all__ = ["Normalization", "standard_normalization", "symmetric_normalization"]

# So few that float32 holds the sums of squares exactly: 256 x 255^2 < 2^24.
_CHUNK = 256


@dataclass(frozen=True)
class Normalization:
    """An affine map per pixel and color: x = (pixel - mean) / std.

    Args:
        mean: (3, H, W) at the finest size, in pixel values of 0 to 255.
        std: the same, all positive.
    """

    mean: Float[Tensor, "3 h w"]
    std: Float[Tensor, "3 h w"]

    def normalize(self, pixels: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Maps images of the finest size, or of another one, to the scale of the nets."""
        mean, std = self.at((pixels.shape[-2], pixels.shape[-1]))
        return (pixels - mean).div_(std)

    def denormalize(self, x: Float[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b 3 h w"]:
        """Maps images of any level back to pixels, rounded and clipped to 0 ... 255."""
        mean, std = self.at((x.shape[-2], x.shape[-1]))
        return (x.float() * std + mean).round_().clamp_(0, 255).to(torch.uint8)

    def gray_levels(self, difference: Float[Tensor, "... 3 h w"]) -> Float[Tensor, "... 3 h w"]:
        """Maps differences of images of any level to grey levels, neither rounded nor clipped."""
        _, std = self.at((difference.shape[-2], difference.shape[-1]))
        return difference * std

    def to(self, device: torch.device) -> "Normalization":
        """Returns the same map on a device."""
        return Normalization(self.mean.to(device), self.std.to(device))

    def at(self, size: Size) -> tuple[Tensor, Tensor]:
        """Returns mean and standard deviation of the pixels of a level, (3, *size) each."""
        if size == tuple(self.mean.shape[-2:]):
            return self.mean, self.std
        return _resize(self.mean, size), _resize(self.std, size)


def symmetric_normalization(size: Size) -> Normalization:
    """Returns the map from 0 ... 255 to [-1, 1]: x = p / 127.5 - 1."""
    return Normalization(mean=torch.full((3, *size), 127.5), std=torch.full((3, *size), 127.5))


def standard_normalization(
    images: Images, size: Size, *, corners: bool, flip: bool
) -> Normalization:
    """Returns the map of each pixel to zero mean and unit variance over the training examples.

    Args:
        images: the training images.
        size: the finest size, that of the examples.
        corners: whether the examples are the four corner crops.
        flip: whether half of the examples are mirrored.

    References:
        The released code of Denton et al. (2015), which normalizes images per pixel.
    """
    total, squares = _moments(images)
    windows = [
        (total[:, top : top + size[0], left : left + size[1]],
         squares[:, top : top + size[0], left : left + size[1]])
        for top, left in (corner_offsets(images.size, size) if corners else [(0, 0)])
    ]  # fmt: skip
    if flip:
        windows += [(t.flip(-1), s.flip(-1)) for t, s in windows]
    count = len(images) * len(windows)
    mean = torch.stack([t for t, _ in windows]).sum(dim=0) / count
    variance = torch.stack([s for _, s in windows]).sum(dim=0) / count - mean**2
    # A pixel that never changes carries nothing; a floor of one grey level keeps it finite.
    return Normalization(mean=mean.float(), std=variance.clamp(min=1.0).sqrt().float())


def _moments(images: Images) -> tuple[Tensor, Tensor]:
    """Returns the sum and the sum of squares over all images, (3, H, W), float64."""
    total = torch.zeros((3, *images.size), dtype=torch.float64)
    squares = torch.zeros_like(total)
    for start in range(0, len(images), _CHUNK):
        x = torch.from_numpy(np.array(images.pixels[start : start + _CHUNK])).float()
        total += x.sum(dim=0)
        squares += x.square_().sum(dim=0)
    return total, squares


def _resize(plane: Tensor, size: Size) -> Tensor:
    """Takes means over the area of coarser pixels, or interpolates between centers for finer."""
    if size[0] > plane.shape[-2]:
        return upsample(plane[None], size, "area-linear")[0]
    operator: Operator = "block-mean"
    return downsample(plane[None], size, operator)[0]
