"""How fast the levels of a recipe train on this machine, measured by some steps of each."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
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

__all__ = ["LevelSpeed", "measure_speeds"]

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


def measure_speeds(recipe: Recipe, compute: Compute, seconds: float = 2.0) -> Iterator[LevelSpeed]:
    """Trains each level for some steps on random images and yields its speed, coarsest first.

    Nothing is written. Sheets, checkpoints and the opening of real data are not counted. A
    class-conditional recipe is measured with ten classes.

    Args:
        recipe: the recipe.
        compute: where and in which precision.
        seconds: how long to measure each level, after a first step that is not counted.

    Raises:
        LapganError: a net of the recipe cannot be built.
    """
    images = _draw_images(recipe)
    for level in reversed(recipe.levels):
        yield _measure(recipe, level, images, compute, seconds)


def _measure(
    recipe: Recipe, level: LevelRecipe, images: Images, compute: Compute, seconds: float
) -> LevelSpeed:
    task = LevelTask(
        recipe=recipe,
        level=level,
        batches=training_batches(recipe, images, seed=0),
        normalization=normalization_of(recipe, images),
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


def _time_steps(task: LevelTask, state: LevelState, seconds: float) -> float:
    """Returns images per second over whole rounds of steps: a penalty comes once in a round."""
    penalty = task.level.penalty
    steps = 1 if penalty is None else penalty.every
    _step(task, state, steps)
    before, begun = state.images_seen, time.perf_counter()
    while True:
        _step(task, state, steps)
        elapsed = time.perf_counter() - begun
        if elapsed >= seconds:
            return (state.images_seen - before) / elapsed


def _step(task: LevelTask, state: LevelState, steps: int) -> None:
    for _ in range(steps):
        task.step(state)
    if task.compute.device.type == "cuda":
        torch.cuda.synchronize(task.compute.device)


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
