"""How the images of a level belong to their low-pass images: fidelity and information."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lapgan.cascade import Cascade
from lapgan.cascade.blocks import BLOCK
from lapgan.compute import Compute
from lapgan.evaluation.measurement import Estimate, estimate_mean, estimate_ratio
from lapgan.evaluation.metrics.dependence.critic import Critic, Information, summarize_scores
from lapgan.evaluation.metrics.dependence.pairs import (
    Pairs,
    PairStream,
    couple,
    make_generator,
    spawn_seeds,
)
from lapgan.pyramid import Operator, downsample, image_of, size_of, upsample
from lapgan.sizes import Size

__all__ = ["CANDIDATES", "Complement", "Fidelity", "Relation", "Tie", "measure_ties"]

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
class Relation:
    """The information between low-pass images and what belongs to them.

    Args:
        whole: between whole images.
        local: between patches of at most 8x8 pixels at the same place, averaged over places.
    """

    whole: Information
    local: Information


@dataclass(frozen=True)
class Tie:
    """How the images of a level belong to their low-pass images.

    Args:
        fidelity: of the image to the one below.
        image: between l_k and I_k: does the level follow the one below?
        detail: between l_k and the part of I_k that no low-pass image can show (`Complement`):
            does the detail follow the level below? Not between l_k and all of h_k = I_k - l_k: an
            image that ignores l_k has to cancel it there, so that l_k can be read off from h_k.
    """

    fidelity: Fidelity
    image: Relation
    detail: Relation


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
    sizes = list(itertools.pairwise(cascade.sizes))
    seeds = spawn_seeds(seed, len(sizes))
    probes = [_LevelProbe(cascade, *level) for level in zip(sizes, seeds, strict=True)]
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
    """What is measured at one level: distances, and the critics of images and of their detail."""

    def __init__(self, cascade: Cascade, sizes: tuple[Size, Size], seed: int) -> None:
        image, detail = spawn_seeds(seed, 2)
        self.cascade = cascade
        self.image = _RelationProbe(cascade.compute, image)
        self.detail = _RelationProbe(cascade.compute, detail)
        self.complement = Complement(*sizes, cascade.operator)
        self.distances: list[Tensor] = []

    def train(self, pairs: Pairs) -> None:
        """Trains the critics on a block."""
        self.image.train(pairs.low, image_of(pairs.high, pairs.low))
        self.detail.train(pairs.low, self.complement(pairs.high))

    def calibrate(self) -> None:
        """Fits the critics' gains."""
        self.image.calibrate()
        self.detail.calibrate()

    def measure(self, pairs: Pairs) -> None:
        """Adds a block of held-out pairs."""
        self.distances.append(_square_distances(self.cascade, pairs))
        self.image.measure(pairs.low, image_of(pairs.high, pairs.low))
        self.detail.measure(pairs.low, self.complement(pairs.high))

    def summarize(self) -> Tie:
        """Returns the result for all held-out pairs."""
        return Tie(
            fidelity=_estimate_fidelity(torch.cat(self.distances)),
            image=self.image.summarize(),
            detail=self.detail.summarize(),
        )


# Low-pass images and what belongs to them.
_Block = tuple[Tensor, Tensor]


class _RelationProbe:
    """Two critics, of whole images and of patches, and what they give for held-out pairs."""

    def __init__(self, compute: Compute, seed: int) -> None:
        whole, local, places = spawn_seeds(seed, 3)
        self.whole, self.local = Critic(whole, compute), Critic(local, compute)
        self.places = make_generator(places)
        self.latest: _Block | None = None
        self.pending: list[_Block] = []
        self.whole_scores: list[Tensor] = []
        self.local_scores: list[Tensor] = []

    def train(self, low: Tensor, other: Tensor) -> None:
        """Trains on the block before this one; so the last block is left for the gains."""
        if self.latest is not None:
            self.whole.train(*self.latest)
            for patches in self._patches(*self.latest):
                self.local.train(*patches)
        self.latest = low, other

    def calibrate(self) -> None:
        """Fits the critics' gains to the last block."""
        assert self.latest is not None
        self.whole.calibrate(*self.latest)
        self.local.calibrate(*next(self._patches(*self.latest)))

    def measure(self, low: Tensor, other: Tensor) -> None:
        """Adds a block of held-out pairs."""
        self.pending.append((low, other))
        if len(self.pending) == CANDIDATES // BLOCK:
            self._score()

    def summarize(self) -> Relation:
        """Returns the information in all held-out pairs."""
        if self.pending:
            self._score()
        return Relation(summarize_scores(self.whole_scores), summarize_scores(self.local_scores))

    def _score(self) -> None:
        low, other = (torch.cat(blocks) for blocks in zip(*self.pending, strict=True))
        self.pending = []
        self.whole_scores.append(self.whole.scores(low, other)[None])
        self.local_scores.append(
            torch.stack([self.local.scores(*patches) for patches in self._patches(low, other)])
        )

    def _patches(self, low: Tensor, other: Tensor) -> Iterator[_Block]:
        """Cuts patches from both at the same random places."""
        height, width = size_of(low)
        h, w = min(_PATCH, height), min(_PATCH, width)
        for _ in range(_PLACES):
            top = int(torch.randint(height - h + 1, (), generator=self.places))
            left = int(torch.randint(width - w + 1, (), generator=self.places))
            window = (..., slice(top, top + h), slice(left, left + w))
            yield low[window], other[window]


class Complement:
    """The projection onto what no low-pass image can show.

        x - P_h x P_w^T,   P = U U^+ on each axis

    with U the matrix of u(.) on one axis. It takes l_k to 0, so it takes I_k and h_k to the same.

    Args:
        fine: the size of the level.
        coarse: that of the level below.
        operator: the pyramid's u(.), by name.
    """

    def __init__(self, fine: Size, coarse: Size, operator: Operator) -> None:
        self._rows, self._columns = (
            _project_axis(*lengths, operator) for lengths in zip(fine, coarse, strict=True)
        )

    def __call__(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Projects images."""
        rows, columns = self._rows.to(x), self._columns.to(x)
        projected: Tensor = x - rows @ x @ columns.T
        return projected


def _project_axis(fine: int, coarse: int, operator: Operator) -> Float[Tensor, "fine fine"]:
    """Returns the projection onto the range of u(.) on one axis."""
    eye = torch.eye(coarse, dtype=torch.float64)[None, None]
    up = upsample(eye, (fine, coarse), operator)[0, 0]
    inverse: Tensor = torch.linalg.pinv(up)
    return up @ inverse


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
