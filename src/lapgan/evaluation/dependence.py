"""Dependence on the level below: is a low-resolution parrot followed by a high-resolution one?

Four figures a level, each 0 at one end and known at the other:

    fidelity      rms(d(I~_k) - I~_{k+1}), own pairs against shuffled ones
    diversity     E Var(h~_k | l_k) / Var(h~_k), the share of the residual that is noise
    information   what a critic learns to tell of l_k from h_k, over whole images
    local         the same over patches of 8x8 pixels, where it does not saturate

Real images stand beside: their fidelity is 0 by construction, their information what there is to
find in the data.

All images come in random order and in couples: the two of a couple lend each other their low-pass
image for a shuffled pair, and half their squared difference is an unbiased estimate of the
variance. Couples are independent of each other, hence the standard errors.

Source: the questions are those of Huszár's comment (inference.vc, 2015) on the model of Denton et
al. (2015).
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from lapgan.cascade import BLOCK, Cascade
from lapgan.errors import LapganError
from lapgan.evaluation.critic import Critic, Information, judge
from lapgan.evaluation.estimate import Estimate, mean_estimate, quotient, ratio_estimate
from lapgan.progress import tracked
from lapgan.pyramid import downsample, gaussian_pyramid, size_of, upsample
from lapgan.sizes import Size

__all__ = ["Diversity", "Fidelity", "LevelDependence", "Tie", "measure_dependence"]

PATCH = 8

# Among so many a partner is searched, which caps the information at 8 bits.
_CANDIDATES = 4 * BLOCK
# Patches are cheap beside the images they are cut from, so each block lends them several times.
_PLACES = 4


@dataclass(frozen=True)
class Fidelity:
    """How far the image of a level, made small again, is from the one it grew from.

    Args:
        own: root mean square of d(I_k) - I_{k+1}, in grey levels of 0 to 255, neither rounded nor
            clipped.
        shuffled: the same with the I_{k+1} of another image.
        interpolated: the same for d(u(I_{k+1})), which is what a residual of zero would give.
        ratio: own / shuffled, from 0, wholly faithful, to 1, no tie.
    """

    own: Estimate
    shuffled: Estimate
    interpolated: Estimate
    ratio: Estimate


@dataclass(frozen=True)
class Diversity:
    """How much of a generated residual is noise, by the law of total variance.

        Var(h) = E Var(h | l) + Var E(h | l)

    Variances are of each pixel over images, then averaged over pixels.

    Args:
        given_low: standard deviation of h~_k over z, given l_k (and the class), in grey levels.
        overall: standard deviation of h~_k over images, in grey levels.
        real: standard deviation of the real h_k, in grey levels.
        share: given_low^2 / overall^2, from 0, the noise is ignored, to 1, l_k is ignored.
        relative_to_real: given_low / real.
    """

    given_low: Estimate
    overall: Estimate
    real: Estimate
    share: Estimate
    relative_to_real: Estimate


@dataclass(frozen=True)
class Tie:
    """How pairs of a low-pass image and a residual belong together.

    Args:
        fidelity: of the image to the one below.
        information: between whole images.
        local: between patches of at most 8x8 pixels at the same place, averaged over places.
    """

    fidelity: Fidelity
    information: Information
    local: Information


@dataclass(frozen=True)
class LevelDependence:
    """What ties one level of a cascade to the level below, and the same for real images.

    Args:
        size: height and width of the level, in pixels.
        seed: what all of it follows from.
        generated: of the cascade's own images.
        real: of the given images.
        diversity: of the residuals given one low-pass image.
    """

    size: Size
    seed: int
    generated: Tie
    real: Tie
    diversity: Diversity


def measure_dependence(
    cascade: Cascade,
    images: UInt8[Tensor, "n 3 h w"],
    n: int = 1024,
    training: int = 2048,
    seed: int = 0,
) -> list[LevelDependence]:
    """Measures how each level of a cascade depends on the one below.

    With classes, labels are balanced and in random order; pairs are shuffled across classes.

    Args:
        cascade: the model.
        images: real images of the finest size that it was not trained on, more than n by at least
            64; beyond n they train the critics, again and again if there are few.
        n: pairs that figures are taken of, at least 64, rounded down to a multiple of 64 (of 256
            from there on); diversity takes a quarter of them.
        training: pairs that each critic learns from, at least 128, in batches of 64, the last of
            which fits its gain; each generated one is seen once.
        seed: the same seed gives the same figures.

    Returns:
        one entry a level, finest first, without the coarsest, which depends on none.

    Raises:
        LapganError: the images do not have the finest size, or there are too few.
    """
    _check(cascade, images, n, training)
    if len(cascade.levels) == 1:
        return []
    n, training = _whole(n, min(n - n % BLOCK, _CANDIDATES)), _whole(training, BLOCK)
    order, learned, judged, varied, *critics = _seeds(seed, 6)
    real = images[torch.randperm(len(images), generator=_generator(order))]
    held_out, others = real[:n], real[n:]
    generated_ties = _ties(
        cascade,
        _bar(_generated(cascade, training, learned), "generated: critics learn", training),
        _bar(_generated(cascade, n, judged), "generated: critics judge", n),
        critics[0],
    )
    real_ties = _ties(
        cascade,
        _bar(_real(cascade, _cycled(others, training)), "real: critics learn", training),
        _bar(_real(cascade, torch.split(held_out, BLOCK)), "real: critics judge", n),
        critics[1],
    )
    lows = max(_whole(n // 4, BLOCK), BLOCK)
    diversities = _diversities(cascade, lows, held_out, varied)
    return [
        LevelDependence(size, seed, generated, real_tie, diversity)
        for size, generated, real_tie, diversity in zip(
            cascade.sizes, generated_ties, real_ties, diversities, strict=False
        )
    ]


@dataclass(frozen=True)
class _Pairs:
    """A block at one level, in the scale of the nets: I_{k+1}, l_k = u(I_{k+1}) and h_k."""

    coarse: Tensor
    low: Tensor
    high: Tensor


# For each block, the pairs of every level but the coarsest, finest first.
_Stream = Iterable[list[_Pairs]]


def _generated(cascade: Cascade, n: int, seed: int) -> _Stream:
    for steps in cascade.steps(n, seed, _labels(cascade, n, seed)):
        # Tensors made in inference mode cannot take part in the training of a critic.
        lows = [None if low is None else low.clone() for low, _ in reversed(steps)]
        images = [image.clone() for _, image in reversed(steps)]
        yield [
            _Pairs(coarse, low, image - low)
            for (image, coarse), low in zip(itertools.pairwise(images), lows, strict=False)
            if low is not None
        ]


def _real(cascade: Cascade, blocks: Iterable[Tensor]) -> _Stream:
    for pixels in blocks:
        images = gaussian_pyramid(
            cascade.normalization.normalize(pixels), cascade.sizes, cascade.operator
        )
        lows = [
            upsample(coarse, size, cascade.operator)
            for coarse, size in zip(images[1:], cascade.sizes, strict=False)
        ]
        yield [
            _Pairs(coarse, low, image - low)
            for (image, coarse), low in zip(itertools.pairwise(images), lows, strict=True)
        ]


def _ties(cascade: Cascade, training: _Stream, held_out: _Stream, seed: int) -> list[Tie]:
    examiners = [_Examiner(cascade, s) for s in _seeds(seed, len(cascade.levels) - 1)]
    for level_pairs in training:
        for examiner, pairs in zip(examiners, level_pairs, strict=True):
            examiner.learn(pairs)
    for examiner in examiners:
        examiner.calibrate()
    for level_pairs in held_out:
        for examiner, pairs in zip(examiners, level_pairs, strict=True):
            examiner.examine(pairs)
    return [examiner.tie() for examiner in examiners]


class _Examiner:
    """Trains the critics of one level, then collects what held-out pairs show."""

    def __init__(self, cascade: Cascade, seed: int) -> None:
        whole, local, places = _seeds(seed, 3)
        self.cascade = cascade
        self.whole, self.local = Critic(whole, cascade.compute), Critic(local, cascade.compute)
        self.places = _generator(places)
        self.fresh: _Pairs | None = None
        self.distances: list[Tensor] = []
        self.waiting: list[_Pairs] = []
        self.whole_scores: list[Tensor] = []
        self.local_scores: list[Tensor] = []

    def learn(self, pairs: _Pairs) -> None:
        """Learns the pairs before these; the last ones are left for the critics' gains."""
        if self.fresh is not None:
            self.whole.learn(self.fresh.low, self.fresh.high)
            for low, high in self._patches(self.fresh.low, self.fresh.high):
                self.local.learn(low, high)
        self.fresh = pairs

    def calibrate(self) -> None:
        assert self.fresh is not None
        self.whole.calibrate(self.fresh.low, self.fresh.high)
        self.local.calibrate(*next(self._patches(self.fresh.low, self.fresh.high)))

    def examine(self, pairs: _Pairs) -> None:
        self.distances.append(_distances(self.cascade, pairs))
        self.waiting.append(pairs)
        if len(self.waiting) == _CANDIDATES // BLOCK:
            self._judge()

    def tie(self) -> Tie:
        if self.waiting:
            self._judge()
        return Tie(
            fidelity=_fidelity(torch.cat(self.distances)),
            information=judge(self.whole_scores),
            local=judge(self.local_scores),
        )

    def _judge(self) -> None:
        low = torch.cat([pairs.low for pairs in self.waiting])
        high = torch.cat([pairs.high for pairs in self.waiting])
        self.waiting = []
        self.whole_scores.append(self.whole.scores(low, high)[None])
        self.local_scores.append(
            torch.stack([self.local.scores(*patch) for patch in self._patches(low, high)])
        )

    def _patches(self, low: Tensor, high: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Cuts patches from low-pass images and residuals, at random places."""
        height, width = size_of(low)
        h, w = min(PATCH, height), min(PATCH, width)
        for _ in range(_PLACES):
            top = int(torch.randint(height - h + 1, (), generator=self.places))
            left = int(torch.randint(width - w + 1, (), generator=self.places))
            window = (..., slice(top, top + h), slice(left, left + w))
            yield low[window], high[window]


def _distances(cascade: Cascade, pairs: _Pairs) -> Tensor:
    """Returns the mean square distances own, shuffled, interpolated of each couple, (B / 2, 3)."""

    def mean_square(image: Tensor, coarse: Tensor) -> Tensor:
        reduced = downsample(image, size_of(coarse), cascade.operator)
        difference = cascade.normalization.gray_levels(reduced - coarse)
        return _couples(difference.square()).mean(dim=(1, 2, 3, 4))

    image, swapped = pairs.low + pairs.high, _couples(pairs.coarse).flip(1).flatten(0, 1)
    return torch.stack(
        (
            mean_square(image, pairs.coarse),
            mean_square(image, swapped),
            mean_square(pairs.low, pairs.coarse),
        ),
        dim=1,
    )


def _fidelity(distances: Tensor) -> Fidelity:
    own, shuffled, interpolated = distances.T
    return Fidelity(
        own=mean_estimate(own).root(),
        shuffled=mean_estimate(shuffled).root(),
        interpolated=mean_estimate(interpolated).root(),
        ratio=ratio_estimate(own, shuffled).root(),
    )


def _diversities(cascade: Cascade, lows: int, real: Tensor, seed: int) -> list[Diversity]:
    """Compares two residuals of one low-pass image with those of two, at every level."""
    images, *draws = _seeds(seed, 1 + lows // BLOCK)
    labels = _labels(cascade, lows, images)
    blocks = _bar(_generated(cascade, lows, images), "diversity", lows)
    label_blocks = [None] * len(draws) if labels is None else torch.split(labels, BLOCK)
    generated = [
        [
            _variances(cascade, k, pairs.low, label, draw)
            for k, pairs in enumerate(level_pairs)
        ]
        for level_pairs, label, draw in zip(blocks, label_blocks, draws, strict=True)
    ]  # fmt: skip
    truths = [
        [_half_square(cascade, _couples(pairs.high), 1) for pairs in level_pairs]
        for level_pairs in _real(cascade, torch.split(real, BLOCK))
    ]
    return [
        _diversity(torch.cat(ours), torch.cat(truth))
        for ours, truth in zip(zip(*generated, strict=True), zip(*truths, strict=True), strict=True)
    ]


def _variances(cascade: Cascade, k: int, low: Tensor, label: Tensor | None, seed: int) -> Tensor:
    """Returns Var(h~_k | l_k) and Var(h~_k) as each couple estimates them, (B / 2, 2)."""
    twice = None if label is None else label.repeat(2)
    high = cascade.residuals(k, low.repeat(2, 1, 1, 1), seed, twice)
    # (B / 2 couples, 2 low-pass images, 2 draws, 3, H, W)
    high = high.reshape(2, -1, 2, *high.shape[1:]).permute(1, 2, 0, 3, 4, 5)
    return torch.stack((_half_square(cascade, high, 2), _half_square(cascade, high, 1)), dim=1)


def _half_square(cascade: Cascade, x: Tensor, dim: int) -> Tensor:
    """Returns E (a - b)^2 / 2 over all but the couples: the variance between the two of `dim`."""
    difference = cascade.normalization.gray_levels(x.select(dim, 0) - x.select(dim, 1))
    return difference.square().flatten(1).mean(dim=1) / 2


def _diversity(variances: Tensor, truth: Tensor) -> Diversity:
    given_low, overall = variances.T
    noise, real = mean_estimate(given_low).root(), mean_estimate(truth).root()
    return Diversity(
        given_low=noise,
        overall=mean_estimate(overall).root(),
        real=real,
        share=ratio_estimate(given_low, overall),
        relative_to_real=quotient(noise, real),
    )


def _check(cascade: Cascade, images: Tensor, n: int, training: int) -> None:
    height, width = cascade.sizes[0]
    if images.dtype != torch.uint8 or images.shape[1:] != (3, height, width):
        raise LapganError(
            f"images: expected uint8 (N, 3, {height}, {width}), the model's finest size, found "
            f"{images.dtype} {tuple(images.shape)}; crop or resize them first."
        )
    if n < BLOCK or training < 2 * BLOCK:
        raise LapganError(
            f"dependence: n = {n} must be at least {BLOCK}, training = {training} at least "
            f"{2 * BLOCK}."
        )
    if len(images) < n + BLOCK:
        raise LapganError(
            f"dependence: {len(images)} images are too few for n = {n}; give at least {n + BLOCK}, "
            "of which the first n are judged and the others train a critic, or lower n."
        )


def _labels(cascade: Cascade, n: int, seed: int) -> Tensor | None:
    """Returns balanced labels in random order, so that neighbours are strangers."""
    labels = cascade.labels(n)
    return None if labels is None else labels[torch.randperm(n, generator=_generator(seed))]


def _cycled(images: Tensor, n: int) -> Iterator[Tensor]:
    """Yields n images in full blocks, again from the start where they end."""
    for start in range(0, n, BLOCK):
        yield images[torch.arange(start, start + BLOCK) % len(images)]


def _couples(x: Tensor) -> Tensor:
    """Turns (B, ...) into couples of neighbours (B / 2, 2, ...)."""
    return x.reshape(-1, 2, *x.shape[1:])


def _bar(stream: _Stream, what: str, n: int) -> _Stream:
    return tracked(stream, what, n // BLOCK)


def _whole(n: int, unit: int) -> int:
    return n - n % unit


def _seeds(seed: int, count: int) -> list[int]:
    """Returns seeds that follow from one and share nothing."""
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(count)]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
