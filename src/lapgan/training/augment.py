"""Differentiable augmentation of all images that D sees, real and generated alike.

On a small data set D soon memorizes the images and is right on all real examples. If D never sees
the same image twice, it has to rely on what the images have in common; and since generated images
are augmented in the same ways, G does not learn to generate augmented images.

References:
    Zhao et al. (2020), DiffAugment, section 3: its policy without cutout, which would remove half
    of an image of a few pixels.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["augment"]

# The longest shift, as a fraction of the side.
_SHIFT = 1 / 8


def augment(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Changes the colors of each image and shifts it, by amounts of its own.

        x <- x + b,                   b uniform in [-1/2, 1/2]   (brightness)
        x <- m + s (x - m),           s uniform in [0, 2],       m the mean of a pixel's channels
        x <- m + c (x - m),           c uniform in [1/2, 3/2],   m the mean of the image

    and then by a whole number of pixels, at most an eighth of a side in each direction, rounded
    down; pixels from beyond the edge are 0, the middle of the scale.

    Args:
        images: in the scale of the nets, about [-1, 1].

    Returns:
        Images of the same shape; gradients pass through.
    """
    return _shift(_recolor(images))


def _recolor(x: Tensor) -> Tensor:
    x = x + _uniform(x, -0.5, 0.5)
    pixel = x.mean(dim=1, keepdim=True)
    x = pixel + _uniform(x, 0, 2) * (x - pixel)
    whole = x.mean(dim=(1, 2, 3), keepdim=True)
    return whole + _uniform(x, 0.5, 1.5) * (x - whole)


def _shift(x: Tensor) -> Tensor:
    return _shift_rows(_shift_rows(x).mT).mT


def _shift_rows(x: Tensor) -> Tensor:
    n, _, height, _ = x.shape
    shift = int(_SHIFT * height)
    first = torch.randint(0, 2 * shift + 1, (n, 1, 1, 1), device=x.device)
    rows = first + torch.arange(height, device=x.device)[:, None]
    return F.pad(x, (0, 0, shift, shift)).gather(2, rows.expand_as(x))


def _uniform(x: Tensor, low: float, high: float) -> Tensor:
    """Draws one value per image, (n, 1, 1, 1)."""
    return torch.empty(len(x), 1, 1, 1, device=x.device).uniform_(low, high)
