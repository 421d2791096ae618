"""The cascade: from noise to an image, coarse to fine.

    I~_K = G_K(z_K),   I~_k = u(I~_{k+1}) + G_k(z_k, u(I~_{k+1}))

Source: Denton et al. (2015), equation 5.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from lapgan.compute import Compute, choose_compute
from lapgan.errors import LapganError
from lapgan.noise import Noise
from lapgan.normalization import Normalization
from lapgan.parallel import map_in_order
from lapgan.pyramid import Operator, image_of, size_of, upsample
from lapgan.recipe import Recipe
from lapgan.seeds import generator_of
from lapgan.selection import Selector, Step, best
from lapgan.sizes import Size, size_text
from lapgan.weights import (
    Weights,
    classifier_tensors,
    generator_state,
    generator_tensors,
    read_weights,
    write_weights,
)

__all__ = ["BLOCK", "Cascade", "Level", "Link", "Step", "build_level"]

# Images are made in blocks of this many, whatever is asked for: image i of a seed is the same
# however many come after it, and memory does not grow with their number.
BLOCK = 64


@dataclass(frozen=True)
class Level:
    """One level: its size, its noise, and its generator."""

    size: Size
    noise: Noise
    generator: nn.Module

    def prepare(self, compute: Compute) -> None:
        """Readies the generator for sampling on the given device."""
        self.generator.requires_grad_(False).eval()
        compute.place(self.generator)

    def residual(
        self, low: Tensor | None, z: Tensor, label: Tensor | None, compute: Compute
    ) -> Tensor:
        """Returns h~_k = G_k(z_k, l_k), float32 (n, 3, h, w)."""
        with compute.autocast():
            high: Tensor = self.generator(low, z, label).float()
        return high


@dataclass(frozen=True)
class Link:
    """What one level adds: the low-pass image it was given, its residual, and their sum.

    Images are uint8 (n, 3, H, W). `high` is shown around mid-grey; at the coarsest level it is the
    image, and `low` is None.
    """

    size: Size
    low: Tensor | None
    high: Tensor
    image: Tensor


class Cascade:
    """A trained pyramid of generators.

    Args:
        recipe: how the cascade was built.
        levels: finest first.
        normalization: from the scale of the nets to pixels.
        class_names: empty without classes.
        training: figures of training by level.
        compute: where to run; chosen by default.
        selector: what `best_of` chooses by.
    """

    def __init__(
        self,
        recipe: Recipe,
        levels: Sequence[Level],
        normalization: Normalization,
        class_names: Sequence[str] = (),
        training: dict[str, Any] | None = None,
        compute: Compute | None = None,
        selector: Selector | None = None,
    ) -> None:
        self.recipe = recipe
        self.levels = list(levels)
        self.normalization = normalization
        self.class_names = tuple(class_names)
        self.training = training or {}
        self.compute = compute or choose_compute()
        self.selector = selector
        self.candidates = 1
        for level in self.levels:
            level.prepare(self.compute)
        if selector is not None:
            selector.prepare(self.compute)

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
        """Loads a cascade from a weights file or from a run folder.

        Raises:
            LapganError: the file is damaged, incomplete or not a cascade's.
        """
        return cls.of_weights(read_weights(Path(path)), Path(path), compute)

    @classmethod
    def of_weights(cls, weights: Weights, path: Path, compute: Compute | None = None) -> "Cascade":
        """Builds a cascade from weights that were read from `path`, which errors name.

        Raises:
            LapganError: levels are missing, or do not fit their recipe.
        """
        weights.check_complete(path)
        return cls(
            recipe=weights.recipe,
            levels=[build_level(path, weights, k) for k in range(len(weights.recipe.levels))],
            normalization=Normalization(
                mean=weights.tensors["normalisation.mean"], std=weights.tensors["normalisation.std"]
            ),
            class_names=weights.class_names,
            training=weights.training,
            compute=compute,
            selector=Selector.of_weights(weights, path),
        )

    def save(self, path: str | Path) -> None:
        """Saves the cascade as one safetensors file that alone rebuilds it."""
        tensors: dict[str, Tensor] = {}
        for key, level in zip(self.recipe.levels, self.levels, strict=True):
            tensors |= generator_tensors(key, level.generator)
        tensors["normalisation.mean"] = self.normalization.mean
        tensors["normalisation.std"] = self.normalization.std
        selector = self.selector
        if selector is not None:
            tensors |= classifier_tensors(selector.net)
        of_classifier = None if selector is None else selector.recipe
        write_weights(
            Path(path),
            Weights(tensors, self.recipe, self.class_names, self.training, of_classifier),
        )

    def best_of(self, candidates: int) -> "Cascade":
        """Returns this cascade with each image the best of several candidates.

        Each image is drawn that often, down to the level that the classifier judges, and the
        candidate is kept in which it sees the class best; see `lapgan.selection`. The first
        candidate is what the cascade draws without a choice.

        Args:
            candidates: how many; 1 for no choice.

        Raises:
            LapganError: fewer than 1, or the model has no classifier.
        """
        if candidates < 1:
            raise LapganError(f"best of {candidates}: expected 1 candidate or more.")
        if candidates > 1 and self.selector is None:
            hint = (
                "train one with `lapgan classifier RUN`"
                if self.class_names
                else "it was trained without classes, and can have none"
            )
            raise LapganError(
                f"best of {candidates}: this model ({self.recipe.name}) has no classifier to "
                f"choose by; {hint}."
            )
        choosing = copy.copy(self)
        choosing.candidates = candidates
        return choosing

    def labels(self, n: int, classes: Sequence[str | int] = ()) -> Int64[Tensor, " n"] | None:
        """Returns n labels, as many of each class as of any other, in the order of the classes.

        Args:
            n: how many.
            classes: names or indices; by default all.

        Raises:
            LapganError: the model has no classes, or none of that name.
        """
        if not self.class_names:
            if classes:
                raise LapganError(
                    f"class {classes[0]!r}: this model ({self.recipe.name}) was trained without "
                    "classes; use one whose recipe has data.classes = true."
                )
            return None
        chosen = [self._class_index(name) for name in classes] or range(len(self.class_names))
        return torch.tensor(list(chosen)).repeat(n // len(chosen) + 1)[:n].sort().values

    def sample(
        self, n: int, seed: int = 0, labels: Sequence[int] | Tensor | None = None
    ) -> UInt8[Tensor, "n 3 h w"]:
        """Generates n images from noise.

        Args:
            n: how many.
            seed: the same seed gives the same images, whatever n.
            labels: one class index an image; by default all classes in equal numbers.

        Raises:
            LapganError: labels do not fit the model.
        """
        return torch.cat(list(self.blocks(n, seed, labels)) or [self._empty()])

    def blocks(
        self, n: int, seed: int = 0, labels: Sequence[int] | Tensor | None = None
    ) -> Iterator[UInt8[Tensor, "b 3 h w"]]:
        """Generates the images of `sample` a block at a time, in constant memory."""
        for pairs in self._runs(n, seed, self._check_labels(n, labels)):
            yield self.normalization.denormalize(pairs[-1][1])

    def chain(
        self, n: int, seed: int = 0, labels: Sequence[int] | Tensor | None = None
    ) -> list[Link]:
        """Generates the images of `sample` and returns every level, coarsest first."""
        return self._links(self._runs(n, seed, self._check_labels(n, labels)))

    def steps(
        self,
        n: int,
        seed: int = 0,
        labels: Sequence[int] | Tensor | None = None,
        finest: int = 0,
    ) -> Iterator[list[Step]]:
        """Generates the images of `sample` in the scale of the nets, a block at a time.

        Args:
            n: how many.
            seed: as for `sample`.
            labels: as for `sample`.
            finest: the level to stop at, 0 the finest.

        Yields:
            for each block, one Step a level, coarsest first.
        """
        return self._runs(n, seed, self._check_labels(n, labels), finest=finest)

    def residuals(
        self,
        k: int,
        low: Float[Tensor, "n 3 h w"],
        seed: int = 0,
        labels: Sequence[int] | Tensor | None = None,
    ) -> Float[Tensor, "n 3 h w"]:
        """Generates h~_k = G_k(z_k, l_k) from given low-pass images, one for each.

        Args:
            k: the level, 0 the finest; not the coarsest.
            low: l_k = u(I_{k+1}) in the scale of the nets; repeat one for several samples of it.
            seed: decides on the noise.
            labels: one class index an image; by default all classes in equal numbers.

        Raises:
            LapganError: level k is the coarsest, or `low` does not have its size.
        """
        if k == len(self.levels) - 1 or size_of(low) != self.sizes[k]:
            raise LapganError(
                f"level {self.recipe.level_name(k)}: no residuals from low-pass images of "
                f"{low.shape[-2]}x{low.shape[-1]}; give them at the size of a level that has one "
                "below it."
            )
        checked = self._check_labels(len(low), labels)

        @torch.inference_mode()
        def run(block: int) -> Tensor:
            span = _span(block, len(low))
            given = _filled(low[span]).to(self.compute.device)
            label = None if checked is None else _filled(checked[span]).to(self.compute.device)
            high = self._residual(k, given, label, (seed, block, 0))
            return high[: span.stop - span.start].cpu()

        blocks = list(map_in_order(run, _blocks(len(low)), self.compute.device))
        return torch.cat(blocks) if blocks else low

    def refine(
        self,
        images: UInt8[Tensor, "n 3 h w"],
        seed: int = 0,
        labels: Sequence[int] | Tensor | None = None,
    ) -> UInt8[Tensor, "n 3 H W"]:
        """Adds the finer levels to given coarse images; repeat an image for several samples of it.

        Args:
            images: pixels of 0 to 255, with the size of any level but the finest.
            seed: decides on the noise.
            labels: one class index an image.

        Raises:
            LapganError: the images do not have the size of a coarser level.
        """
        return torch.cat(list(self.refine_blocks(images, seed, labels)) or [self._empty()])

    def refine_blocks(
        self,
        images: UInt8[Tensor, "n 3 h w"],
        seed: int = 0,
        labels: Sequence[int] | Tensor | None = None,
    ) -> Iterator[UInt8[Tensor, "b 3 H W"]]:
        """Refines images as `refine` does, a block at a time, in constant memory."""
        for pairs in self._refined(images, seed, labels):
            yield self.normalization.denormalize(pairs[-1][1])

    def refine_chain(
        self,
        images: UInt8[Tensor, "n 3 h w"],
        seed: int = 0,
        labels: Sequence[int] | Tensor | None = None,
    ) -> list[Link]:
        """Refines images as `refine` does and returns every level from theirs on."""
        return self._links(self._refined(images, seed, labels))

    def _refined(
        self, images: Tensor, seed: int, labels: Sequence[int] | Tensor | None
    ) -> Iterator[list[Step]]:
        size = size_of(images)
        if size not in self.sizes[1:]:
            accepted = ", ".join(f"{h}x{w}" for h, w in self.sizes[1:]) or "none: it has one level"
            raise LapganError(
                f"the image to refine is {size[0]}x{size[1]}; this model refines images of "
                f"{accepted}. Resize it to one of these first."
            )
        if self.candidates > 1 and self.sizes.index(size) <= self._judged:
            raise LapganError(
                f"the image to refine is {size_text(size)}, and the classifier chooses among "
                f"images of {size_text(self.sizes[self._judged])}, so there is nothing to choose "
                "from. Give a coarser image, or take the best of 1."
            )
        n = len(images)
        return self._runs(n, seed, self._check_labels(n, labels), images)

    def _runs(
        self,
        n: int,
        seed: int,
        labels: Tensor | None,
        given: Tensor | None = None,
        finest: int = 0,
    ) -> Iterator[list[Step]]:
        """Yields low-pass image and image of every level, coarsest first, a block at a time."""

        @torch.inference_mode()
        def run(block: int) -> list[Step]:
            span = _span(block, n)
            x = None if given is None else _filled(self.normalization.normalize(given[span]))
            label = None if labels is None else _filled(labels[span])
            pairs = self._run(x, label, (seed, block), finest)
            count = span.stop - span.start
            return [(None if low is None else low[:count], x[:count]) for low, x in pairs]

        return map_in_order(run, _blocks(n), self.compute.device)

    def _run(
        self, x: Tensor | None, label: Tensor | None, key: tuple[int, int], finest: int
    ) -> list[Step]:
        """Runs a full block through levels down to `finest`, from noise or given coarse images."""
        x, label = (None if t is None else t.to(self.compute.device) for t in (x, label))
        pairs: list[Step] = [] if x is None else [(None, x)]
        if self.candidates > 1:
            pairs = best(self._candidates(pairs, label, key))
        pairs = self._descended(pairs, label, (*key, 0), finest)
        wanted = pairs[: len(pairs) - max(0, finest - self._reached(pairs))]
        return [(None if low is None else low.cpu(), x.cpu()) for low, x in wanted]

    def _candidates(
        self, pairs: list[Step], label: Tensor | None, key: tuple[int, int]
    ) -> Iterator[tuple[list[Step], Tensor]]:
        """Makes a block's candidates down to the level that is judged, each with its scores."""
        assert self.selector is not None
        assert label is not None
        for candidate in range(self.candidates):
            made = self._descended(pairs, label, (*key, candidate), self._judged)
            yield made, self.selector.scores(made[-1][1], label, self.compute)

    def _descended(
        self, pairs: list[Step], label: Tensor | None, key: tuple[int, int, int], finest: int
    ) -> list[Step]:
        """Adds the levels down to `finest` to the steps of a full block."""
        pairs = list(pairs)
        for k in reversed(range(finest, self._reached(pairs))):
            size = self.levels[k].size
            low = upsample(pairs[-1][1], size, self.operator) if pairs else None
            high = self._residual(k, low, label, key)
            pairs.append((low, image_of(high, low)))
        return pairs

    def _reached(self, pairs: list[Step]) -> int:
        """Returns the finest level that steps hold; one beyond the coarsest if they hold none."""
        return self.sizes.index(size_of(pairs[-1][1])) if pairs else len(self.levels)

    @property
    def _judged(self) -> int:
        """The level whose images the classifier judges."""
        assert self.selector is not None
        return self.sizes.index(self.selector.size)

    def _residual(
        self, k: int, low: Tensor | None, label: Tensor | None, key: tuple[int, int, int]
    ) -> Tensor:
        """Returns h~_k = G_k(z_k, l_k) of a full block."""
        level = self.levels[k]
        z = level.noise.sample(BLOCK, level.size, _generator(*key, k)).to(self.compute.device)
        return level.residual(low, z, label, self.compute)

    def _links(self, runs: Iterator[list[Step]]) -> list[Link]:
        """Joins the blocks of each level and turns them to pixels."""
        return [self._link(pairs) for pairs in zip(*runs, strict=True)]

    def _link(self, pairs: Sequence[Step]) -> Link:
        image = self.normalization.denormalize(torch.cat([x for _, x in pairs]))
        if pairs[0][0] is None:
            return Link(size_of(image), None, image, image)
        low = self.normalization.denormalize(
            torch.cat([low for low, _ in pairs if low is not None])
        )
        difference = (image.short() - low.short() + 128).clamp(0, 255).to(torch.uint8)
        return Link(size_of(image), low, difference, image)

    def _check_labels(self, n: int, labels: Sequence[int] | Tensor | None) -> Tensor | None:
        if labels is None:
            return self.labels(n)
        given = torch.as_tensor(labels, dtype=torch.int64)
        if not self.class_names:
            raise LapganError(f"labels: this model ({self.recipe.name}) has no classes.")
        if given.shape != (n,) or (
            n and not 0 <= given.min() <= given.max() < len(self.class_names)
        ):
            raise LapganError(
                f"labels: expected {n} indices from 0 to {len(self.class_names) - 1}, found "
                f"{given.tolist() if given.numel() <= 10 else tuple(given.shape)}."
            )
        return given

    def _class_index(self, name: str | int) -> int:
        if str(name) in self.class_names:
            return self.class_names.index(str(name))
        if str(name).isdecimal() and int(name) < len(self.class_names):
            return int(name)
        raise LapganError(
            f"class {name!r}: not one of this model's: {', '.join(self.class_names)} "
            f"(or 0 to {len(self.class_names) - 1})."
        )

    def _empty(self) -> Tensor:
        return torch.empty((0, 3, *self.sizes[0]), dtype=torch.uint8)


def build_level(path: Path, weights: Weights, k: int) -> Level:
    """Builds level k, 0 the finest, from weights that were read from `path`, which errors name.

    Raises:
        LapganError: the weights do not fit their recipe.
    """
    key, size = weights.recipe.level_name(k), weights.recipe.sizes[k]
    recipe = weights.recipe.level(k)
    generator = recipe.build_generator(size, len(weights.class_names))
    try:
        generator.load_state_dict(generator_state(key, weights.tensors))
    except RuntimeError as error:
        raise LapganError(f"{path}: level {key} does not fit its recipe: {error}") from None
    return Level(size, recipe.noise.build(), generator)


def _generator(seed: int, block: int, candidate: int, k: int) -> torch.Generator:
    """Returns the generator of one block's noise at one level, apart from all others."""
    return generator_of(*((seed, block, k, candidate) if candidate else (seed, block, k)))


def _blocks(n: int) -> range:
    """Numbers the blocks of n images."""
    return range(math.ceil(n / BLOCK))


def _span(block: int, n: int) -> slice:
    """Returns where the images of a block stand among all n."""
    return slice(block * BLOCK, min((block + 1) * BLOCK, n))


def _filled(x: Float[Tensor, "n ..."]) -> Float[Tensor, "block ..."]:
    """Repeats the last entry until the block is full."""
    return torch.cat((x, x[-1:].expand(BLOCK - len(x), *x.shape[1:])))
