"""How many bits of its noise a generator shows in an image, given the low-pass image.

The 8-bit image x of a level follows from z and l, so its entropy given l is the information that it
has about z,

    H[x | l] = I(z; x | l) <= H[z],

and comparable with the conditional entropy of real images (`lapgan entropy`). It is bracketed, for
each of some low-pass images, by n draws of z:

    lower   sum_i max(0, h(v_i) - 1/2 log2 2 pi e s_i^2)
    upper   1/2 log2 ((2 pi e)^d det(C + I / 12))

v_i are the independent values of which z is made, h(v_i) their differential entropy, and s_i^2 the
mean square error of a linear estimate of v_i from x, fitted to other draws: the error of any
estimate bounds h(v_i | x), and I(z; x) >= sum_i I(v_i; x) for independent values. C is the
covariance of x over the draws, and d the number of its values: x plus uniform noise in
[-1/2, 1/2]^d has the entropy of x, and none of its covariance has more than a Gaussian.

The third figure needs no bound: (tr C)^2 / tr C^2, along how many directions x varies.

References:
    Cover and Thomas (2006), theorem 8.6.5 for the maximum of the entropy, problem 8.7 for whole
    numbers, section 8.6 for the error of an estimate.
"""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lapgan.cascade import Cascade
from lapgan.cascade.blocks import BLOCK
from lapgan.errors import LapganError
from lapgan.evaluation.context import Context, EvaluatedModel
from lapgan.evaluation.measurement import Estimate, Measurement, estimate_mean
from lapgan.evaluation.metrics.base import Metric, only_when_named
from lapgan.evaluation.sections import (
    COUNT_COLUMN,
    ERROR_COLUMN,
    VALUE_COLUMN,
    Column,
    ReportSection,
    tabulate_by_metric,
)
from lapgan.models.contracts import generate
from lapgan.pyramid import image_of, size_of
from lapgan.seeds import generator_of
from lapgan.sizes import size_text

__all__ = ["METRIC", "NoiseUse", "draw_low_pass", "measure_noise_use"]

_log = logging.getLogger("lapgan.evaluation")

_RIDGES = (1e-3, 1e-1, 10.0, 1e3)
# Differential entropies in bits, of a uniform value in [-1, 1] and of a normal one.
_UNIFORM, _NORMAL = 1.0, 0.5 * math.log2(2 * math.pi * math.e)


@dataclass(frozen=True)
class NoiseUse:
    """How much of its noise a level shows; means over low-pass images, with standard errors.

    Args:
        entropy: H[z_k] in bits per image.
        lower: lower bound of H[x | l], in bits per image.
        upper: estimate of an upper bound, in bits per image. n draws make it too small by about
            r (r + 1) / (4 n ln 2) bits, if x varies along r directions. Without any noise in x it
            is 0.25 bits per value.
        dimension: (tr C)^2 / tr C^2 of the covariance of x; 0 if x does not vary.
    """

    entropy: float
    lower: Estimate
    upper: Estimate
    dimension: Estimate


def measure_noise_use(
    cascade: Cascade,
    k: int,
    low: Float[Tensor, "m 3 h w"],
    labels: Tensor | None = None,
    draws: int = 4096,
    seed: int = 0,
) -> NoiseUse:
    """Measures how much of its noise level k of a cascade shows.

    Args:
        cascade: the model.
        k: the level; 0 is the finest; not the coarsest.
        low: some low-pass images l_k in the scale of the nets, with conditioning noise where the
            level has it; `draw_low_pass` draws some.
        labels: their classes, or None without classes.
        draws: n; the first half fits the estimates, a quarter each chooses and measures them.
        seed: of the noise.

    Raises:
        LapganError: the low-pass images do not have the level's size, or there are too few draws.
    """
    if not len(low) or size_of(low) != cascade.sizes[k]:
        raise LapganError(
            f"noise: low-pass images of {size_text(size_of(low))}, expected some of "
            f"{size_text(cascade.sizes[k])}, the size of level {k}."
        )
    if draws < 4 * BLOCK:
        raise LapganError(f"noise: {draws} draws are too few; give at least {4 * BLOCK}.")
    noise = cascade.levels[k].noise
    distribution = _NORMAL if noise.variance == 1 else _UNIFORM
    rows = []
    for index in range(len(low)):
        label = None if labels is None else labels[index : index + 1]
        values, pixels = _draw(cascade, k, low[index : index + 1], label, (draws, seed, index))
        lower, covariance = _lower_bound(values, pixels, distribution), pixels.T.cov()
        rows.append((lower, _upper_bound(covariance), _participation(covariance)))
    columns = torch.tensor(rows).double().T
    return NoiseUse(noise.entropy(cascade.sizes[k]), *(estimate_mean(x) for x in columns))


def draw_low_pass(
    cascade: Cascade, k: int, m: int, seed: int = 0
) -> tuple[Float[Tensor, "m 3 h w"], Tensor | None]:
    """Draws low-pass images l_k of a cascade, of classes that differ; returns them and the classes.

    Args:
        cascade: the model.
        k: the level; 0 is the finest; not the coarsest.
        m: how many, at most 64.
        seed: of the images.

    Raises:
        LapganError: m is too small or too large.
    """
    if not 0 < m <= BLOCK:
        raise LapganError(f"noise: {m} low-pass images, expected 1 to {BLOCK}.")
    stages = next(iter(cascade.stages(BLOCK, seed, finest=k)))
    labels = cascade.labels(BLOCK)
    chosen = torch.arange(m) * BLOCK // m
    low = stages[-1].low
    assert low is not None
    return low[chosen].cpu(), None if labels is None else labels[chosen]


@torch.inference_mode()
def _draw(
    cascade: Cascade, k: int, low: Tensor, label: Tensor | None, key: tuple[int, int, int]
) -> tuple[Float[Tensor, "n r"], Float[Tensor, "n d"]]:
    """Draws images of one low-pass image; returns the values of the noise, and the pixels."""
    draws, *where = key
    level, compute = cascade.levels[k], cascade.compute
    generator = generator_of(*where, k)
    values, pixels = [], []
    for start in range(0, draws, BLOCK):
        count = min(BLOCK, draws - start)
        z = level.noise.sample(count, level.size, generator)
        lows = low.expand(count, -1, -1, -1)
        names = None if label is None else label.expand(count).to(compute.device)
        sigma = compute.place(lows.new_full((count, 1), level.sigma)) if level.sigma else None
        with compute.autocast():
            high = generate(level.generator, compute.place(lows), compute.place(z), names, sigma)
        image = cascade.normalization.denormalize(image_of(high.float().cpu(), lows))
        values.append(level.noise.values_of(z))
        pixels.append(image.flatten(1).double())
    return torch.cat(values).double(), torch.cat(pixels)


def _lower_bound(values: Tensor, pixels: Tensor, entropy: float) -> float:
    """Returns sum_i max(0, h(v_i) - 1/2 log2 2 pi e s_i^2), with s_i^2 of held-out draws."""
    n = len(values)
    fit, choose, test = slice(0, n // 2), slice(n // 2, 3 * n // 4), slice(3 * n // 4, n)
    x, v = pixels - pixels[fit].mean(dim=0), values - values[fit].mean(dim=0)
    products, targets = x[fit].T @ x[fit], x[fit].T @ v[fit]
    eye = torch.eye(len(products), dtype=x.dtype)

    def bound(weights: Tensor, part: slice) -> float:
        errors = (v[part] - x[part] @ weights).square().mean(dim=0)
        bits = entropy - 0.5 * torch.log2(2 * math.pi * math.e * errors)
        return float(bits.clamp(min=0).sum())

    fits = [torch.linalg.solve(products + ridge * len(v[fit]) * eye, targets) for ridge in _RIDGES]
    return bound(max(fits, key=lambda weights: bound(weights, choose)), test)


def _upper_bound(covariance: Tensor) -> float:
    """Returns 1/2 log2 ((2 pi e)^d det(C + I / 12))."""
    variances = torch.linalg.eigvalsh(covariance).clamp(min=0) + 1 / 12
    return float(0.5 * torch.log2(2 * math.pi * math.e * variances).sum())


def _participation(covariance: Tensor) -> float:
    trace, square = covariance.trace(), covariance.square().sum()
    return float(trace.square() / square) if square > 0 else 0.0


def _measure(context: Context, model: EvaluatedModel) -> Iterator[Measurement]:
    cascade = model.pyramid
    if cascade is None:
        return
    counts = context.counts
    for k in reversed(range(len(cascade.levels) - 1)):
        size = cascade.sizes[k]
        if 3 * math.prod(size) > counts.noise_draws:
            _log.warning(
                "noise: %s at %s is left out: its images have more values than the %s draws.",
                *(model.name, size_text(size), f"{counts.noise_draws:,}"),
            )
            continue
        low, labels = draw_low_pass(cascade, k, counts.noise_images, context.seed)
        use = measure_noise_use(cascade, k, low, labels, counts.noise_draws, context.seed)
        yield from _report(model.name, size_text(size), use, context)


def _report(model: str, size: str, use: NoiseUse, context: Context) -> Iterator[Measurement]:
    entropy = Estimate(use.entropy, 0.0, use.lower.n)
    for name, estimate, unit in (
        ("bits of noise", entropy, "bits"),
        ("lower bound of bits shown", use.lower, "bits"),
        ("upper bound of bits shown", use.upper, "bits"),
        ("directions", use.dimension, ""),
    ):
        yield estimate.report(
            subject=model, metric=f"{name} at {size}", section=SECTION.name, seed=context.seed,
            unit=unit, details={"draws": context.counts.noise_draws},
        )  # fmt: skip


SECTION = ReportSection(
    name="noise",
    title="How much of its noise a level shows",
    introduction=(
        "The entropy of a level's noise, and bounds of how much of it can be seen in the 8-bit "
        "image, given the low-pass image. Directions: along how many of them the image varies, "
        "(tr C)^2 / tr C^2 of its covariance. The bits that real images have given the level below "
        "(metric entropy) are in the same unit."
    ),
    tabulate=tabulate_by_metric(
        Column("model", lambda m: m.subject, left=True), VALUE_COLUMN, ERROR_COLUMN, COUNT_COLUMN
    ),
    note=(
        "n low-pass images of the model, ± is the standard error over them. The upper bound is "
        "0.25 bits per value where the noise is ignored. Levels whose images have more values "
        "than there are draws are left out."
    ),
)
# It takes minutes at large sizes.
METRIC = Metric("noise", SECTION, _measure, is_usual=only_when_named)
