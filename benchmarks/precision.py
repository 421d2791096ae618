"""What bfloat16 gains on this CPU: images per second in float32 and by autocast.

    python benchmarks/precision.py [--recipe cifar10-cc --recipe paper-cifar10] [--rounds 5]

The same nets in both precisions, by turns in one run, so that the ratio holds on a noisy machine:
rounds of steps of training at each level, in which a gradient penalty is due once, and whole
cascades that generate images. Weights are random, which costs the same. Figures are medians of
three rounds; the defaults take some minutes on one core.
"""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import typer
from sampling import random_cascade
from training import median_seconds, noise_task, round_of, steps_per_round

from lapgan.cascade import Cascade
from lapgan.compute import Compute, choose_compute
from lapgan.recipe import Recipe, read_recipe

RECIPES = ("cifar10-cc", "cifar10-cc-small", "cifar10-cc-features", "paper-cifar10")
BATCH = 32
SAMPLES = 128


class Work(NamedTuple):
    """Some images, and what is done with them in float32 and in bfloat16."""

    name: str
    images: int
    float32: Callable[[], object]
    bfloat16: Callable[[], object]


def training_work(recipe: Recipe, computes: tuple[Compute, Compute]) -> Iterator[Work]:
    """Yields a round of steps of each level."""
    for level in recipe.levels:
        images = steps_per_round(level) * recipe.training.batch
        rounds = (round_of(noise_task(recipe, level, compute)) for compute in computes)
        yield Work(f"train {level.name}", images, *rounds)


def sampling_work(recipe: str, computes: tuple[Compute, Compute]) -> Work:
    """Returns the generation of images by all levels."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cascade.safetensors"
        random_cascade(recipe, path)
        cascades = [Cascade.load(path, compute) for compute in computes]
    return Work("sample", SAMPLES, *(partial(cascade.sample, SAMPLES) for cascade in cascades))


def compare(work: Work, rounds: int) -> tuple[float, float]:
    """Returns images per second in float32 and in bfloat16."""
    actions = (work.float32, work.bfloat16)
    for action in actions:
        action()
    slow, fast = median_seconds(actions, rounds)
    return work.images / slow, work.images / fast


def main(
    recipe: Annotated[list[str], typer.Option()] = list(RECIPES),  # noqa: B006
    rounds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Prints a row per recipe and kind of work."""
    computes = (choose_compute("cpu", "float32"), choose_compute("cpu", "bfloat16"))
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, images/s")
    print(f"{'':32} {'float32':>9} {'bfloat16':>9} {'ratio':>6}")
    for name in recipe:
        chosen = read_recipe(name, [f"training.batch={BATCH}"])
        for work in (*training_work(chosen, computes), sampling_work(name, computes)):
            slow, fast = compare(work, rounds)
            row = f"{name} {work.name}"
            print(f"{row:32} {slow:9.0f} {fast:9.0f} {fast / slow:6.2f}", flush=True)


if __name__ == "__main__":
    typer.run(main)
