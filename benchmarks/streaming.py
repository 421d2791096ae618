"""What a stream costs beside the memory-mapped images: CPU time, images per second, memory.

    python benchmarks/streaming.py cifar10 --recipe paper-cifar10 [--n 2000] [--steps 20] [--clock]

Writes training images as tar shards and reads an epoch of them, in a process of its own, which
checks that each image came once and tells its peak memory, PyTorch included. Then it measures the
CPU time of all threads per example: of minibatches that are read from the memory map and from the
stream, and of a whole training step of each level from the memory map. So the result holds on a
busy machine, where images per second by the clock say nothing.

With a free core, a stream is decoded beside the training. `--clock` measures that by the clock, for
a machine that does nothing else: trainings of each level on one thread, from the memory map and
from the stream, take turns of some seconds; the first turn of each is not counted.
"""

import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import torch
import typer

from lapgan.batches import TrainingSet
from lapgan.compute import choose_compute
from lapgan.data import open_images, write_shards
from lapgan.normalization import symmetric_normalization
from lapgan.recipe import Recipe, read_recipe
from lapgan.run_folder import PartFolder
from lapgan.training.config import Budget
from lapgan.training.level import LevelTask
from lapgan.training.opening import open_training_images, training_set

# Turns by the clock that count, and their seconds.
TURNS, TURN = 8, 5.0


def open_batches(data: str, recipe: Recipe) -> TrainingSet:
    return training_set(recipe, open_training_images(data, recipe, "stop"), 0)


def read_epoch(data: str, name: str, changes: list[str]) -> tuple[int, int, float, float, float]:
    """Returns examples, different ones, CPU seconds, seconds, and peak memory in MiB."""
    recipe = read_recipe(name, changes)
    batches, batch = open_batches(data, recipe), recipe.training.batch
    cpu, start = time.process_time(), time.perf_counter()
    read, seen = 0, set[int]()
    while read < batches.epoch:
        pixels, _ = batches.at(read, min(batch, batches.epoch - read))
        seen.update(hash(image.numpy().tobytes()) for image in pixels)
        read += len(pixels)
    cpu, elapsed = time.process_time() - cpu, time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return read, len(seen), cpu, elapsed, memory


def make_step(recipe: Recipe, name: str, data: str) -> Callable[[], object]:
    task = LevelTask(
        recipe=recipe,
        level=recipe.level(name),
        batches=open_batches(data, recipe),
        normalization=symmetric_normalization(recipe.sizes[0]),
        folder=PartFolder(Path()),
        budget=Budget(1),
        seed=0,
        compute=choose_compute(),
    )
    state = task.initial_state()
    return lambda: task.step(state)


def cpu_per_call(action: Callable[[], object], calls: int) -> float:
    """Returns CPU seconds of all threads per call, after one that is not counted."""
    action()
    start = time.process_time()
    for _ in range(calls):
        action()
    return (time.process_time() - start) / calls


def seconds_per_step(step: Callable[[], object], seconds: float) -> float:
    """Returns the time of a step by the clock, from as many as fit into some seconds."""
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        step()
        steps += 1
    return (time.perf_counter() - start) / steps


def compare_by_clock(recipe: Recipe, name: str, mapped: str, streamed: str) -> None:
    """Prints the images per second of a level from both, and by how much the second is slower."""
    steps = [make_step(recipe, name, data) for data in (mapped, streamed)]
    turns = [[seconds_per_step(step, TURN) for step in steps] for _ in range(1 + TURNS)][1:]
    speeds = [recipe.training.batch / statistics.median(turn) for turn in zip(*turns, strict=True)]
    slower = statistics.median(stream / memory for memory, stream in turns) - 1
    print(f"level {name}, by the clock: {speeds[0]:,.0f} images per second mapped, "
          f"{speeds[1]:,.0f} streamed, {slower:+.1%} time per step", flush=True)  # fmt: skip


def call(function, *arguments):
    """Calls a function in a new process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        return executor.submit(function, *arguments).result()


def main(
    data: Annotated[str, typer.Argument(help="A data source.")] = "cifar10",
    recipe: Annotated[str, typer.Option()] = "paper-cifar10",
    n: Annotated[int | None, typer.Option("--n", "-n", help="Only the first n images.")] = None,
    steps: Annotated[int, typer.Option(help="Training steps per level.")] = 20,
    clock: Annotated[bool, typer.Option(help="Measure images per second too.")] = False,
) -> None:
    """Measure what a stream costs."""
    torch.set_num_threads(1)
    images, changes = open_images(data), ["data.replacement=false", "data.hold_out=0"]
    chosen = read_recipe(recipe, changes)
    batch = chosen.training.batch
    print(f"{images.describe()}; {choose_compute()}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder) / "shards"
        count = write_shards(data, shards, images.size, count=n)
        size = sum(file.stat().st_size for file in shards.iterdir()) / 2**20
        print(f"{count:,} images in shards of {size:.0f} MiB", flush=True)
        examples, different, cpu, elapsed, memory = call(
            read_epoch, f"stream:{shards}", recipe, changes
        )
        streamed = 1000 * cpu / examples
        print(f"an epoch: {examples:,} examples, {different:,} different ones, {elapsed:.1f} s, "
              f"peak memory {memory:.0f} MiB", flush=True)  # fmt: skip
        for name in reversed(chosen.level_names) if clock else ():
            compare_by_clock(chosen, name, data, f"stream:{shards}")
    batches = open_batches(data, chosen)
    position = iter(range(0, 10**9, batch))
    mapped = 1000 * cpu_per_call(lambda: batches.at(next(position), batch), 20) / batch
    print(f"reading, CPU ms per example: mapped {mapped:.3f}, streamed {streamed:.3f}", flush=True)
    for name in reversed(chosen.level_names):
        step = 1000 * cpu_per_call(make_step(chosen, name, data), steps) / batch
        print(f"level {name}: a step takes {step:.2f} CPU ms per example; a stream makes it "
              f"{(step + streamed - mapped) / step - 1:+.1%}", flush=True)  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
