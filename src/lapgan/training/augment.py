"""Differentiable augmentation of all images that D sees, real and generated alike.

On a small data set D soon memorizes the images and is right on all real examples. If D never sees
the same image twice, it has to rely on what the images have in common; and since generated images
are augmented in the same ways, G does not learn to generate augmented images.

References:
    Zhao et al. (2020), DiffAugment, section 3: its policy without cutout, which would remove half
    of an image of a few pixels.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["Augmentation", "augment", "augment_pair"]

# In what images are changed: true for all changes.
Augmentation = Literal[True, "shift"]

# The longest shift, as a fraction of the side.
_SHIFT = 1 / 8


def augment(
    images: Float[Tensor, "b 3 h w"], kind: Augmentation = True
) -> Float[Tensor, "b 3 h w"]:
    """Changes the colors of each image and shifts it, by amounts of its own.

        x <- x + b,                   b uniform in [-1/2, 1/2]   (brightness)
        x <- m + s (x - m),           s uniform in [0, 2],       m the mean of a pixel's channels
        x <- m + c (x - m),           c uniform in [1/2, 3/2],   m the mean of the image

    and then by a whole number of pixels, at most an eighth of a side in each direction, rounded
    down; pixels from beyond the edge are 0, the middle of the scale.

    Args:
        images: in the scale of the nets, about [-1, 1].
        kind: "shift" leaves the colors as they are. A level that adds detail needs it: among
            random colors D hardly sees that those of the detail are wrong.

    Returns:
        Images of the same shape; gradients pass through.
    """
    return _draw_change(images, kind).apply(images)


def augment_pair(
    images: Float[Tensor, "b 3 h w"], low: Float[Tensor, "b 3 h w"], kind: Augmentation = True
) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 3 h w"]]:
    """Changes each image and its low-pass image by the same amounts; see `augment`."""
    change = _draw_change(images, kind)
    return change.apply(images), change.apply(low)


@dataclass(frozen=True)
class _Colors:
    """How the colors of n images are changed; each is (n, 1, 1, 1)."""

    brightness: Tensor
    saturation: Tensor
    contrast: Tensor

    def apply(self, x: Tensor) -> Tensor:
        x = x + self.brightness
        pixel = x.mean(dim=1, keepdim=True)
        x = pixel + self.saturation * (x - pixel)
        whole = x.mean(dim=(1, 2, 3), keepdim=True)
        return whole + self.contrast * (x - whole)


@dataclass(frozen=True)
class _Change:
    """What is done to each of n images.

    Args:
        colors: None for nothing.
        first_row: the first row that is kept of the padded image, (n, 1, 1, 1).
        first_column: likewise.
    """

    colors: _Colors | None
    first_row: Tensor
    first_column: Tensor

    def apply(self, x: Tensor) -> Tensor:
        x = x if self.colors is None else self.colors.apply(x)
        return _shift_rows(_shift_rows(x, self.first_row).mT, self.first_column).mT


def _draw_change(x: Tensor, kind: Augmentation) -> _Change:
    ranges = [(-0.5, 0.5), (0.0, 2.0), (0.5, 1.5)]
    colors = None if kind == "shift" else _Colors(*(_uniform(x, *ends) for ends in ranges))
    return _Change(colors, _draw_shift(x, x.shape[2]), _draw_shift(x, x.shape[3]))


def _draw_shift(x: Tensor, side: int) -> Tensor:
    return torch.randint(0, 2 * int(_SHIFT * side) + 1, (len(x), 1, 1, 1), device=x.device)


def _shift_rows(x: Tensor, first: Tensor) -> Tensor:
    height = x.shape[2]
    shift = int(_SHIFT * height)
    rows = first + torch.arange(height, device=x.device)[:, None]
    return F.pad(x, (0, 0, shift, shift)).gather(2, rows.expand_as(x))


def _uniform(x: Tensor, low: float, high: float) -> Tensor:
    """Draws one value per image, (n, 1, 1, 1)."""
    return torch.empty(len(x), 1, 1, 1, device=x.device).uniform_(low, high)
