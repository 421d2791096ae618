"""What the training of one level is given: a recipe's level, data, a budget, and where to write."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from lapgan.compute import Compute
from lapgan.data import Images
from lapgan.normalization import Normalization
from lapgan.recipe import Recipe
from lapgan.seeds import seed_of
from lapgan.training.below import Below

__all__ = ["Budget", "Intervals", "LevelTask"]


@dataclass(frozen=True)
class Budget:
    """When a level has been trained enough: at the first of the two, counted from its beginning.

    Args:
        images: examples seen.
        seconds: time spent in training.
    """

    images: int
    seconds: float = math.inf

    def spent(self, images: int, seconds: float) -> float:
        """Returns the share of the budget that so many images and seconds are; 1 is all of it."""
        return max(images / self.images, seconds / self.seconds)


@dataclass(frozen=True)
class Intervals:
    """How often a level reports, in seconds of training.

    Args:
        log: between lines of the log.
        checkpoint: between checkpoints; what a killed process loses at most.
        first_sheet: before the first sheet of samples.
        sheet: between sheets after it.
    """

    log: float = 10.0
    checkpoint: float = 60.0
    first_sheet: float = 60.0
    sheet: float = 300.0


@dataclass(frozen=True)
class LevelTask:
    """All that the training of one level needs.

    Args:
        recipe: the recipe of the whole cascade.
        k: which level, 0 the finest.
        images: the training images.
        normalization: of the finest level.
        folder: the level's own folder.
        budget: when to stop.
        seed: of initial weights, order and noise.
        compute: where and in which precision.
        intervals: how often to report.
        below: the levels below, where the recipe trains this one on their samples.
    """

    recipe: Recipe
    k: int
    images: Images
    normalization: Normalization
    folder: Path
    budget: Budget
    seed: int
    compute: Compute
    intervals: Intervals = field(default_factory=Intervals)
    below: Below | None = None

    @property
    def name(self) -> str:
        """The level's size, as the recipe writes it."""
        return self.recipe.level_name(self.k)

    @property
    def num_classes(self) -> int:
        """How many classes condition the level; 0 for none."""
        return len(self.images.class_names) if self.recipe.data.classes else 0

    def seed_after(self, images_seen: int) -> int:
        """Returns the seed of the step that follows `images_seen`; -1 is for the first weights."""
        return seed_of(self.seed, *self.recipe.sizes[self.k], images_seen + 1)
