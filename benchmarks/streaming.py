"""A stream against the memory-mapped images: images per second, CPU time, peak memory.

    python benchmarks/streaming.py cifar10 --recipe paper-cifar10 --level 14 [--seconds 20]

Writes the training images as tar shards, reads a whole epoch of them and checks that each image
came once, then trains the same level from both by turns, each time in a process of its own, so that
the ratio holds on a noisy machine. CPU time is that of all threads: on a busy machine it is what a
stream costs. Peak memory is that of the process that read the epoch, PyTorch included.
"""

import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import torch
import typer

from lapgan.compute import choose_compute
from lapgan.data import ShardOrder, is_stream, open_images, open_stream, write_shards
from lapgan.recipe import read_recipe
from lapgan.run_folder import PartFolder
from lapgan.streaming import StreamedBatches
from lapgan.training.config import Budget
from lapgan.training.level import LevelTask
from lapgan.training.opening import open_training_images, training_normalization, training_set


def read_epoch(data: str) -> tuple[int, int, float, float]:
    """Returns images, different ones of them, seconds, and peak memory in MiB."""
    stream = open_stream(data)
    batches = StreamedBatches(stream, stream.size, ShardOrder(stream.counts, 0))
    start, seen, read = time.perf_counter(), set[int](), 0
    while read < batches.epoch:
        pixels, _ = batches.at(read, min(128, batches.epoch - read))
        seen.update(hash(image.numpy().tobytes()) for image in pixels)
        read += len(pixels)
    seconds = time.perf_counter() - start
    return read, len(seen), seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def train_level(data: str, recipe: str, level: str, seconds: float) -> tuple[float, float]:
    """Returns images per second, and CPU milliseconds per image."""
    torch.set_num_threads(1)
    chosen = read_recipe(recipe, ["data.replacement=false"])
    images = open_training_images(data, chosen, "stop")
    task = LevelTask(
        recipe=chosen,
        level=chosen.level(level),
        batches=training_set(chosen, images, 0),
        normalization=training_normalization(chosen, images),
        folder=PartFolder(Path()),
        budget=Budget(1),
        seed=0,
        compute=choose_compute(),
    )
    state = task.initial_state()
    for _ in range(3):
        task.step(state)
    first, start, cpu = state.images_seen, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        task.step(state)
    count = state.images_seen - first
    elapsed, used = time.perf_counter() - start, time.process_time() - cpu
    return count / elapsed, 1000 * used / count


def main(
    data: Annotated[str, typer.Argument(help="A data source.")] = "cifar10",
    recipe: Annotated[str, typer.Option()] = "paper-cifar10",
    level: Annotated[list[str] | None, typer.Option(help="Repeatable.")] = None,
    seconds: Annotated[float, typer.Option(help="Per run.")] = 20.0,
    runs: Annotated[int, typer.Option(help="Of each kind.")] = 3,
) -> None:
    """Compare a stream of shards with the memory-mapped images."""
    images = open_images(data)
    print(f"{images.describe()}; torch {torch.__version__}, one thread; {choose_compute()}")
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder) / "shards"
        start = time.perf_counter()
        write_shards(data, shards, images.size)
        size = sum(file.stat().st_size for file in shards.iterdir()) / 2**20
        print(f"shards: {size:.0f} MiB, written in {time.perf_counter() - start:.0f} s")
        stream = f"stream:{shards}"
        assert is_stream(stream)
        count, different, elapsed, memory = call(read_epoch, stream)
        print(f"an epoch: {count:,} images, {different:,} different ones in the shards, "
              f"{count / elapsed:,.0f} images/s, peak memory {memory:.0f} MiB")  # fmt: skip
        for name in level or read_recipe(recipe).level_names:
            results = [
                [call(train_level, source, recipe, name, seconds) for source in (data, stream)]
                for _ in range(runs)
            ]
            mapped, streamed = (
                [statistics.median(column) for column in zip(*rows, strict=True)]
                for rows in zip(*results, strict=True)
            )
            print(f"level {name}: mapped {mapped[0]:.0f} images/s, {mapped[1]:.2f} CPU ms per image"
                  f"; streamed {streamed[0]:.0f} images/s, {streamed[1]:.2f} CPU ms per image; "
                  f"CPU ratio {mapped[1] / streamed[1]:.2f}", flush=True)  # fmt: skip


def call(function, *arguments):
    """Calls a function in a new process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        return executor.submit(function, *arguments).result()


if __name__ == "__main__":
    typer.run(main)
