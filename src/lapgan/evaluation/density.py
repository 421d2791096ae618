"""A small learned density of an image given the next coarser one, p(I_k | I_{k+1}).

Pixels are taken in raster order, the colors of a pixel as red, green, blue:

    p(I_k | I_{k+1}) = Π_i Π_c p(x_ic | x_i1 ... x_i(c-1), context_i)

The context of pixel i is a window of I_k before it in raster order and a window of I_{k+1} around
it, which knows of its future too. Masked convolutions (van den Oord et al., 2016) would see the
same; here the windows are gathered instead and the rest of the net works on single pixels, so that
a minibatch holds pixels of as many images.

A linear prediction by least squares comes first, and a net says what is left. With φ_i the context
and s_i a scale,

    t = (x - reference) / s_i,    e = L^-1 (t - W φ_i),    L L^T = Cov[t - W φ_i],  L triangular,

so e_c is the error of the best linear prediction of color c by the context and the colors before
it. W and L are fitted apart for each place of a fine pixel within a coarse one, since the last
pixel of a block all but follows from the block's mean. The net gives e_c as a mixture of logistics,
integrated over each of the 256 values of x (Salimans et al., 2017).
"""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from lapgan.progress import tracked
from lapgan.sizes import Size

__all__ = [
    "Contexts",
    "Density",
    "LevelImages",
    "Window",
    "image_bits",
    "log_mixture",
    "train_density",
]

COMPONENTS = 5
# A share of every probability is uniform, so that no value costs more than 18 bits.
FLOOR = 2.0**-10
UNITS, HEAD_UNITS = 192, 64
BATCH, BLOCK, ROWS = 512, 4096, 10_000
LEARNING_RATE = 1.5e-3
# The contrast is that of the known neighbours and of one more, with a variance of this.
PRIOR = 100.0
# More places of a pixel within a coarse one than this share one linear prediction.
MAX_CELLS = 64


@dataclass(frozen=True)
class LevelImages:
    """The images of one level, and those of the next coarser one; None at the coarsest."""

    fine: UInt8[Tensor, "n 3 h w"]
    coarse: UInt8[Tensor, "n 3 H W"] | None

    def __len__(self) -> int:
        return len(self.fine)

    @property
    def size(self) -> Size:
        """Height and width of the level."""
        return self.fine.shape[2], self.fine.shape[3]


@dataclass(frozen=True)
class Contexts:
    """What is known of some pixels before they are read, and their colors.

    Args:
        features: φ.
        cells: which of the linear predictions is theirs.
        contrast: root mean square of the context's differences from the reference, in grey levels.
        reference: the coarse pixel they lie in; the pixel before them at the coarsest level.
        colors: x, 0 to 255.
    """

    features: Float[Tensor, "b f"]
    cells: Int64[Tensor, " b"]
    contrast: Float[Tensor, " b"]
    reference: Float[Tensor, "b 3"]
    colors: Float[Tensor, "b 3"]


class Window(nn.Module):
    """Gathers the contexts of single pixels.

    Args:
        size: height and width of the level.
        coarse: height and width of the next coarser level; None at the coarsest.
        mean: mean color, which stands for the pixel before the first.
    """

    mean: Tensor

    def __init__(self, size: Size, coarse: Size | None, mean: Tensor) -> None:
        super().__init__()
        self.size = size
        radius = 3 if coarse else min(5, max(size) - 1)
        square = [(y, x) for y in range(-radius, 1) for x in range(-radius, radius + 1)]
        self.before = [offset for offset in square if offset < (0, 0)]
        self.around = [(y, x) for y in range(-3, 4) for x in range(-3, 4)] if coarse else []
        self.periods = _periods(size, coarse)
        self.register_buffer("mean", mean)

    @property
    def cells(self) -> int:
        """How many places of a fine pixel within the coarse ones are told apart."""
        return self.periods[0] * self.periods[1]

    @property
    def width(self) -> int:
        """How many features a context has."""
        return 4 * len(self.before) + 3 * len(self.around) + 5

    def forward(self, level: LevelImages, n: Tensor, y: Tensor, x: Tensor) -> Contexts:
        """Returns the contexts of the pixels at row y and column x of images n."""
        reference, around = (
            self._around(level.coarse, n, y, x)
            if level.coarse is not None
            else (self._neighbor(level.fine, n, y, x), torch.zeros(len(n), 0, 3))
        )
        before, inside = self._before(level.fine, n, y, x, reference)
        differences = torch.cat([before.flatten(1), around.flatten(1)], dim=1)
        known = 3 * (inside.sum(dim=1) + around.shape[1])
        contrast = ((differences.square().sum(dim=1) + PRIOR) / (known + 1)).sqrt()
        features = torch.cat([
            differences / contrast[:, None],
            inside,
            (reference - 128) / 64,
            contrast.log()[:, None] / 2,
            torch.ones(len(n), 1),
        ], dim=1)  # fmt: skip
        cells = (y % self.periods[0]) * self.periods[1] + x % self.periods[1]
        return Contexts(features, cells, contrast, reference, level.fine[n, :, y, x].float())

    def _around(self, coarse: Tensor, n: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        height, width = coarse.shape[-2:]
        row = (2 * y + 1) * height // (2 * self.size[0])
        column = (2 * x + 1) * width // (2 * self.size[1])
        offsets = torch.tensor(self.around)
        rows = (row[:, None] + offsets[:, 0]).clamp(0, height - 1)
        columns = (column[:, None] + offsets[:, 1]).clamp(0, width - 1)
        reference = coarse[n, :, row, column].float()
        return reference, coarse[n[:, None], :, rows, columns].float() - reference[:, None]

    def _before(
        self, fine: Tensor, n: Tensor, y: Tensor, x: Tensor, reference: Tensor
    ) -> tuple[Tensor, Tensor]:
        offsets = torch.tensor(self.before, dtype=torch.int64).view(-1, 2)
        rows, columns = y[:, None] + offsets[:, 0], x[:, None] + offsets[:, 1]
        inside = (rows >= 0) & (columns >= 0) & (columns < self.size[1])
        colors = fine[n[:, None], :, rows.clamp(min=0), columns.clamp(0, self.size[1] - 1)]
        # Outside the image a clamped index may point ahead of the pixel: nothing may be read there.
        return (colors.float() - reference[:, None]) * inside[..., None], inside.float()

    def _neighbor(self, fine: Tensor, n: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Returns the pixel to the left; above at the left edge; the mean at the first pixel."""
        left = x > 0
        row, column = torch.where(left, y, (y - 1).clamp(min=0)), (x - 1).clamp(min=0)
        known = (left | (y > 0))[:, None]
        return torch.where(known, fine[n, :, row, column].float(), self.mean)


class Density(nn.Module):
    """p(x | context) for the three colors of a pixel: linear prediction, net, logistic mixture.

    Args:
        window: what a pixel may look at.
    """

    linear: Tensor
    spread: Tensor
    absolute: Tensor
    scale: Tensor
    colors_before: Tensor

    def __init__(self, window: Window) -> None:
        super().__init__()
        self.window = window
        self.register_buffer("linear", torch.zeros(window.cells, window.width, 3))
        self.register_buffer("spread", torch.eye(3).repeat(window.cells, 1, 1))
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
        known = self.errors * self.colors_before
        heads = heads + torch.einsum("bj,cjh->bch", errors.clamp(-6, 6), known)
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
        spread = self.spread[c.cells]
        scale = torch.where(self.absolute[c.cells], 1 / c.contrast, 1.0)
        spread = spread * scale[:, None, None]
        errors = torch.linalg.solve_triangular(
            spread, (_targets(c) - predicted)[..., None], upper=False
        )
        return errors[..., 0], spread.diagonal(dim1=1, dim2=2) * c.contrast[:, None]

    @torch.no_grad()
    def fit_linear(self, level: LevelImages, generator: torch.Generator) -> None:
        """Fits W and L of every cell by least squares on pixels drawn from `level`.

        The scale s_i is the local contrast or 1 grey level, whichever makes the cell's Gaussian
        code shorter: a linear law of natural images scales with contrast, rounding does not.
        """
        period = self.window.periods[1]
        for cell in range(self.window.cells):
            place = divmod(cell, period)
            c = self.window(level, *_pixels(level, ROWS, generator, place, self.window.periods))
            relative, absolute = _least_squares(c, None), _least_squares(c, c.contrast)
            self.absolute[cell] = absolute.cost < relative.cost
            best = absolute if absolute.cost < relative.cost else relative
            self.linear[cell], self.spread[cell] = best.weights.float(), best.spread.float()
        c = self.window(level, *_pixels(level, ROWS, generator))
        # Features that hardly vary, such as the flags of the border, must not be blown up.
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

    Source: Salimans et al. (2017), section 2.1.
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


def train_density(train: LevelImages, minutes: float, seed: int) -> Density:
    """Trains a density on single pixels of `train`, each image equally likely.

    AdamW with a cosine schedule; the averaged weights are returned.

    Args:
        train: the images.
        minutes: CPU time of this process, so that other work on the machine costs no training.
        seed: of weights and minibatches; how many steps there is time for depends on the machine.
    """
    clock = _Clock(minutes)
    generator = torch.Generator().manual_seed(seed)
    density = _new_density(train, seed)
    density.fit_linear(train, generator)
    optimizer = torch.optim.AdamW(density.parameters(), betas=(0.9, 0.99), weight_decay=1e-4)
    average = copy.deepcopy(density)
    for step, share in enumerate(clock.shares(f"density {train.size[0]}x{train.size[1]}"), start=1):
        rate = LEARNING_RATE * min(1.0, step / 50) * (1 + math.cos(math.pi * share)) / 2
        optimizer.param_groups[0]["lr"] = rate
        contexts = density.window(train, *_pixels(train, BATCH, generator))
        optimizer.zero_grad()
        (-density(contexts).sum(dim=1).mean()).backward()
        nn.utils.clip_grad_norm_(density.parameters(), 5.0)
        optimizer.step()
        _follow(average, density, min(0.995, step / (step + 10)))
    return average


@torch.no_grad()
def image_bits(density: Density, images: LevelImages) -> Float[Tensor, " n"]:
    """Returns -log2 p(I_k | I_{k+1}) of every image, in bits for the whole image."""
    height, width = images.size
    bits = []
    indices = torch.arange(len(images) * height * width)
    for block in tracked(torch.split(indices, BLOCK), f"bits {height}x{width}"):
        row = block // width
        contexts = density.window(images, row // height, row % height, block % width)
        bits.append(-density(contexts).double().sum(dim=1) / math.log(2))
    return torch.cat(bits).view(len(images), -1).sum(dim=1)


class _Clock:
    def __init__(self, minutes: float) -> None:
        self.start, self.seconds = time.process_time(), max(60 * minutes, 1e-9)

    def share(self) -> float:
        return (time.process_time() - self.start) / self.seconds

    def shares(self, what: str) -> Iterator[float]:
        """Yields the share of the time that is over, until it is."""
        for percent in tracked(range(100), what):
            while (share := self.share()) < (percent + 1) / 100:
                yield share


@dataclass(frozen=True)
class _Fit:
    weights: Tensor
    spread: Tensor
    cost: float


def _least_squares(c: Contexts, scale: Tensor | None) -> _Fit:
    """Returns W, L and the mean of log |s L|, the length of the cell's Gaussian code."""
    s = torch.ones(len(c.cells), 1) if scale is None else scale[:, None]
    x, t = (c.features * s).double(), (_targets(c) * s).double()
    ridge = 1e-4 * x.square().mean() * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(x.T @ x + ridge, x.T @ t)
    left = t - x @ weights
    spread = torch.linalg.cholesky(left.T @ left / len(x) + 1e-6 * torch.eye(3, dtype=x.dtype))
    cost = spread.diagonal().log().sum() + 3 * (c.contrast[:, None] / s).log().mean()
    return _Fit(weights, spread, float(cost))


def _targets(c: Contexts) -> Tensor:
    return (c.colors - c.reference) / c.contrast[:, None]


def _new_density(train: LevelImages, seed: int) -> Density:
    mean = train.fine[:2000].float().mean(dim=(0, 2, 3))
    coarse = None if train.coarse is None else (train.coarse.shape[2], train.coarse.shape[3])
    window = Window(train.size, coarse, mean)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return Density(window)


def _pixels(
    level: LevelImages,
    count: int,
    generator: torch.Generator,
    place: tuple[int, int] = (0, 0),
    periods: tuple[int, int] = (1, 1),
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws image, row and column of pixels at `place` modulo `periods`."""
    rows, columns = (side // period for side, period in zip(level.size, periods, strict=True))
    n, y, x = (
        torch.randint(high, (count,), generator=generator) for high in (len(level), rows, columns)
    )
    return n, y * periods[0] + place[0], x * periods[1] + place[1]


def _periods(size: Size, coarse: Size | None) -> tuple[int, int]:
    """Returns after how many rows and columns the fine grid meets the coarse one again."""
    if coarse is None:
        periods = size
    else:
        periods = (size[0] // math.gcd(size[0], coarse[0]), size[1] // math.gcd(size[1], coarse[1]))
    return periods if periods[0] * periods[1] <= MAX_CELLS else (1, 1)


@torch.no_grad()
def _follow(average: nn.Module, net: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)
