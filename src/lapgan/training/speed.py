"""How fast the levels of a recipe train on this machine, measured by some steps of each."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from lapgan.compute import Compute
from lapgan.data import Images
from lapgan.recipe import LevelRecipe, Recipe
from lapgan.run_folder import PartFolder
from lapgan.training.config import Budget
from lapgan.training.examples import normalization_of, training_batches
from lapgan.training.level import LevelState, LevelTask
from lapgan.training.resident import place_batches

__all__ = ["LevelSpeed", "measure_speeds"]

# A larger minibatch is made smaller on a CPU, whose speed depends little on it.
_CPU_BATCH = 32
_ROUNDS = 20
_IMAGES = 1000
_CLASSES = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
# Corner crops are of images a little larger, as the paper's of CIFAR-10.
_MARGIN = 4


@dataclass(frozen=True)
class LevelSpeed:
    """How fast a level trains.

    Args:
        name: the level's size, as the recipe writes it.
        generator_parameters: numbers in G.
        discriminator_parameters: numbers in D.
        images_per_second: examples per second of training.
        images: examples that the recipe trains the level on.
        memory_bytes: the most that was taken on a CUDA device; None on a CPU.
    """

    name: str
    generator_parameters: int
    discriminator_parameters: int
    images_per_second: float
    images: int
    memory_bytes: int | None

    @property
    def minutes(self) -> float:
        """How long the recipe trains the level."""
        return self.images / self.images_per_second / 60


def measure_speeds(
    recipe: Recipe,
    compute: Compute,
    seconds: float = 2.0,
    levels: Sequence[LevelRecipe] | None = None,
) -> Iterator[LevelSpeed]:
    """Trains each level for some steps on random images and yields its speed, coarsest first.

    Nothing is written. Sheets, checkpoints and the opening of real data are not counted, nor what a
    compiler gains. A class-conditional recipe is measured with ten classes.

    Args:
        recipe: the recipe.
        compute: where and in which precision.
        seconds: how long to measure each level at most, after its first steps, which count only if
            there is no time for others.
        levels: which to measure, coarsest first; all by default.

    Raises:
        LapganError: a net of the recipe cannot be built.
    """
    images = _draw_images(recipe)
    compute = replace(compute, compiled=False)
    for level in reversed(recipe.levels) if levels is None else levels:
        speed = _measure(recipe, level, images, compute, seconds)
        if compute.device.type == "cuda":
            # Levels may be trained by other processes on the same device.
            torch.cuda.empty_cache()
        yield speed


def _measure(
    recipe: Recipe, level: LevelRecipe, images: Images, compute: Compute, seconds: float
) -> LevelSpeed:
    task = LevelTask(
        recipe=_shrink_batch(recipe) if compute.device.type == "cpu" else recipe,
        level=level,
        batches=place_batches(training_batches(recipe, images, seed=0), compute),
        normalization=normalization_of(recipe, images).to(compute.device),
        folder=PartFolder(Path()),
        budget=Budget(recipe.training.images),
        seed=0,
        compute=compute,
    )
    is_cuda = compute.device.type == "cuda"
    with torch.random.fork_rng(devices=[compute.device] if is_cuda else []):
        if is_cuda:
            torch.cuda.reset_peak_memory_stats(compute.device)
        state = task.initial_state()
        rate = _time_steps(task, state, seconds)
    return LevelSpeed(
        name=level.name,
        generator_parameters=sum(p.numel() for p in state.nets.generator.parameters()),
        discriminator_parameters=sum(p.numel() for p in state.nets.discriminator.parameters()),
        images_per_second=rate,
        images=recipe.training.images,
        memory_bytes=torch.cuda.max_memory_allocated(compute.device) if is_cuda else None,
    )


def _shrink_batch(recipe: Recipe) -> Recipe:
    batch = min(recipe.training.batch, _CPU_BATCH)
    return recipe.model_copy(
        update={"training": recipe.training.model_copy(update={"batch": batch})}
    )


def _time_steps(task: LevelTask, state: LevelState, seconds: float) -> float:
    """Returns images per second; a penalty counts as often as it is due."""
    batch, penalty = task.recipe.training.batch, task.level.penalty
    every = 1 if penalty is None else penalty.every
    # The penalty is due in the first step, and not in the second.
    places = [0] if every == 1 else [0, batch]
    first = [_time_step(task, state, place) for place in places]
    rounds: list[list[float]] = []
    begun = time.perf_counter()
    while len(rounds) < _ROUNDS and time.perf_counter() - begun < seconds - sum(first) / 2:
        rounds.append([_time_step(task, state, place) for place in places])
    means = [sum(column) / len(column) for column in zip(*(rounds or [first]), strict=True)]
    period: float = means[0] + (every - 1) * means[-1]
    return batch * every / period


def _time_step(task: LevelTask, state: LevelState, images_seen: int) -> float:
    """Returns the seconds of the step after so many images, which decide what is due in it."""
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


def _draw_images(recipe: Recipe) -> Images:
    """Returns random images that fit a recipe, in ten classes if it has classes."""
    height, width = recipe.sizes[0]
    margin = _MARGIN if recipe.data.crop == "corners" else 0
    random = np.random.default_rng(0)
    shape = (_IMAGES, 3, height + margin, width + margin)
    pixels = random.integers(0, 256, shape, dtype=np.uint8)
    names = _CLASSES if recipe.data.classes else ()
    labels = np.arange(_IMAGES) % len(names) if names else None
    return Images(pixels, labels, names, "random images", "0" * 8)
