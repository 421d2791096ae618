"""A trained cascade: loaded from a file, sampled from noise or from coarse images."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from lapgan.cascade.best_of import ClassifierGuide
from lapgan.cascade.blocks import group_blocks, map_in_order, span_of
from lapgan.cascade.inputs import balance_labels, check_labels, check_numbers, check_start
from lapgan.cascade.levels import Level, build_level
from lapgan.cascade.sampler import BlockKey, BlockSampler
from lapgan.cascade.upscale import enlarged_levels
from lapgan.compute import Compute, choose_compute
from lapgan.distributed import Ranks, gather_in_order, sharing_ranks
from lapgan.errors import LapganError
from lapgan.normalization import Normalization
from lapgan.pyramid import Operator, Stage, size_of
from lapgan.recipe import Recipe
from lapgan.sizes import Size, size_text
from lapgan.weights import (
    Weights,
    classifier_tensors,
    generator_tensors,
    normalization_tensors,
    read_weights,
    write_weights,
)

__all__ = ["Cascade"]

Labels = Sequence[int] | Tensor | None

_Result = TypeVar("_Result")


class Cascade:
    """A trained pyramid of generators.

    >>> cascade = lapgan.Cascade.load("cifar10-cc")
    >>> cascade.sample(4, seed=0, labels=cascade.labels(4, ["cat"])).shape
    torch.Size([4, 3, 32, 32])

    Args:
        recipe: how the cascade was built.
        levels: finest first.
        normalization: from the scale of the nets to pixels.
        class_names: empty without classes.
        training: figures of training by level.
        compute: where to run; chosen by default.
        guide: the classifier of `best_of`.
    """

    def __init__(
        self,
        recipe: Recipe,
        levels: Sequence[Level],
        normalization: Normalization,
        class_names: Sequence[str] = (),
        training: dict[str, Any] | None = None,
        compute: Compute | None = None,
        guide: ClassifierGuide | None = None,
    ) -> None:
        self.recipe = recipe
        self.levels = list(levels)
        self.normalization = normalization
        self.class_names = tuple(class_names)
        self.training = training or {}
        self.compute = compute or choose_compute()
        self.guide = guide
        self.candidates = 1
        self.enlarged: tuple[Level, ...] = ()
        # Of images that are drawn, finest first; see `upscale`.
        self.output_sizes = self.sizes
        for level in self.levels:
            level.prepare(self.compute)
        if guide is not None:
            guide.prepare(self.compute)

    @property
    def sizes(self) -> list[Size]:
        """The size of every level, finest first."""
        return [level.size for level in self.levels]

    @property
    def operator(self) -> Operator:
        """The pyramid's operators, by name."""
        return self.recipe.pyramid.operator

    @classmethod
    def load(cls, path: str | Path, compute: Compute | None = None) -> "Cascade":
        """Loads a cascade from a weights file, a run folder, or by the name of a packaged model.

        Raises:
            LapganError: the file is damaged, incomplete or not a cascade's.
        """
        return cls.from_weights(read_weights(Path(path)), Path(path), compute)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, revision: str | None = None, compute: Compute | None = None
    ) -> "Cascade":
        """Loads a cascade from the Hugging Face Hub, or from a folder that `lapgan push` wrote.

        Args:
            name: `OWNER/NAME` on the Hub, or whatever `load` takes; what is on the disk comes
                first. The file is downloaded once.
            revision: a branch, a tag or a commit on the Hub; by default the newest.
            compute: where to run; chosen by default.

        Raises:
            LapganError: the model cannot be downloaded, or see `load`.
        """
        if Path(name).exists() or "/" not in str(name):
            return cls.load(name, compute)
        return cls.load(f"hub:{name}" + (f"@{revision}" if revision else ""), compute)

    @classmethod
    def from_weights(
        cls, weights: Weights, path: Path, compute: Compute | None = None
    ) -> "Cascade":
        """Builds a cascade from weights that were read from `path`, which errors name.

        Raises:
            LapganError: levels are missing, or do not fit their recipe.
        """
        weights.check_complete(path)
        return cls(
            recipe=weights.recipe,
            levels=[build_level(path, weights, level) for level in weights.recipe.levels],
            normalization=weights.normalization,
            class_names=weights.class_names,
            training=weights.training,
            compute=compute,
            guide=ClassifierGuide.from_weights(weights, path),
        )

    def save(self, path: str | Path) -> None:
        """Saves the cascade as one safetensors file that alone rebuilds it."""
        tensors = normalization_tensors(self.normalization)
        for name, level in zip(self.recipe.level_names, self.levels, strict=True):
            tensors |= generator_tensors(name, level.generator)
        if self.guide is not None:
            tensors |= classifier_tensors(self.guide.net)
        section = None if self.guide is None else self.guide.section
        write_weights(
            Path(path), Weights(tensors, self.recipe, self.class_names, self.training, section)
        )

    def best_of(self, candidates: int) -> "Cascade":
        """Returns this cascade with each image the best of several candidates.

        Each image is drawn that often, down to the level of the classifier, and the candidate is
        kept whose class the classifier finds most probable; see `lapgan.cascade.best_of`. The first
        candidate is the image that the cascade draws without a choice.

        Args:
            candidates: how many; 1 for no choice.

        Raises:
            LapganError: fewer than 1, or the model has no classifier.
        """
        if candidates < 1:
            raise LapganError(f"best of {candidates}: expected 1 candidate or more.")
        if candidates > 1 and self.guide is None:
            hint = (
                "train one with `lapgan classifier`"
                if self.class_names
                else "it was trained without classes, and can have none"
            )
            raise LapganError(
                f"best of {candidates}: this model ({self.recipe.name}) has no classifier to "
                f"choose by; {hint}."
            )
        chooser = copy.copy(self)
        chooser.candidates = candidates
        return chooser

    def upscale(self, factor: int) -> "Cascade":
        """Returns this cascade with its finest level applied again, to larger images.

        Images that it draws have `output_sizes[0]`; see `lapgan.cascade.upscale`.

        Args:
            factor: by which the sides grow: 1, 2, 4, ...

        Raises:
            LapganError: the factor is no power of 2, or the level works at its own size only.
        """
        larger = copy.copy(self)
        larger.enlarged = enlarged_levels(self.recipe, self.levels, len(self.class_names), factor)
        larger.output_sizes = [level.size for level in reversed(larger.enlarged)] + self.sizes
        return larger

    def labels(self, n: int, classes: Sequence[str | int] = ()) -> Int64[Tensor, " n"] | None:
        """Returns n labels, as many of each class as of any other, in the order of the classes.

        Args:
            n: how many.
            classes: names or indices; by default all.

        Raises:
            LapganError: the model has no classes, or none of that name.
        """
        return balance_labels(n, self.class_names, classes, self.recipe.name)

    def sample(
        self, n: int, seed: int = 0, labels: Labels = None, start: Tensor | None = None
    ) -> UInt8[Tensor, "n 3 h w"]:
        """Generates n images, from noise or from given coarse images.

        Args:
            n: how many.
            seed: the same seed gives the same images, whatever n.
            labels: one class index per image; by default all classes in equal numbers.
            start: uint8 (n, 3, h, w) of the size of any level but the finest, to which the finer
                levels are added; repeat an image for several samples of it.

        Raises:
            LapganError: labels or coarse images do not fit the model.
        """
        return torch.cat([_no_images(self), *self.stream(n, seed, labels, start)])

    def stream(
        self, n: int, seed: int = 0, labels: Labels = None, start: Tensor | None = None
    ) -> Iterator[UInt8[Tensor, "b 3 h w"]]:
        """Yields the images of `sample` block by block, in constant memory.

        Within `lapgan.distributed.share_work` the blocks are divided over the ranks.
        """
        ranks = sharing_ranks()
        normalization = self.normalization.to(self.compute.device)

        def finish(stages: list[Stage], count: int) -> Tensor:
            return normalization.denormalize(stages[-1].image[:count]).cpu()

        blocks = _generate(self, _Wanted(n, seed, labels, start), finish, ranks)
        return gather_in_order(blocks, _no_images(self), ranks)

    def chain(
        self, n: int, seed: int = 0, labels: Labels = None, start: Tensor | None = None
    ) -> list[Stage]:
        """Generates the images of `sample` and returns every level as pixels, coarsest first.

        All three tensors of a stage are uint8 (n, 3, H, W); `high` is drawn around mid-gray, except
        at the coarsest level, where it is the image.
        """
        blocks = self.stages(n, seed, labels, start)
        return [_to_pixels(level, self.normalization) for level in zip(*blocks, strict=True)]

    def stages(
        self,
        n: int,
        seed: int = 0,
        labels: Labels = None,
        start: Tensor | None = None,
        finest: int = 0,
    ) -> Iterator[list[Stage]]:
        """Generates the images of `sample` in the scale of the nets, block by block.

        Args:
            n: how many.
            seed: as for `sample`.
            labels: as for `sample`.
            start: as for `sample`; it is the image of the first stage.
            finest: the level to stop at; 0 is the finest, after which come those of `upscale`.

        Yields:
            For each block one Stage per level, coarsest first.
        """

        def finish(stages: list[Stage], count: int) -> list[Stage]:
            return [_first(stage, count) for stage in stages]

        return _generate(self, _Wanted(n, seed, labels, start, finest), finish, Ranks())

    def residuals(
        self, k: int, low: Float[Tensor, "n 3 h w"], seed: int = 0, labels: Labels = None
    ) -> Float[Tensor, "n 3 h w"]:
        """Generates h~_k = G_k(z_k, l_k), one for each of the given low-pass images.

        Args:
            k: the level; 0 is the finest; not the coarsest.
            low: l_k = u(I_{k+1}) in the scale of the nets; repeat one for several samples of it.
            seed: of the noise.
            labels: one class index per image; by default all classes in equal numbers.

        Raises:
            LapganError: level k is the coarsest, or `low` does not have its size.
        """
        if k == len(self.levels) - 1 or size_of(low) != self.sizes[k]:
            raise LapganError(
                f"level {self.recipe.levels[k].name}: no residuals from low-pass images of "
                f"{size_text(size_of(low))}; expected the size of a level other than the coarsest."
            )
        label = _labels_of(self, len(low), labels)
        sampler = _sampler_of(self)

        @torch.inference_mode()
        def run(group: range) -> Tensor:
            span = span_of(group, len(low))
            group_label = None if label is None else label[span]
            high = sampler.residual(k, low[span], group_label, BlockKey(seed, group))
            return high[: span.stop - span.start].cpu()

        groups = group_blocks(len(low), self.sizes[k], self.compute.device)
        blocks = list(map_in_order(run, groups, self.compute.device))
        return torch.cat(blocks) if blocks else low


@dataclass(frozen=True)
class _Wanted:
    """What is generated; see `Cascade.stages`."""

    n: int
    seed: int
    labels: Labels
    start: Tensor | None
    finest: int = 0


def _generate(
    cascade: Cascade, wanted: _Wanted, finish: Callable[[list[Stage], int], _Result], ranks: Ranks
) -> Iterator[_Result]:
    """Yields `finish` of the stages of full blocks, and of how many images count.

    These are the groups of blocks number rank, rank + size, ...
    """
    n, start = wanted.n, wanted.start
    check_numbers(n, wanted.seed)
    label = _labels_of(cascade, n, wanted.labels)
    if start is not None:
        score_size = cascade.guide.size if cascade.guide and cascade.candidates > 1 else None
        check_start(n, start, cascade.output_sizes, score_size)
    sampler = _sampler_of(cascade)

    @torch.inference_mode()
    def run(group: range) -> _Result:
        span = span_of(group, n)
        image = None if start is None else cascade.normalization.normalize(start[span])
        group_label = None if label is None else label[span]
        key = BlockKey(wanted.seed, group)
        stages = sampler.run(image, group_label, key, wanted.finest)
        return finish(stages, span.stop - span.start)

    groups = group_blocks(n, cascade.output_sizes[0], cascade.compute.device)
    return map_in_order(run, groups[ranks.rank :: ranks.size], cascade.compute.device)


def _sampler_of(cascade: Cascade) -> BlockSampler:
    return BlockSampler(
        cascade.levels, cascade.operator, cascade.compute, cascade.guide, cascade.candidates,
        cascade.enlarged,
    )  # fmt: skip


def _labels_of(cascade: Cascade, n: int, labels: Labels) -> Tensor | None:
    if labels is None:
        return cascade.labels(n)
    return check_labels(n, labels, cascade.class_names, cascade.recipe.name)


def _no_images(cascade: Cascade) -> Tensor:
    return torch.empty((0, 3, *cascade.output_sizes[0]), dtype=torch.uint8)


def _first(stage: Stage, count: int) -> Stage:
    """Returns the first images of a full block, on the CPU."""
    low = None if stage.low is None else stage.low[:count].cpu()
    return Stage(low, stage.high[:count].cpu(), stage.image[:count].cpu())


def _to_pixels(blocks: Sequence[Stage], normalization: Normalization) -> Stage:
    """Joins the blocks of one level and turns them into pixels."""
    image = normalization.denormalize(torch.cat([stage.image for stage in blocks]))
    lows = [stage.low for stage in blocks if stage.low is not None]
    if not lows:
        return Stage(None, image, image)
    low = normalization.denormalize(torch.cat(lows))
    high = (image.short() - low.short() + 128).clamp(0, 255).to(torch.uint8)
    return Stage(low, high, image)
