"""What to train, for how long, and how often to report."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from lapgan.data import OnInvalid
from lapgan.errors import LapganError
from lapgan.recipe import LevelRecipe, Recipe
from lapgan.training.selection import Criterion

__all__ = ["Budget", "LogIntervals", "RunConfig", "data_source"]

_UNLIMITED = 2**62


@dataclass(frozen=True)
class Budget:
    """When training ends: at the first of two limits, counted from its beginning.

    Args:
        images: examples seen.
        seconds: time spent in training.

    Raises:
        LapganError: a limit is not positive.
    """

    images: int = _UNLIMITED
    seconds: float = math.inf

    def __post_init__(self) -> None:
        if self.images <= 0 or not self.seconds > 0:
            raise LapganError(
                f"training for {self}: expected more than 0; give larger --minutes or --images."
            )

    def spent(self, images: int, seconds: float) -> float:
        """Returns the fraction of the budget that so many images and seconds are; 1 is all."""
        return max(images / self.images, seconds / self.seconds)

    def content(self) -> dict[str, float | None]:
        """Returns the limits as plain data; None for no limit."""
        images = self.images if self.images < _UNLIMITED else None
        return {"images": images, "seconds": self.seconds if self.seconds < math.inf else None}

    def __str__(self) -> str:
        if self.seconds < math.inf:
            return f"{self.seconds / 60:.1f} minutes"
        return f"{self.images:,} images"


@dataclass(frozen=True)
class LogIntervals:
    """How often training reports, in seconds.

    Args:
        log: between lines of the log.
        checkpoint: between checkpoints; the most that a killed process loses.
        first_sheet: before the first sheet of samples.
        sheet: between sheets after it.
    """

    log: float = 10.0
    checkpoint: float = 60.0
    first_sheet: float = 60.0
    sheet: float = 300.0


@dataclass(frozen=True)
class RunConfig:
    """A training run.

    Args:
        recipe: the recipe of the cascade.
        out: the run folder.
        data: a data source, see `lapgan.data.open_images`; by default the recipe's.
        levels: names of the levels to train, such as 28; by default all but frozen ones.
        images: examples per level; by default the recipe's.
        minutes: time for all the levels together, divided as the recipe says; None for no limit.
        jobs: how many levels to train at once, each on its part of the cores.
        seed: of everything random.
        device: `auto`, `cpu`, `cuda`.
        precision: `auto`, `float32`, `bfloat16`; see `lapgan.compute.choose_compute`. A run keeps
            the precision that it was begun with.
        compile: whether G and D are compiled; None for what the run was begun with, or else the
            default of `lapgan.compilation.choose_compiled`.
        cuda_graphs: on a CUDA device, steps are replayed; see `lapgan.training.graphs`.
        on_invalid: `stop` at images that cannot be used, or `skip` them.
        workers: processes that decode a stream (`stream:SOURCE`); 0 for a thread.
        intervals: how often to report.
        select: keeps the best averaged G of each level by this criterion beside the last one; see
            `lapgan.selection`.
        start_from: a trained model, as `lapgan.weights.read_weights` takes it, whose weights G of
            each level starts with; random weights by default. A run that is continued needs it for
            levels without a checkpoint alone.

    Raises:
        LapganError: the recipe has no level of a name or freezes it, or `minutes` is not positive.
    """

    recipe: Recipe
    out: Path
    data: str | None = None
    levels: tuple[str, ...] = ()
    images: int | None = None
    minutes: float | None = None
    jobs: int = 1
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    compile: bool | None = None
    cuda_graphs: bool = True
    on_invalid: OnInvalid = "stop"
    workers: int = 0
    intervals: LogIntervals = field(default_factory=LogIntervals)
    select: Criterion | None = None
    start_from: Path | None = None

    def __post_init__(self) -> None:
        # The name of a folder or a model as text works too.
        object.__setattr__(self, "out", Path(self.out))
        if self.start_from is not None:
            object.__setattr__(self, "start_from", Path(self.start_from))
        # A level that the recipe lacks, or no time, is refused before anything is written.
        for level in self.selected_levels:
            self.budget(level)

    @property
    def selected_levels(self) -> list[LevelRecipe]:
        """The levels to train, coarsest first."""
        if not self.levels:
            return [level for level in reversed(self.recipe.levels) if not level.frozen]
        levels = [self.recipe.level(name) for name in dict.fromkeys(self.levels)]
        for level in levels:
            if level.frozen:
                raise LapganError(
                    f"level {level.name}: recipe {self.recipe.name} takes it from the model of "
                    f"--start-from; to train it, --set levels.{level.name}.frozen=false"
                )
        return sorted(levels, key=lambda level: -level.index)

    def budget(self, level: LevelRecipe) -> Budget:
        """Returns how long a level is trained."""
        if self.minutes is None:
            return Budget(self.images or self.recipe.training.images)
        shares = {other.index: other.share for other in self.selected_levels}
        at_once = min(self.jobs, len(shares))
        seconds = 60 * self.minutes * at_once * shares[level.index] / sum(shares.values())
        # Without `images`, the limit in minutes is the only one.
        return Budget(self.images or _UNLIMITED, seconds)


def data_source(data: str | None, recipe: Recipe) -> str:
    """Returns the data source of a run: the given one, or the recipe's.

    Raises:
        LapganError: there is neither.
    """
    source = data or recipe.data.source
    if source is None:
        raise LapganError(
            f"recipe {recipe.name} names no data of its own; say where the images are with --data."
        )
    return source
