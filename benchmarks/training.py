"""Training speed of the paper's nets: ours against the same nets in a plain PyTorch loop.

    python benchmarks/training.py [--recipe paper-cifar10] [--steps 5]

Both make the same steps on the same batch size in one run, by turns, so that the ratio holds on a
noisy machine. The plain loop is float32 and NCHW, with direct convolutions, PyTorch's default
optimizer, and gradients for D's weights in G's step that nobody uses. "data" is the share of our
step that goes into reading, cropping, normalising and building the pyramid.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import nn

from lapgan.compute import Compute, choose_compute
from lapgan.data import Images
from lapgan.losses import discriminator_loss, nonsaturating_generator_loss
from lapgan.models.paper import ConvGenerator
from lapgan.normalization import symmetric_normalization
from lapgan.recipe import Recipe, read_recipe
from lapgan.training.examples import level_examples, training_batches
from lapgan.training.job import Budget, LevelTask
from lapgan.training.level import initial_state, training_step


def noise_images(size: tuple[int, int]) -> Images:
    pixels = np.random.default_rng(0).integers(0, 256, (4096, 3, *size), dtype=np.uint8)
    return Images(pixels, np.arange(4096) % 10, tuple("abcdefghij"), "noise", "0" * 8)


def noise_job(recipe: Recipe, compute: Compute) -> LevelTask:
    side = max(recipe.sizes[0]) + (4 if recipe.data.crop == "corners" else 0)
    return LevelTask(recipe, 0, noise_images((side, side)), symmetric_normalization(recipe.sizes[0]), Path(),
                    Budget(1), 0, compute)  # fmt: skip


def plain_step(job: LevelTask) -> Callable[[], None]:
    level, size, batch = job.recipe.level(job.k), job.recipe.sizes[job.k], job.recipe.training.batch
    generator = level.build_generator(size, 0)
    discriminator = level.discriminator.build(size, 0)
    if isinstance(generator, ConvGenerator):
        maps = generator.conv2.in_channels
        generator.conv2 = nn.Conv2d(maps, maps, 7, padding=3)
    g_sgd = torch.optim.SGD(generator.parameters(), lr=0.02, momentum=0.5)
    d_sgd = torch.optim.SGD(discriminator.parameters(), lr=0.02, momentum=0.5)
    random, half = torch.Generator().manual_seed(0), batch // 2
    coarsest = job.k == len(job.recipe.levels) - 1

    def step() -> None:
        real = torch.randn(batch, 3, *size)
        low = None if coarsest else torch.randn(batch, 3, *size)
        z = level.noise.build().sample(batch, size, random)
        first, second = (None, None) if low is None else (low[:half], low[half:])
        fake = generator(second, z[half:], None).detach()
        loss = discriminator_loss(
            real=discriminator(real[:half], first, None), fake=discriminator(fake, second, None)
        )
        d_sgd.zero_grad()
        loss.backward()
        d_sgd.step()
        loss = nonsaturating_generator_loss(discriminator(generator(low, z, None), low, None))
        g_sgd.zero_grad()
        loss.backward()
        g_sgd.step()

    return step


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main(
    recipe: Annotated[str, typer.Option()] = "paper-cifar10",
    steps: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    chosen = read_recipe(recipe)
    compute = choose_compute()
    print(f"{recipe}, batch {chosen.training.batch}, {compute}, torch {torch.__version__}")
    print(f"{'level':>6} {'plain':>9} {'ours':>9} {'ratio':>6} {'data':>6}   (images/s)")
    job = noise_job(chosen, compute)
    batches = training_batches(chosen, job.images, 0)
    for k, name in enumerate(chosen.levels):
        level = replace(job, k=k)
        plain, state = plain_step(level), initial_state(level)
        plain()
        training_step(level, state, batches)
        times = [
            (
                seconds(plain),
                seconds(lambda: training_step(level, state, batches)),  # noqa: B023
                seconds(lambda: level_examples(level, batches, state.images_seen)),  # noqa: B023
            )
            for _ in range(steps)
        ]
        slow, fast, data = (statistics.median(column) for column in zip(*times, strict=True))
        speeds = [chosen.training.batch / t for t in (slow, fast)]
        print(f"{name:>6} {speeds[0]:9.0f} {speeds[1]:9.0f} {slow / fast:6.2f} {data / fast:6.1%}")


if __name__ == "__main__":
    typer.run(main)
