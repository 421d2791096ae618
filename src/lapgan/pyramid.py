"""Gaussian and Laplacian pyramids at any sizes, with exact reconstruction.

    I_0 = image,  I_{k+1} = d(I_k),  h_k = I_k - u(I_{k+1}),  h_K = I_K
    I_k = u(I_{k+1}) + h_k

Index 0 is the finest level, in the order of Denton et al. (2015, section 2.2). Both d(.) and u(.)
take the size to reach, never a factor, so 28 -> 14 -> 8 and 96 -> 64 need no special case.

Every operator is linear and separable: one matrix per axis, x -> A_h x A_w^T. There are four:

- `burt-adelson`: blur with the 5-tap binomial [1 4 6 4 1] / 16 and decimate (Burt & Adelson, 1983),
  as OpenCV's pyrDown and pyrUp do it;
- `bilinear`: what the authors of the paper ran (Torch's `image.scale`): the mean over the area of
  each coarse pixel on the way down, linear interpolation with aligned corners on the way up;
- `block-mean`: the mean over the area of each pixel in both directions. Where sizes divide, d(.) is
  the mean of disjoint blocks, u(.) repeats pixels, and h_k is orthogonal to u(I_{k+1});
- `area-linear`: the mean over the area of each coarse pixel on the way down, linear interpolation
  between the centers of coarse pixels on the way up (`align_corners=False`), so that both keep
  every pixel in its place.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from lapgan.errors import LapganError
from lapgan.sizes import Size, check_sizes, check_step, size_text

__all__ = [
    "OPERATORS",
    "Operator",
    "Stage",
    "direct_stage",
    "downsample",
    "gaussian_pyramid",
    "image_of",
    "laplacian_pyramid",
    "reconstruct",
    "residual_of",
    "size_of",
    "stages_of",
    "upsample",
]

Operator = Literal["burt-adelson", "bilinear", "block-mean", "area-linear"]
OPERATORS: tuple[Operator, ...] = get_args(Operator)


def downsample(
    x: Float[Tensor, "b c h w"], size: Size, operator: Operator = "burt-adelson"
) -> Float[Tensor, "b c H W"]:
    """Reduces images to `size`: the operator d(.) of Denton et al. (2015).

    Args:
        x: images, floating point, any range.
        size: height and width to reach, in pixels, neither larger than those of `x`.
        operator: how to smooth and decimate, by name.

    Returns:
        The reduced images, with shape (B, C, *size).

    Raises:
        LapganError: `size` is not positive or larger than the images.
    """
    check_step(fine=size_of(x), coarse=size)
    return _resample(x, size, _DOWN[operator])


def upsample(
    x: Float[Tensor, "b c h w"], size: Size, operator: Operator = "burt-adelson"
) -> Float[Tensor, "b c H W"]:
    """Expands images to `size`: the operator u(.) of Denton et al. (2015).

    Args:
        x: images, floating point, any range.
        size: height and width to reach, in pixels, neither smaller than those of `x`.
        operator: how to smooth and expand, by name.

    Returns:
        The expanded images, with shape (B, C, *size).

    Raises:
        LapganError: `size` is smaller than the images.
    """
    check_step(fine=size, coarse=size_of(x))
    return _resample(x, size, _UP[operator])


def gaussian_pyramid(
    image: Float[Tensor, "b c h w"], sizes: Sequence[Size], operator: Operator = "burt-adelson"
) -> list[Tensor]:
    """Computes [I_0, ..., I_K] with I_0 = image and I_{k+1} = d(I_k).

    Args:
        image: images at the finest size.
        sizes: the size of every level, finest first; the first is that of `image`.
        operator: which d(.), by name.

    Raises:
        LapganError: `sizes` do not descend, or do not begin with the size of `image`.
    """
    check_sizes(sizes)
    if size_of(image) != tuple(sizes[0]):
        raise LapganError(
            f"pyramid: the images are {size_text(size_of(image))} but the finest level is "
            f"{size_text(sizes[0])}; resize or crop the images, or change the sizes."
        )
    pyramid = [image]
    for size in sizes[1:]:
        pyramid.append(downsample(pyramid[-1], size, operator))
    return pyramid


class Stage(NamedTuple):
    """One level of an image's Laplacian pyramid.

    Args:
        low: l_k = u(I_{k+1}), the low-pass image; None at the coarsest level.
        high: h_k, the residual; the image itself at the coarsest level.
        image: I_k = l_k + h_k.
    """

    low: Tensor | None
    high: Tensor
    image: Tensor


def stages_of(
    image: Float[Tensor, "b c h w"], sizes: Sequence[Size], operator: Operator = "burt-adelson"
) -> list[Stage]:
    """Computes low-pass image, residual and image of every level, finest first.

    Arguments and errors are those of `gaussian_pyramid`.
    """
    images = gaussian_pyramid(image, sizes, operator)
    lows = [
        upsample(coarse, size_of(fine), operator) for fine, coarse in itertools.pairwise(images)
    ]
    return [
        Stage(low, residual_of(fine, low), fine)
        for fine, low in zip(images, [*lows, None], strict=True)
    ]


def direct_stage(
    image: Float[Tensor, "b c h w"], sizes: Sequence[Size], operator: Operator = "burt-adelson"
) -> Stage:
    """Computes a level with both of its images scaled from the finest, not one from the other.

        I_k = d(I_0),  l_k = u(d(I_0)),  h_k = I_k - l_k

    Args:
        image: images I_0 at the finest size.
        sizes: that of the level, and that of the next coarser one if there is one.
        operator: which d(.) and u(.), by name.

    References:
        The released code of Denton et al. (2015).
    """
    fine, *coarse = (_scale(image, size, operator) for size in sizes)
    if not coarse:
        return Stage(None, fine, fine)
    low = upsample(coarse[0], sizes[0], operator)
    return Stage(low, residual_of(fine, low), fine)


def _scale(x: Tensor, size: Size, operator: Operator) -> Tensor:
    """Reduces images; those of this size already stay as they are, as I_0 does."""
    return x if size_of(x) == tuple(size) else downsample(x, size, operator)


def laplacian_pyramid(
    image: Float[Tensor, "b c h w"], sizes: Sequence[Size], operator: Operator = "burt-adelson"
) -> list[Tensor]:
    """Computes [h_0, ..., h_K] with h_k = I_k - u(I_{k+1}) and h_K = I_K.

    Arguments and errors are those of `gaussian_pyramid`.

    References:
        Denton et al. (2015), equation 3.
    """
    return [stage.high for stage in stages_of(image, sizes, operator)]


def reconstruct(
    highs: Sequence[Float[Tensor, "b c _ _"]], operator: Operator = "burt-adelson"
) -> Float[Tensor, "b c _ _"]:
    """Inverts `laplacian_pyramid`: I_k = u(I_{k+1}) + h_k, from I_K = h_K down to I_0.

    References:
        Denton et al. (2015), equation 4.
    """
    image = image_of(highs[-1], None)
    for high in reversed(highs[:-1]):
        image = image_of(high, upsample(image, size_of(high), operator))
    return image


def image_of(
    high: Float[Tensor, "b c h w"], low: Float[Tensor, "b c h w"] | None
) -> Float[Tensor, "b c h w"]:
    """Returns I_k = l_k + h_k, or h_K where there is no low-pass image: at the coarsest level."""
    return high if low is None else low + high


def residual_of(
    image: Float[Tensor, "b c h w"], low: Float[Tensor, "b c h w"] | None
) -> Float[Tensor, "b c h w"]:
    """Returns h_k = I_k - l_k, or I_K at the coarsest level: the inverse of `image_of`."""
    return image if low is None else image - low


def size_of(x: Tensor) -> Size:
    """Returns height and width of images."""
    return x.shape[-2], x.shape[-1]


AxisMatrix = Callable[[int, int], Float[Tensor, "target source"]]


def _resample(x: Tensor, size: Size, matrix: AxisMatrix) -> Tensor:
    rows = _matrix(matrix, x.shape[-2], size[0], x.dtype, x.device)
    columns = _matrix(matrix, x.shape[-1], size[1], x.dtype, x.device)
    return rows @ (x @ columns.T)


@lru_cache(maxsize=256)
def _matrix(
    matrix: AxisMatrix, source: int, target: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    # A device context of the caller shall not reach the cache, nor inference mode, whose tensors
    # cannot be differentiated through later.
    with torch.inference_mode(False), torch.device("cpu"):
        weights = matrix(source, target)
        return (weights / weights.sum(dim=1, keepdim=True)).to(device, dtype)


def _positions(length: int) -> Float[Tensor, " length"]:
    return torch.arange(length, dtype=torch.float64)


def _ratio(fine: int, coarse: int) -> float:
    """Returns how many fine pixels lie between two coarse ones: 2 where OpenCV would halve."""
    return 2.0 if coarse == (fine + 1) // 2 else fine / coarse


def _binomial(distance: Tensor) -> Tensor:
    """Returns [1 4 6 4 1] at distances -2 ... 2, and straight lines between them."""
    d = distance.abs()
    return torch.where(d < 1, 6 - 2 * d, torch.where(d < 2, 7 - 3 * d, 3 - d)).clamp(min=0)


def _fold(weights: Tensor, indices: Tensor, length: int) -> Tensor:
    """Adds up the columns of `weights` that stand for the same pixel."""
    folded = weights.new_zeros(weights.shape[0], length)
    return folded.index_add_(1, indices, weights)


def _mirror(length: int, margin: int) -> tuple[Tensor, Tensor]:
    """Returns positions with a margin, and the pixel each stands for, mirrored at the edges."""
    positions = torch.arange(-margin, length + margin)
    period = max(2 * (length - 1), 1)
    folded = positions.remainder(period)
    return positions.double(), torch.minimum(folded, period - folded).clamp(max=length - 1)


def _burt_adelson_down(source: int, target: int) -> Tensor:
    if source == target:
        return torch.eye(source, dtype=torch.float64)
    ratio = _ratio(source, target)
    positions, pixels = _mirror(source, margin=int(2 * ratio) + 2)
    centers = _positions(target) * ratio
    weights = _binomial((positions[None, :] - centers[:, None]) * 2 / ratio)
    return _fold(weights, pixels, source)


def _burt_adelson_up(source: int, target: int) -> Tensor:
    if source == target:
        return torch.eye(source, dtype=torch.float64)
    ratio = _ratio(target, source)
    positions = torch.arange(-2, source + 2)
    # OpenCV mirrors the coarse image at its first pixel and repeats its last one.
    pixels = positions.abs().clamp(max=source - 1)
    centers = positions.double() * ratio
    weights = _binomial((_positions(target)[:, None] - centers[None, :]) * 2 / ratio)
    return _fold(weights, pixels, source)


def _area(source: int, target: int) -> Tensor:
    """Returns how much of each source pixel lies within each target pixel, on one axis."""
    starts = _positions(target)[:, None] * source / target
    ends = starts + source / target
    left, right = _positions(source)[None, :], _positions(source)[None, :] + 1
    return (torch.minimum(ends, right) - torch.maximum(starts, left)).clamp(min=0)


def _linear_up(source: int, target: int) -> Tensor:
    """Returns linear interpolation with aligned corners: weights max(0, 1 - |distance|)."""
    step = (source - 1) / max(target - 1, 1)
    distance = _positions(target)[:, None] * step - _positions(source)[None, :]
    return (1 - distance.abs()).clamp(min=0)


def _centered_up(source: int, target: int) -> Tensor:
    """Returns linear interpolation between pixel centers; the outermost pixels are repeated."""
    places = ((_positions(target) + 0.5) * source / target - 0.5).clamp(0, source - 1)
    return (1 - (places[:, None] - _positions(source)[None, :]).abs()).clamp(min=0)


_DOWN: dict[Operator, AxisMatrix] = {
    "burt-adelson": _burt_adelson_down,
    "bilinear": _area,
    "block-mean": _area,
    "area-linear": _area,
}
_UP: dict[Operator, AxisMatrix] = {
    "burt-adelson": _burt_adelson_up,
    "bilinear": _linear_up,
    "block-mean": _area,
    "area-linear": _centered_up,
}
