"""A small learned density of an image given the next coarser one, p(I_k | I_{k+1}).

Pixels are coded in raster order, the colors of a pixel as red, green, blue:

    p(I_k | I_{k+1}) = Π_i Π_c p(x_ic | x_i1 ... x_i(c-1), context_i)

A linear prediction by least squares comes first, and a net models the rest. With φ_i the context
and s_i a scale,

    t = (x - reference) / s_i,    e = L^-1 (t - W φ_i),    L L^T = Cov[t - W φ_i],  L triangular,

so e_c is the error of the best linear prediction of color c by the context and the colors before
it. W and L are fitted separately for each place of a fine pixel within a coarse one, since the last
pixel of a block is nearly determined by the block's mean. The net gives e_c as a mixture of
logistics, integrated over each of the 256 values of x (Salimans et al., 2017).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lapgan.evaluation.metrics.entropy.contexts import Contexts, LevelImages, Window, draw_pixels
from lapgan.progress import tracked
from lapgan.sizes import size_text

__all__ = ["FLOOR", "Density", "image_bits", "log_mixture"]

COMPONENTS = 5
# This fraction of every probability is uniform, so that no value costs more than 18 bits.
FLOOR = 2.0**-10
UNITS, HEAD_UNITS = 192, 64
BLOCK, ROWS = 4096, 10_000


class Density(nn.Module):
    """p(x | context) for the three colors of a pixel: linear prediction, net, logistic mixture.

    Args:
        window: gathers the context of a pixel.
    """

    linear: Tensor
    factor: Tensor
    absolute: Tensor
    scale: Tensor
    colors_before: Tensor

    def __init__(self, window: Window) -> None:
        super().__init__()
        self.window = window
        self.register_buffer("linear", torch.zeros(window.cells, window.width, 3))
        self.register_buffer("factor", torch.eye(3).repeat(window.cells, 1, 1))
        self.register_buffer("absolute", torch.zeros(window.cells, dtype=torch.bool))
        self.register_buffer("scale", torch.ones(window.width))
        self.register_buffer("colors_before", torch.ones(3, 3).tril(-1)[:, :, None])
        self.first = nn.Linear(window.width, UNITS)
        self.cell = nn.Embedding(window.cells, UNITS)
        self.residual = nn.Sequential(
            nn.SiLU(), nn.Linear(UNITS, UNITS), nn.SiLU(), nn.Linear(UNITS, UNITS)
        )
        self.heads = nn.Linear(UNITS, 3 * HEAD_UNITS)
        self.errors = nn.Parameter(torch.zeros(3, 3, HEAD_UNITS))
        self.out = nn.Parameter(torch.randn(3, HEAD_UNITS, 3 * COMPONENTS) * 0.01)
        means, scales = torch.linspace(-1.5, 1.5, COMPONENTS), torch.full((COMPONENTS,), -1.0)
        self.bias = nn.Parameter(torch.cat([0 * means, means, scales]).repeat(3, 1, 1))
        nn.init.zeros_(self.cell.weight)

    def forward(self, c: Contexts) -> Float[Tensor, "b 3"]:
        """Returns log p of each color given its context and the colors before it, in nats."""
        return log_mixture(c.colors, *self.mixture(c))

    def mixture(self, c: Contexts) -> tuple[Tensor, Tensor, Tensor]:
        """Returns logits, means and log scales of each color's mixture, each (b, 3, components).

        Means and scales are in grey levels. Those of color c depend on the colors before it.
        """
        errors, unit = self._linear_errors(c)
        h = self.first(c.features * self.scale) + self.cell(c.cells)
        h = h + self.residual(h)
        heads = self.heads(F.silu(h)).view(-1, 3, HEAD_UNITS)
        weights = self.errors * self.colors_before
        heads = heads + torch.einsum("bj,cjh->bch", errors.clamp(-6, 6), weights)
        out = torch.baddbmm(self.bias, F.silu(heads).transpose(0, 1), self.out).transpose(0, 1)
        logits, means, log_scales = out.chunk(3, dim=-1)
        # The error is linear in its own color, so x - unit e does not depend on x.
        predicted = (c.colors - unit * errors)[..., None]
        return logits, predicted + unit[..., None] * means, log_scales + unit.log()[..., None]

    def _linear_errors(self, c: Contexts) -> tuple[Tensor, Tensor]:
        """Returns e, and how many grey levels one unit of it is."""
        count, cells = c.features.shape[0], self.window.cells
        every = c.features @ self.linear.transpose(0, 1).reshape(-1, cells * 3)
        predicted = every.view(count, cells, 3)[torch.arange(count), c.cells]
        factor = self.factor[c.cells]
        scale = torch.where(self.absolute[c.cells], 1 / c.contrast, 1.0)
        factor = factor * scale[:, None, None]
        errors = torch.linalg.solve_triangular(
            factor, (_targets(c) - predicted)[..., None], upper=False
        )
        return errors[..., 0], factor.diagonal(dim1=1, dim2=2) * c.contrast[:, None]

    @torch.no_grad()
    def fit_linear(self, level: LevelImages, generator: torch.Generator) -> None:
        """Fits W and L of every cell by least squares on pixels drawn from `level`.

        The scale s_i is the local contrast or 1 grey level, whichever makes the cell's Gaussian
        code shorter: the statistics of natural images scale with contrast, rounding does not.
        """
        period = self.window.periods[1]
        for cell in range(self.window.cells):
            place = divmod(cell, period)
            c = self.window(level, *draw_pixels(level, ROWS, generator, place, self.window.periods))
            relative, absolute = _least_squares(c, None), _least_squares(c, c.contrast)
            self.absolute[cell] = absolute.cost < relative.cost
            best = absolute if absolute.cost < relative.cost else relative
            self.linear[cell], self.factor[cell] = best.weights.float(), best.factor.float()
        c = self.window(level, *draw_pixels(level, ROWS, generator))
        # Features that hardly vary, such as the flags of the border, must not be amplified.
        self.scale.copy_(1 / (c.features.std(dim=0) + 0.05))


def log_mixture(x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
    """Returns log p(x) of values 0 ... 255 under discretised mixtures of logistics, in nats.

        p(x) = (1 - ε) Σ_j π_j [σ((x + 1/2 - μ_j) / s_j) - σ((x - 1/2 - μ_j) / s_j)] + ε / 256

    with the tails beyond 0 and 255 added to these values, so that p sums to 1; ε = 2^-10.

    Args:
        x: values, any shape (...).
        logits: log π up to a constant, (..., components).
        means: μ in grey levels, (..., components).
        log_scales: log s, s in grey levels, (..., components); not taken below -4.

    References:
        Salimans et al. (2017), section 2.1.
    """
    rate = torch.exp(-log_scales.clamp(min=-4))
    centered = x[..., None] - means
    highest, lowest = (x == 255)[..., None], (x == 0)[..., None]
    # σ(a) - σ(b) = σ(a) σ(-b) (1 - e^(b - a)): neither cancels nor underflows.
    below = F.logsigmoid((centered + 0.5) * rate).masked_fill(highest, 0)
    above = F.logsigmoid((0.5 - centered) * rate).masked_fill(lowest, 0)
    width = torch.log(-torch.expm1(-rate)).masked_fill(highest | lowest, 0)
    log_p = torch.logsumexp(below + above + width + logits.log_softmax(dim=-1), dim=-1)
    uniform = torch.full_like(log_p, math.log(FLOOR / 256))
    return torch.logaddexp(log_p + math.log1p(-FLOOR), uniform)


@torch.no_grad()
def image_bits(density: Density, images: LevelImages) -> Float[Tensor, " n"]:
    """Returns -log2 p(I_k | I_{k+1}) of every image, in bits for the whole image."""
    height, width = images.size
    bits = []
    indices = torch.arange(len(images) * height * width)
    for block in tracked(torch.split(indices, BLOCK), f"bits {size_text(images.size)}"):
        row = block // width
        contexts = density.window(images, row // height, row % height, block % width)
        bits.append(-density(contexts).double().sum(dim=1) / math.log(2))
    return torch.cat(bits).view(len(images), -1).sum(dim=1)


@dataclass(frozen=True)
class _Fit:
    """A linear prediction: W, L, and the length of the code with them."""

    weights: Tensor
    factor: Tensor
    cost: float


def _least_squares(c: Contexts, scale: Tensor | None) -> _Fit:
    """Returns W, L and the mean of log |s L|, which is the length of the cell's Gaussian code."""
    s = torch.ones(len(c.cells), 1) if scale is None else scale[:, None]
    x, t = (c.features * s).double(), (_targets(c) * s).double()
    ridge = 1e-4 * x.square().mean() * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(x.T @ x + ridge, x.T @ t)
    residual = t - x @ weights
    factor = torch.linalg.cholesky(
        residual.T @ residual / len(x) + 1e-6 * torch.eye(3, dtype=x.dtype)
    )
    cost = factor.diagonal().log().sum() + 3 * (c.contrast[:, None] / s).log().mean()
    return _Fit(weights, factor, float(cost))


def _targets(c: Contexts) -> Tensor:
    return (c.colors - c.reference) / c.contrast[:, None]
