"""Convolutions with large kernels by the convolution theorem, for CPUs without matrix units.

A 7x7 kernel costs 49 multiplications for each pair of maps and each pixel. In the frequency domain
a pair costs one complex multiplication per frequency, that is about 2.5 per pixel, for the price of
transforming the maps once each. The images of a pyramid are small, so the transforms are plain
products with the matrices of the discrete Fourier transform, which take any length:

    X = F x F^T,  Y = X conj(W),  y = F^-1 Y F^-T / N^2     with N = size + radius

A length of `size + radius` is enough for a kernel that reaches `radius` pixels beyond the edge:
what wraps around falls on the zeros. Complex numbers are kept as pairs of real tensors, since real
matrix products are the fastest thing that a CPU does.
"""

import math
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["fourier_conv2d"]

Complex = tuple[Tensor, Tensor]


def fourier_conv2d(
    x: Float[Tensor, "b c h w"], weight: Float[Tensor, "o c k k"]
) -> Float[Tensor, "b o h w"]:
    """Computes `conv2d(x, weight, padding=k // 2)` in the frequency domain.

    Gradients are exact; a second derivative is not supported and raises.

    Args:
        x: maps, float32 or float64.
        weight: square kernels of odd size k.
    """
    y: Tensor = _FourierConv2d.apply(x, weight)
    return y


class _FourierConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        grid = _Grid.of(x, weight)
        spectrum, kernel = grid.forward_maps(x), grid.forward_kernel(weight)
        ctx.grid = grid
        ctx.save_for_backward(*spectrum, *kernel)
        return grid.inverse_maps(_times(spectrum, kernel))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        xr, xi, kr, ki = ctx.saved_tensors
        spectrum = ctx.grid.forward_maps(grad)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            transposed = (kr.transpose(1, 2), ki.transpose(1, 2))
            grad_x = ctx.grid.inverse_maps(_times(spectrum, transposed, conjugate=True))
        if ctx.needs_input_grad[1]:
            transposed = (xr.transpose(1, 2), xi.transpose(1, 2))
            grad_weight = ctx.grid.inverse_kernel(_times(transposed, spectrum, conjugate=True))
        return grad_x, grad_weight


def _times(a: Complex, b: Complex, conjugate: bool = False) -> Complex:
    """Returns the batched complex matrix product a b, or a conj(b)."""
    (ar, ai), (br, bi) = a, b
    sign = 1 if conjugate else -1
    real = torch.bmm(ar, br).baddbmm_(ai, bi, alpha=sign)
    imaginary = torch.bmm(ai, br).baddbmm_(ar, bi, alpha=-sign)
    return real, imaginary


class _Grid:
    """The frequencies of one convolution: where its maps and its kernel lie on the grid."""

    def __init__(self, height: int, width: int, radius: int, like: Tensor) -> None:
        self.height, self.width, self.radius = height, width, radius
        self.kind = (like.dtype, like.device)

    @staticmethod
    def of(x: Tensor, weight: Tensor) -> "_Grid":
        return _Grid(x.shape[-2], x.shape[-1], weight.shape[-1] // 2, x)

    def rows(self, start: int, count: int) -> Complex:
        length = self.height + self.radius
        return _fourier_matrix(length, length // 2 + 1, start, count, *self.kind)

    def columns(self, start: int, count: int) -> Complex:
        length = self.width + self.radius
        return _fourier_matrix(length, length, start, count, *self.kind)

    def forward_maps(self, x: Tensor) -> Complex:
        """Transforms maps (B, C, H, W) to a spectrum (frequencies, B, C)."""
        return _forward(x, self.rows(0, self.height), self.columns(0, self.width))

    def inverse_maps(self, spectrum: Complex) -> Tensor:
        """Transforms a spectrum (frequencies, B, C) to maps (B, C, H, W)."""
        return self._inverse(spectrum, (0, self.height), (0, self.width))

    def forward_kernel(self, weight: Tensor) -> Complex:
        """Transforms kernels (O, C, k, k), centered at 0, to conj(W) as (frequencies, C, O)."""
        span = (-self.radius, 2 * self.radius + 1)
        real, imaginary = _forward(weight.transpose(0, 1), self.rows(*span), self.columns(*span))
        return real, imaginary.neg_()

    def inverse_kernel(self, spectrum: Complex) -> Tensor:
        """Transforms X conj(G), the correlation of maps with gradients, to kernels (O, C, k, k)."""
        span = (-self.radius, 2 * self.radius + 1)
        return self._inverse(spectrum, span, span).transpose(0, 1)

    def _inverse(
        self, spectrum: Complex, rows: tuple[int, int], columns: tuple[int, int]
    ) -> Tensor:
        return _inverse(
            spectrum,
            self.rows(*rows),
            self.columns(*columns),
            _hermitian(self.height + self.radius),
        )


@lru_cache(maxsize=256)
def _fourier_matrix(
    length: int, frequencies: int, start: int, count: int, dtype: torch.dtype, device: torch.device
) -> Complex:
    """Returns cos and sin of 2 pi f x / length, each (frequencies, count), x from `start` on."""
    # Tensors of inference mode could not be differentiated through later.
    with torch.inference_mode(False):
        x = torch.arange(start, start + count, dtype=torch.float64)
        f = torch.arange(frequencies, dtype=torch.float64)
        angle = 2 * math.pi * (f[:, None] * x[None, :]).remainder(length) / length
        return angle.cos().to(device, dtype), angle.sin().to(device, dtype)


def _hermitian(length: int) -> Tensor:
    """Returns how often each of the length // 2 + 1 kept frequencies counts in a real signal."""
    weight = torch.full((length // 2 + 1,), 2.0, dtype=torch.float64)
    weight[0] = 1
    if length % 2 == 0:
        weight[-1] = 1
    return weight / length


def _forward(x: Tensor, rows: Complex, columns: Complex) -> Complex:
    b, c, h, w = x.shape
    (rc, rs), (cc, cs) = rows, columns
    pixels = x.permute(2, 3, 0, 1).reshape(h, w * b * c)
    # Real and imaginary parts of each row frequency lie one after the other, as one column.
    both = (torch.stack((rc, -rs), dim=1).view(-1, h) @ pixels).view(len(rc), 2 * w, b * c)
    real = torch.cat((cc, cs), dim=1) @ both
    imaginary = torch.cat((-cs, cc), dim=1) @ both
    frequencies = len(rc) * len(cc)
    return real.view(frequencies, b, c), imaginary.view(frequencies, b, c)


def _inverse(spectrum: Complex, rows: Complex, columns: Complex, weight: Tensor) -> Tensor:
    (rc, rs), (cc, cs) = rows, columns
    b, c = spectrum[0].shape[1:]
    frequencies, h, length, w = rc.shape[0], rc.shape[1], cc.shape[0], cc.shape[1]
    real, imaginary = (part.view(frequencies, length, b * c) for part in spectrum)
    both = torch.cat((cc, cs), dim=1).T @ real
    both.baddbmm_(torch.cat((-cs, cc), dim=1).T.expand(frequencies, -1, -1), imaginary)
    scale = (weight / length).to(rc)[:, None]
    pixels = torch.stack((rc * scale, -rs * scale), dim=1).view(-1, h).T @ both.view(
        2 * frequencies, w * b * c
    )
    return pixels.view(h, w, b, c).permute(2, 3, 0, 1)
