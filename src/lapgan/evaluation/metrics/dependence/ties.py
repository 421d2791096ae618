"""How pairs of a low-pass image and a residual belong together: fidelity and information."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lapgan.cascade import Cascade
from lapgan.cascade.blocks import BLOCK
from lapgan.evaluation.measurement import Estimate, estimate_mean, estimate_ratio
from lapgan.evaluation.metrics.dependence.critic import Critic, Information, summarize_scores
from lapgan.evaluation.metrics.dependence.pairs import (
    Pairs,
    PairStream,
    couple,
    generator_of,
    spawn_seeds,
)
from lapgan.pyramid import downsample, image_of, size_of

__all__ = ["CANDIDATES", "Fidelity", "Tie", "measure_ties"]

_PATCH = 8
# The partner of an image is searched among so many, which caps the information at 8 bits.
CANDIDATES = 4 * BLOCK
# Patches are cheap compared with the images they are cut from, so each block gives several.
_PLACES = 4


@dataclass(frozen=True)
class Fidelity:
    """The distance between the downsampled image of a level and the image of the level below.

    Args:
        own: root mean square of d(I_k) - I_{k+1}, in grey levels of 0 to 255, neither rounded nor
            clipped.
        shuffled: the same with the I_{k+1} of another image.
        interpolated: the same for d(u(I_{k+1})), the value of a residual of zero.
        ratio: own / shuffled, from 0 (I_{k+1} is preserved) to 1 (independent of I_{k+1}).
    """

    own: Estimate
    shuffled: Estimate
    interpolated: Estimate
    ratio: Estimate


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


def measure_ties(
    cascade: Cascade, training: PairStream, held_out: PairStream, seed: int
) -> list[Tie]:
    """Trains critics for each level but the coarsest, and measures held-out pairs.

    Args:
        cascade: the model whose pyramid the pairs are of.
        training: pairs that the critics are trained on; the last block fits their gains.
        held_out: pairs to measure.
        seed: of the critics.

    Returns:
        one entry per level, finest first.
    """
    probes = [_LevelProbe(cascade, s) for s in spawn_seeds(seed, len(cascade.levels) - 1)]
    for level_pairs in training:
        for probe, pairs in zip(probes, level_pairs, strict=True):
            probe.train(pairs)
    for probe in probes:
        probe.calibrate()
    for level_pairs in held_out:
        for probe, pairs in zip(probes, level_pairs, strict=True):
            probe.measure(pairs)
    return [probe.summarize() for probe in probes]


class _LevelProbe:
    """The critics of one level, and what they give for held-out pairs."""

    def __init__(self, cascade: Cascade, seed: int) -> None:
        whole, local, places = spawn_seeds(seed, 3)
        self.cascade = cascade
        self.whole, self.local = Critic(whole, cascade.compute), Critic(local, cascade.compute)
        self.places = generator_of(places)
        self.latest: Pairs | None = None
        self.pending: list[Pairs] = []
        self.distances: list[Tensor] = []
        self.whole_scores: list[Tensor] = []
        self.local_scores: list[Tensor] = []

    def train(self, pairs: Pairs) -> None:
        """Trains on the block before this one; so the last block is left for the gains."""
        if self.latest is not None:
            self.whole.train(self.latest.low, self.latest.high)
            for low, high in self._patches(self.latest.low, self.latest.high):
                self.local.train(low, high)
        self.latest = pairs

    def calibrate(self) -> None:
        """Fits the critics' gains to the last block."""
        assert self.latest is not None
        self.whole.calibrate(self.latest.low, self.latest.high)
        self.local.calibrate(*next(self._patches(self.latest.low, self.latest.high)))

    def measure(self, pairs: Pairs) -> None:
        """Adds a block of held-out pairs."""
        self.distances.append(_square_distances(self.cascade, pairs))
        self.pending.append(pairs)
        if len(self.pending) == CANDIDATES // BLOCK:
            self._score()

    def summarize(self) -> Tie:
        """Returns the result for all held-out pairs."""
        if self.pending:
            self._score()
        return Tie(
            fidelity=_estimate_fidelity(torch.cat(self.distances)),
            information=summarize_scores(self.whole_scores),
            local=summarize_scores(self.local_scores),
        )

    def _score(self) -> None:
        low = torch.cat([pairs.low for pairs in self.pending])
        high = torch.cat([pairs.high for pairs in self.pending])
        self.pending = []
        self.whole_scores.append(self.whole.scores(low, high)[None])
        self.local_scores.append(
            torch.stack([self.local.scores(*patch) for patch in self._patches(low, high)])
        )

    def _patches(self, low: Tensor, high: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Cuts patches from low-pass images and residuals, at random places."""
        height, width = size_of(low)
        h, w = min(_PATCH, height), min(_PATCH, width)
        for _ in range(_PLACES):
            top = int(torch.randint(height - h + 1, (), generator=self.places))
            left = int(torch.randint(width - w + 1, (), generator=self.places))
            window = (..., slice(top, top + h), slice(left, left + w))
            yield low[window], high[window]


def _square_distances(cascade: Cascade, pairs: Pairs) -> Float[Tensor, "couples 3"]:
    """Returns the mean square distances own, shuffled, interpolated of each couple, (B / 2, 3)."""

    def mean_square(image: Tensor, coarse: Tensor) -> Tensor:
        reduced = downsample(image, size_of(coarse), cascade.operator)
        difference = cascade.normalization.gray_levels(reduced - coarse)
        return couple(difference.square()).mean(dim=(1, 2, 3, 4))

    image = image_of(pairs.high, pairs.low)
    swapped = couple(pairs.coarse).flip(1).flatten(0, 1)
    return torch.stack(
        (
            mean_square(image, pairs.coarse),
            mean_square(image, swapped),
            mean_square(pairs.low, pairs.coarse),
        ),
        dim=1,
    )


def _estimate_fidelity(distances: Tensor) -> Fidelity:
    own, shuffled, interpolated = distances.T
    return Fidelity(
        own=estimate_mean(own).root(),
        shuffled=estimate_mean(shuffled).root(),
        interpolated=estimate_mean(interpolated).root(),
        ratio=estimate_ratio(own, shuffled).root(),
    )
