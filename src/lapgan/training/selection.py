"""Model selection: the best averaged G of a level is kept beside the last one.

After every so many images the averaged G is scored on held-out images, and kept in a file of its
own if no earlier one was better. Scores depend on images seen and on the seed, not on the clock, so
an interrupted run keeps the same G as one that was not.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from lapgan.compute import Compute
from lapgan.data import Images, ImageStream, OnInvalid, hold_out_images, open_images
from lapgan.errors import LapganError
from lapgan.files import append_line
from lapgan.normalization import Normalization
from lapgan.recipe import LevelRecipe, Recipe
from lapgan.run_folder import PartFolder
from lapgan.sizes import size_text
from lapgan.training.log import rewind_records
from lapgan.weights import read_weights

__all__ = ["Criterion", "Score", "ScoredLevel", "Selection", "open_held_out", "selection_of"]

# Of an averaged G; the larger the better.
Score = Callable[[nn.Module], float]
# Writes the averaged weights with further figures of training.
Write = Callable[[Path, Mapping[str, Any]], None]


@dataclass(frozen=True)
class ScoredLevel:
    """A level whose generators are scored, and the images to do it with.

    Args:
        recipe: of the whole cascade.
        level: the level.
        normalization: of the finest level.
        training: the images that it is trained on.
        held_out: images of the same kind that it is not trained on.
        compute: where and in which precision.
        seed: of the noise.
    """

    recipe: Recipe
    level: LevelRecipe
    normalization: Normalization
    training: Images
    held_out: Images
    compute: Compute
    seed: int


class Criterion(Protocol):
    """What a level is selected by; see `lapgan.selection`."""

    @property
    def name(self) -> str:
        """As users type it."""

    @property
    def every(self) -> int:
        """A score is due whenever another so many images were seen."""

    def prepare(self, target: ScoredLevel) -> Score:
        """Makes the score of a level, which is the same function of the weights in each call."""


class Selection:
    """Scores the averaged G of a level and keeps the best.

    Args:
        criterion: the score.
        target: the level, and the images.
        folder: the level's own folder.

    Raises:
        LapganError: the best G so far was selected by another criterion, or cannot be read.
    """

    def __init__(self, criterion: Criterion, target: ScoredLevel, folder: PartFolder) -> None:
        self.criterion, self.folder = criterion, folder
        self.best = -math.inf
        selected = selection_of(folder, target.level.name)
        if selected is not None:
            if selected["by"] != criterion.name:
                raise LapganError(
                    f"{folder.best}: was selected by {selected['by']}, whose scores cannot be "
                    f"compared with those of {criterion.name}; continue with --select "
                    f"{selected['by']}, or delete the file."
                )
            self.best = float(selected["score"])
        self._score = criterion.prepare(target)

    def consider(self, average: nn.Module, seen: tuple[int, int], write: Write) -> None:
        """Scores the averaged G, if it is time to, and writes it if it is the best.

        Args:
            average: the averaged G.
            seen: how many images were seen before and after the step.
            write: writes its weights.
        """
        before, after = (images // self.criterion.every for images in seen)
        if before == after:
            return
        score = self._score(average.eval())
        figures = {"by": self.criterion.name, "score": score, "images_seen": seen[1]}
        if math.isfinite(score):
            # Lines that are later than the checkpoint from which the run goes on.
            rewind_records(self.folder.scores, seen[1] - 1)
            append_line(self.folder.scores, json.dumps(figures))
        if score > self.best:
            write(self.folder.best, {"selection": figures})
            self.best = score


def selection_of(folder: PartFolder, level: str) -> dict[str, Any] | None:
    """Returns by what the best G of a level was selected, its score, and after how many images."""
    if not folder.best.exists():
        return None
    selection: dict[str, Any] = read_weights(folder.best).training[level]["selection"]
    return selection


def open_held_out(
    criterion: Criterion,
    source: str,
    images: Images | ImageStream,
    recipe: Recipe,
    on_invalid: OnInvalid,
) -> Images:
    """Opens the images that generators are scored on.

    They are those that the recipe holds out (`data.hold_out`), or the split `test` of the data.

    Args:
        criterion: names the option in errors.
        source: the data.
        images: the training images.
        recipe: how many images are held out, and whether classes matter.
        on_invalid: what to do about images that cannot be used.

    Raises:
        LapganError: there is none, it has other classes, or the training images are a stream.
    """
    if not isinstance(images, Images):
        raise LapganError(
            f"--select {criterion.name}: scores need decoded images, and {images.name} is a "
            "stream; leave out `stream:`, or leave out --select."
        )
    if recipe.data.hold_out:
        return hold_out_images(open_images(source, on_invalid=on_invalid), recipe.data.hold_out)[1]
    try:
        held_out = open_images(source, split="test", on_invalid=on_invalid)
    except LapganError as error:
        raise LapganError(
            f"--select {criterion.name} needs held-out images, the split `test` of the data: "
            f"{error} `lapgan prepare --hold-out` makes one, or set data.hold_out."
        ) from None
    _check_like(held_out, images, f"--select {criterion.name}", classes=recipe.data.classes)
    return held_out


def _check_like(held_out: Images, images: Images, option: str, *, classes: bool) -> None:
    """Raises a LapganError unless held-out images have the size and the classes of the others."""
    if tuple(held_out.size) != tuple(images.size):
        raise LapganError(
            f"{option}: the held-out images are {size_text(held_out.size)}, "
            f"expected {size_text(images.size)}, the size of the training images."
        )
    if classes and held_out.class_names != images.class_names:
        raise LapganError(
            f"{option}: the held-out images have the classes "
            f"{', '.join(held_out.class_names) or 'none'}, expected those of the training images, "
            f"{', '.join(images.class_names)}."
        )
