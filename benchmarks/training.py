"""Training speed of the paper's nets: ours against the same nets in a plain PyTorch loop.

    python benchmarks/training.py [--recipe paper-cifar10] [--steps 5] [--device auto]
    python benchmarks/training.py --recipe cifar10-cc --device cuda --without

Both make the same steps on the same batch size in one run, by turns, so that the ratio holds on a
noisy machine. The plain loop is float32 and NCHW, with direct convolutions, PyTorch's default
optimizer, and gradients for D's weights in G's step that nobody uses. "data" is the fraction of
our step that goes into reading, cropping, normalising and building the pyramid.

On a CUDA device our steps are replayed as CUDA graphs, as `lapgan train` does.

With `--without`, our step is compared with itself without one thing at a time: with images that the
processor reads and sends, without a compiler, without fused optimizers, with a gradient penalty of
all examples, and, compiled, without CUDA graphs. Each ratio is that of the times of a whole round
of steps, in which the penalty is due once.
"""

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import nn

from lapgan.compute import Compute, choose_compute
from lapgan.data import Images
from lapgan.models.paper import ConvGenerator
from lapgan.normalization import symmetric_normalization
from lapgan.objectives.paper import cross_entropy, nonsaturating_generator_loss
from lapgan.penalty import ExactPenalty
from lapgan.recipe import LevelRecipe, Recipe, read_recipe
from lapgan.run_folder import PartFolder
from lapgan.training.config import Budget
from lapgan.training.examples import training_batches
from lapgan.training.graphs import StepGraphs
from lapgan.training.level import LevelState, LevelTask
from lapgan.training.resident import place_batches

# What a step has, and the times, without and with it, whose ratio tells what it gains.
RATIOS = {
    "resident": ("sent", "eager"),
    "compiled": ("eager", "compiled"),
    "fused": ("unfused", "eager"),
    "fraction": ("whole", "eager"),
    "graphs": ("compiled", "replayed"),
}


def noise_images(size: tuple[int, int]) -> Images:
    pixels = np.random.default_rng(0).integers(0, 256, (4096, 3, *size), dtype=np.uint8)
    return Images(pixels, np.arange(4096) % 10, tuple("abcdefghij"), "noise", "0" * 8)


def noise_task(
    recipe: Recipe, level: LevelRecipe, compute: Compute, resident: bool = True
) -> LevelTask:
    margin = 4 if recipe.data.crop == "corners" else 0
    height, width = recipe.sizes[0]
    batches = training_batches(recipe, noise_images((height + margin, width + margin)), 0)
    return LevelTask(
        recipe=recipe,
        level=level,
        batches=place_batches(batches, compute) if resident else batches,
        normalization=symmetric_normalization(recipe.sizes[0]).to(compute.device),
        folder=PartFolder(Path()),
        budget=Budget(1),
        seed=0,
        compute=compute,
    )


def plain_step(recipe: Recipe, level: LevelRecipe, device: torch.device) -> Callable[[], None]:
    size, batch = level.size, recipe.training.batch
    generator, discriminator = level.build_generator(0), level.build_discriminator(0)
    if isinstance(generator, ConvGenerator):
        maps = generator.conv2.in_channels
        generator.conv2 = nn.Conv2d(maps, maps, 7, padding=3)
    generator.to(device)
    discriminator.to(device)
    g_sgd = torch.optim.SGD(generator.parameters(), lr=0.02, momentum=0.5)
    d_sgd = torch.optim.SGD(discriminator.parameters(), lr=0.02, momentum=0.5)
    random, half = torch.Generator(device).manual_seed(0), batch // 2
    coarsest = level is recipe.levels[-1]

    def step() -> None:
        real = torch.randn(batch, 3, *size, device=device)
        low = None if coarsest else torch.randn(batch, 3, *size, device=device)
        z = level.noise.sample(batch, size, random)
        first, second = (None, None) if low is None else (low[:half], low[half:])
        fake = generator(second, z[half:], None).detach()
        loss = cross_entropy(
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
    wait = torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None
    wait()
    start = time.perf_counter()
    action()
    wait()
    return time.perf_counter() - start


def median_seconds(actions: Iterable[Callable[[], object]], rounds: int) -> list[float]:
    """Returns the median seconds of each of the actions, which take turns."""
    actions = tuple(actions)
    turns = [[seconds(action) for action in actions] for _ in range(rounds)]
    return [statistics.median(times) for times in zip(*turns, strict=True)]


def round_of(task: LevelTask, fused: bool = True) -> Callable[[], None]:
    """A round of steps, in which the gradient penalty is due once."""
    state = task.initial_state()
    for optimizer in state.optimizers.values():
        for group in optimizer.param_groups:
            if not fused:
                group |= {"fused": False, "foreach": True}
    return partial(run_round, task, state)


def run_round(task: LevelTask, state: LevelState) -> None:
    for _ in range(steps_per_round(task.level)):
        task.step(state)


def steps_per_round(level: LevelRecipe) -> int:
    return 1 if level.penalty is None else level.penalty.every


def warm_up_rounds(compute: Compute) -> int:
    """Before steps are replayed they are run three times, and recorded once."""
    return 5 if compute.cuda_graphs else 1


def with_and_without_graphs(task: LevelTask) -> tuple[Callable[[], None], Callable[[], None]]:
    """Rounds of the same nets, which are compiled once, replayed and not."""
    state = task.initial_state()
    graphs = state.graphs

    def run(these: StepGraphs | None) -> None:
        state.graphs = these
        run_round(task, state)

    return partial(run, graphs), partial(run, None)


def penalize_all(task: LevelTask) -> LevelTask:
    """The task with a penalty of all examples, where it is exact and of a fraction of them."""
    penalty = task.level.penalty
    if not isinstance(penalty, ExactPenalty):
        return task
    whole = penalty.model_copy(update={"fraction": 1.0})
    return replace(task, level=task.level.model_copy(update={"own_penalty": whole}))


def compare_without(recipe: Recipe, compute: Compute, rounds: int) -> None:
    """Prints how much faster a step is for each thing that it has."""
    columns = " ".join(f"{name:>9}" for name in ("images/s", *RATIOS))
    print(f"{'level':>6} {columns}   (ratios)")
    eager_compute = replace(compute, cuda_graphs=False)
    for level in recipe.levels:
        task = noise_task(recipe, level, replace(compute, compiled=True))
        eager = replace(task, compute=eager_compute)
        # The compiled ones come last: a new compilation forgets those of before.
        actions = {
            "eager": round_of(eager),
            "sent": round_of(noise_task(recipe, level, eager_compute, resident=False)),
            "unfused": round_of(eager, fused=False),
            "whole": round_of(penalize_all(eager)),
        }
        actions["replayed"], actions["compiled"] = with_and_without_graphs(task)
        for action in actions.values():
            for _ in range(warm_up_rounds(compute)):
                action()
        times = dict(zip(actions, median_seconds(actions.values(), rounds), strict=True))
        rate = steps_per_round(level) * recipe.training.batch / times["replayed"]
        ratios = [times[without] / times[with_it] for without, with_it in RATIOS.values()]
        print(f"{level.name:>6} {rate:9,.0f} " + " ".join(f"{ratio:9.2f}" for ratio in ratios))


def main(
    recipe: Annotated[str, typer.Option()] = "paper-cifar10",
    steps: Annotated[int, typer.Option(min=1)] = 5,
    device: Annotated[str, typer.Option()] = "auto",
    batch: Annotated[int | None, typer.Option(min=2, help="By default the recipe's.")] = None,
    without: Annotated[bool, typer.Option("--without")] = False,
) -> None:
    chosen = read_recipe(recipe, [f"training.batch={batch}"] if batch else [])
    compute = choose_compute(device)
    compute = replace(compute, cuda_graphs=compute.device.type == "cuda")
    with compute.tuned():
        compare(chosen, compute, steps, without)


def compare(chosen: Recipe, compute: Compute, steps: int, without: bool) -> None:
    batch = chosen.training.batch
    print(f"{chosen.name}, batch {batch}, {compute}, torch {torch.__version__}")
    if without:
        compare_without(chosen, compute, steps)
        return
    print(f"{'level':>6} {'plain':>9} {'ours':>9} {'ratio':>6} {'data':>6}   (images/s)")
    for level in chosen.levels:
        task, plain = noise_task(chosen, level, compute), plain_step(chosen, level, compute.device)
        state = task.initial_state()
        plain()
        for _ in range(warm_up_rounds(compute) * steps_per_round(level)):
            task.step(state)
        actions = (
            plain,
            lambda: task.step(state),  # noqa: B023
            lambda: task.examples(state.images_seen, batch),  # noqa: B023
        )
        slow, fast, data = median_seconds(actions, steps)
        speeds = [batch / t for t in (slow, fast)]
        ratios = f"{slow / fast:6.2f} {data / fast:6.1%}"
        print(f"{level.name:>6} {speeds[0]:9.0f} {speeds[1]:9.0f} {ratios}")


if __name__ == "__main__":
    typer.run(main)
