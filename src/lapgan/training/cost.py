"""What training costs on this machine, measured by a few steps before it starts."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lapgan.batches import Batch
from lapgan.compute import Compute
from lapgan.normalization import symmetric_normalization
from lapgan.recipe import LevelRecipe, Recipe, recipe_names
from lapgan.run_folder import PartFolder
from lapgan.sizes import Size
from lapgan.training.config import Budget, RunConfig
from lapgan.training.level import LevelState, LevelTask

__all__ = ["LevelCost", "advise", "measure_costs"]

# Per level, after its first steps; a slow level takes as long as those.
_SECONDS = 0.5
_ROUNDS = 10
# A large minibatch is divided on a CPU, whose speed depends little on it.
_CPU_BATCH = 32
_EXAMPLES = 256
_CLASSES = 10
_LONG = 24 * 3600
# Below this fraction of a recipe's images a level is far from what the recipe is for.
_FAR = 0.02


@dataclass(frozen=True)
class LevelCost:
    """What a level costs.

    Args:
        name: of the level.
        rate: images per second.
        budget: when its training ends.
    """

    name: str
    rate: float
    budget: Budget

    @property
    def seconds(self) -> float:
        """How long its training takes."""
        return min(self.budget.images / self.rate, self.budget.seconds)

    @property
    def images(self) -> int:
        """How many images it then has seen."""
        return round(self.seconds * self.rate)

    def __str__(self) -> str:
        return (
            f"level {self.name}: about {self.rate:,.0f} images/s, {self.images:,} images in "
            f"{_describe_time(self.seconds)}"
        )


def measure_costs(config: RunConfig, compute: Compute) -> Iterator[LevelCost]:
    """Yields what each selected level costs, coarsest first, by about half a second of steps each.

    The images are noise, so no data are needed and nothing is written. Nets are not compiled: those
    that will be are faster. Other work on the machine counts.

    Args:
        config: the run; it need not have begun.
        compute: where the nets run.
    """
    for level in config.selected_levels:
        with _fork_random(compute.device):
            rate = _measure_rate(config.recipe, level, replace(compute, compiled=False))
        yield LevelCost(level.name, rate, config.budget(level))


def advise(recipe: Recipe, costs: Sequence[LevelCost], device: torch.device) -> str | None:
    """Says what fits better if a recipe takes more than a day on a CPU, or gets nowhere.

    Args:
        recipe: of the run.
        costs: of its levels.
        device: where it runs.

    Returns:
        A sentence; None if there is nothing to say.
    """
    seconds = sum(cost.seconds for cost in costs)
    fraction = min(cost.images / recipe.training.images for cost in costs)
    if device.type != "cpu" or (seconds <= _LONG and fraction >= _FAR):
        return None
    small = f"{recipe.name}-small"
    better = (
        f"recipe {small} is made for a CPU"
        if small in recipe_names()
        else "a GPU, or smaller nets, would help"
    )
    if seconds > _LONG:
        return f"Together that is {_describe_time(seconds)}: {better}."
    return f"That is {fraction:.1%} of the {recipe.training.images:,} images per level: {better}."


class _NoiseImages:
    """Training examples that are noise."""

    name, fingerprint, epoch = "noise", "", 50_000

    def __init__(self, size: Size, batch: int, num_classes: int) -> None:
        self.class_names = tuple(map(str, range(num_classes)))
        count = max(batch, _EXAMPLES)
        generator = torch.Generator().manual_seed(0)
        shape = (count, 3, *size)
        self.pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        self.labels = torch.arange(count) % max(num_classes, 1)

    def at(self, images_seen: int, count: int) -> Batch:
        """Returns the first examples: at most as many as there are."""
        return self.pixels[:count], self.labels[:count] if self.class_names else None


def _measure_rate(recipe: Recipe, level: LevelRecipe, compute: Compute) -> float:
    """Returns the images per second of a level."""
    training = recipe.training
    batch = min(training.batch, _CPU_BATCH) if compute.device.type == "cpu" else training.batch
    smaller = recipe.model_copy(update={"training": training.model_copy(update={"batch": batch})})
    size = recipe.sizes[0]
    task = LevelTask(
        recipe=smaller,
        level=level,
        batches=_NoiseImages(size, batch, _CLASSES if recipe.data.classes else 0),
        normalization=symmetric_normalization(size).to(compute.device),
        folder=PartFolder(Path()),
        budget=Budget(training.images),
        seed=0,
        compute=compute,
    )
    every = 1 if level.penalty is None else level.penalty.every
    with_penalty, without = _time_steps(task, every)
    return batch * every / (with_penalty + (every - 1) * without)


def _time_steps(task: LevelTask, every: int) -> tuple[float, float]:
    """Returns the seconds of a step with the gradient penalty, and of one without."""
    state, batch = task.initial_state(), task.recipe.training.batch
    dues = [0] if every == 1 else [0, batch]
    first = [_time_step(task, state, due) for due in dues]
    rounds: list[list[float]] = []
    begun = time.perf_counter()
    while len(rounds) < _ROUNDS and time.perf_counter() - begun + sum(first) / 2 < _SECONDS:
        rounds.append([_time_step(task, state, due) for due in dues])
    # The first steps are slower, but of a slow level there are no others.
    means = [sum(column) / len(column) for column in zip(*(rounds or [first]), strict=True)]
    return means[0], means[-1]


def _time_step(task: LevelTask, state: LevelState, images_seen: int) -> float:
    """Returns the seconds of the step after so many images, which says what is due in it."""
    state.images_seen = images_seen
    _wait(task.compute.device)
    begun = time.perf_counter()
    task.step(state)
    _wait(task.compute.device)
    return time.perf_counter() - begun


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def _fork_random(device: torch.device) -> Iterator[None]:
    """Leaves the random state of the caller alone."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _describe_time(seconds: float) -> str:
    if seconds >= 48 * 3600:
        return f"{seconds / 86400:.1f} days"
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.1f} minutes"
