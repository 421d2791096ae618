"""Augmentation of all that D sees, real and generated alike, through which G still learns.

With few pictures D soon knows each of them by heart and is right on all real examples. If it never
sees the same one twice it has to judge what they have in common; and since generated images are
changed in the same ways, G does not learn to make changed ones.

Source: Zhao et al. (2020), DiffAugment, section 3: its policy without cutout, which would take half
of an image of a few pixels.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["augment"]

# The longest shift, as a share of the side.
_SHIFT = 1 / 8


def augment(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Changes each image's colors and moves it, by its own amounts.

        x <- x + b,                   b uniform in [-1/2, 1/2]   (brightness)
        x <- m + s (x - m),           s uniform in [0, 2],       m the mean of a pixel's channels
        x <- m + c (x - m),           c uniform in [1/2, 3/2],   m the mean of the image

    and then by a whole number of pixels, at most an eighth of a side in each direction, rounded
    down; what comes in from beyond the edge is 0, the middle of the scale.

    Args:
        images: in the scale of the nets, about [-1, 1].

    Returns:
        Images of the same shape; gradients pass through.
    """
    return _moved(_recolored(images))


def _recolored(x: Tensor) -> Tensor:
    x = x + _uniform(x, -0.5, 0.5)
    pixel = x.mean(dim=1, keepdim=True)
    x = pixel + _uniform(x, 0, 2) * (x - pixel)
    whole = x.mean(dim=(1, 2, 3), keepdim=True)
    return whole + _uniform(x, 0.5, 1.5) * (x - whole)


def _moved(x: Tensor) -> Tensor:
    return _rows_moved(_rows_moved(x).mT).mT


def _rows_moved(x: Tensor) -> Tensor:
    n, _, height, _ = x.shape
    shift = int(_SHIFT * height)
    first = torch.randint(0, 2 * shift + 1, (n, 1, 1, 1), device=x.device)
    rows = first + torch.arange(height, device=x.device)[:, None]
    return F.pad(x, (0, 0, shift, shift)).gather(2, rows.expand_as(x))


def _uniform(x: Tensor, low: float, high: float) -> Tensor:
    """Draws one value an image, (n, 1, 1, 1)."""
    return torch.empty(len(x), 1, 1, 1, device=x.device).uniform_(low, high)
