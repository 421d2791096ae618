"""Criteria of model selection during training: what the best averaged G of a level is.

    lapgan train RECIPE --out RUN --select parzen

Both criteria score the level alone: it gets the low-pass images of real held-out images. These are
the last quarter, at most 1,000, on which an evaluation chooses widths; its likelihoods are of the
others. Images and noise are the same for each score, so that scores differ by the weights alone.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lapgan.errors import LapganError
from lapgan.evaluation.metrics.parzen import choose_width
from lapgan.evaluation.real import RealImages, shuffle_classes
from lapgan.models.contracts import generate
from lapgan.pyramid import image_of
from lapgan.seeds import generator_of
from lapgan.training.examples import real_stage
from lapgan.training.selection import Criterion, Score, ScoredLevel

__all__ = ["CRITERIA", "FrechetCriterion", "ParzenCriterion", "choose_criterion"]

_HELD_OUT = 1_000
_BATCH = 128
# Streams of the noise for scores.
_STREAM = 7


@dataclass(frozen=True)
class ParzenCriterion:
    """The approximate Parzen log-likelihood of held-out residuals, in nats per image.

        mean_i log 1/n sum_j N(h_i; G(z_ij, l_i), sigma^2 I),    j = 1 ... n

    Each image has windows of its own, on residuals of its own low-pass image; at the coarsest level
    all have those on the same samples. sigma is chosen by the first half of the images, the value
    is of the other half. It is in the scale of the nets.

    The authors' code takes, after each epoch, the mean distance of 200 held-out images to the
    nearest of 128 that G generates from their low-pass images, of the last G, each time with other
    images and other noise. This is its limit for sigma -> 0.

    Args:
        every: a score is due whenever another so many images were seen.
        images: how many held-out images, at most.
        draws: n; at the coarsest level 16 times as many samples.
    """

    name: ClassVar[str] = "parzen"
    every: int = 50_000
    images: int = 400
    draws: int = 32

    def prepare(self, target: ScoredLevel) -> Score:
        """Makes the score of a level."""
        examples = _Examples.of(target, self.images)
        unit = examples.high.std(dim=0, correction=0).square().mean().sqrt().item() or 1.0

        def score(generator: nn.Module) -> float:
            if examples.low is None:
                samples = examples.generate(generator, 0, 16 * self.draws)
                squares = torch.cdist(examples.high.flatten(1), samples.flatten(1)).square()
            else:
                draws = (examples.generate(generator, j) for j in range(self.draws))
                squares = torch.stack(
                    [(h - examples.high).square().flatten(1).sum(dim=1) for h in draws], dim=1
                )
            return parzen_score(squares.double(), examples.high[0].numel(), unit)

        return score


def parzen_score(squares: Float[Tensor, "m n"], dimension: int, unit: float) -> float:
    """Returns the mean log density of the second half of m images, with sigma of the first half.

    Args:
        squares: square distances of each image to its n centers.
        dimension: values per image.
        unit: standard deviation of a value, which places the grid of sigma.
    """
    half = len(squares) // 2

    def mean_log(part: Tensor, sigma: float) -> float:
        logs = (-part / (2 * sigma**2)).logsumexp(dim=1) - math.log(part.shape[1])
        return float(logs.mean()) - dimension / 2 * math.log(2 * math.pi * sigma**2)

    width = choose_width(
        lambda sigmas: torch.tensor([mean_log(squares[:half], s) for s in sigmas.tolist()]), unit
    )
    return mean_log(squares[half:], width.sigma)


@dataclass(frozen=True)
class FrechetCriterion:
    """The negative Frechet distance of features, -fd-lite0, of the level's images.

    Generated images, from the low-pass images of held-out ones, are compared with as many training
    images at the level's size. Needs the extra `eval`.

    Args:
        every: a score is due whenever another so many images were seen.
        images: how many; more than the 1,280 features.
    """

    name: ClassVar[str] = "fd"
    every: int = 50_000
    images: int = 1_500

    def prepare(self, target: ScoredLevel) -> Score:
        """Makes the score of a level.

        Raises:
            LapganError: the extra is not installed, or there are too few training images.
        """
        from lapgan.evaluation.features.extract import extract_features, load_extractor
        from lapgan.evaluation.metrics.frechet import frechet_distance

        extractor = load_extractor("lite0")
        examples = _Examples.of(target, _HELD_OUT)
        training = shuffle_classes(target.training)
        count = min(self.images, len(training))
        real = RealImages(training, training, target.recipe.sizes[0]).train(count)
        stage = real_stage(real, target.recipe, target.level, target.normalization)
        denormalize = target.normalization.denormalize
        real_features = extract_features(denormalize(stage.image), extractor)

        def score(generator: nn.Module) -> float:
            high = examples.generate(generator, 0, count)
            rows = torch.arange(count) % len(examples.high)
            low = None if examples.low is None else examples.low[rows]
            fake = extract_features(denormalize(image_of(high, low)), extractor)
            return -frechet_distance(real_features, fake, target.seed).value

        return score


CRITERIA: dict[str, Callable[[int], Criterion]] = {
    "parzen": lambda every: ParzenCriterion(every=every),
    "fd": lambda every: FrechetCriterion(every=every),
}


def choose_criterion(name: str, every: int) -> Criterion:
    """Returns the criterion that a user named.

    Raises:
        LapganError: there is none of that name.
    """
    if name not in CRITERIA:
        raise LapganError(f"--select {name}: expected one of {', '.join(CRITERIA)}.")
    return CRITERIA[name](every)


@dataclass(frozen=True, eq=False)
class _Examples:
    """Real held-out residuals and low-pass images of a level, and noise for them.

    Args:
        target: the level.
        high: h_k, or images at the coarsest level.
        low: l_k, or None at the coarsest level.
        label: classes, or None.
    """

    target: ScoredLevel
    high: Tensor
    low: Tensor | None
    label: Tensor | None

    @classmethod
    def of(cls, target: ScoredLevel, most: int) -> "_Examples":
        held_out = shuffle_classes(target.held_out)
        count = min(most, _HELD_OUT, len(held_out) // 4)
        if count < 2:
            raise LapganError(
                f"{held_out.name}: {len(held_out)} held-out images are too few to select by; give "
                "at least 8."
            )
        real = RealImages(held_out, held_out, target.recipe.sizes[0])
        stage = real_stage(
            real.validation(count), target.recipe, target.level, target.normalization
        )
        label = None
        if held_out.labels is not None and target.recipe.data.classes:
            label = torch.from_numpy(held_out.labels[-count:].copy())
        return cls(target, stage.high, stage.low, label)

    @torch.inference_mode()
    def generate(self, generator: nn.Module, stream: int, count: int | None = None) -> Tensor:
        """Generates `count` residuals, of the examples in turn; by default one of each."""
        count = count or len(self.high)
        level, compute = self.target.level, self.target.compute
        noise = generator_of(self.target.seed, *level.size, _STREAM, stream)
        highs = []
        for start in range(0, count, _BATCH):
            rows = torch.arange(start, min(start + _BATCH, count)) % len(self.high)
            z = level.noise.sample(len(rows), level.size, noise)
            low = None if self.low is None else compute.place(self.low[rows])
            label = None if self.label is None else self.label[rows].to(compute.device)
            with compute.autocast():
                highs.append(generate(generator, low, compute.place(z), label).float().cpu())
        return torch.cat(highs)
