"""A run: one recipe, and its levels, one after another or side by side."""

import math
import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch

from lapgan.cascade import Cascade
from lapgan.compute import choose_compute
from lapgan.data import Images, OnInvalid, open_images
from lapgan.errors import LapganError
from lapgan.normalization import Normalization
from lapgan.recipe import Recipe
from lapgan.training.below import load_below
from lapgan.training.examples import normalization_of, training_batches
from lapgan.training.folder import assemble, check_run, claim, locked
from lapgan.training.job import Budget, Intervals, LevelTask
from lapgan.training.level import train_level
from lapgan.training.listener import Callback
from lapgan.training.log import AnyRecord
from lapgan.training.signals import stop_signals

__all__ = ["Order", "plan", "train"]


@dataclass(frozen=True)
class Order:
    """What to train.

    Args:
        recipe: the recipe of the cascade.
        data: a data source; see `lapgan.data.open_images`.
        out: the run folder.
        levels: which levels, by index, 0 the finest; all by default.
        images: examples a level; by default what the recipe says.
        minutes: time for all the levels together, shared as the recipe says; None for no limit.
        jobs: how many levels to train at once, each on its share of the cores.
        seed: of everything random.
        device: `auto`, `cpu`, `cuda`.
        on_invalid: what to do with images that cannot be used: `stop` or `skip`.
        intervals: how often to report.
    """

    recipe: Recipe
    data: str
    out: Path
    levels: tuple[int, ...] = ()
    images: int | None = None
    minutes: float | None = None
    jobs: int = 1
    seed: int = 0
    device: str = "auto"
    on_invalid: OnInvalid = "stop"
    intervals: Intervals = field(default_factory=Intervals)

    @property
    def chosen(self) -> list[int]:
        """The levels to train, coarsest first."""
        return sorted(self.levels or range(len(self.recipe.levels)), reverse=True)

    def budget(self, k: int) -> Budget:
        """How long level k is trained."""
        images = self.images or (self.recipe.training.images)
        if self.minutes is None:
            return Budget(images)
        # Without --images, a limit in minutes is the only one.
        limit = self.images or 2**62
        shares = {level: self.recipe.level(level).share for level in self.chosen}
        at_once = min(self.jobs, len(shares))
        return Budget(limit, 60 * self.minutes * at_once * shares[k] / sum(shares.values()))


def train(order: Order, listener: Callback) -> Cascade | None:
    """Trains the levels of an order, going on from their checkpoints.

    Returns:
        The cascade, or None while some level has no weights yet.

    Raises:
        LapganError: the folder belongs to another recipe, data or seed, a level is being trained
            by another process, or a level failed.
        KeyboardInterrupt: the run was stopped by a signal, after checkpoints were written.
    """
    _check_jobs(order)
    images = open_images(order.data, on_invalid=order.on_invalid)
    _check_images(order, images)
    claim(order.out, order.recipe, order.seed, images)
    run = _one_by_one if order.jobs == 1 or len(order.chosen) == 1 else _side_by_side
    with stop_signals() as stopped:
        run(order, images, listener, stopped)
        cascade = assemble(order.out)
        if stopped():
            raise KeyboardInterrupt
    return cascade


def plan(order: Order) -> Iterator[str]:
    """Yields, line by line, what `train` would do; raises what it would raise before it starts."""
    _check_jobs(order)
    images = open_images(order.data, on_invalid=order.on_invalid)
    _check_images(order, images)
    check_run(order.out, order.recipe, order.seed, images)
    yield f"data: {images.name}, {len(images):,} images of {images.size[0]}x{images.size[1]}"
    num_classes = len(images.class_names) if order.recipe.data.classes else 0
    for k in order.chosen:
        level, size, budget = order.recipe.level(k), order.recipe.sizes[k], order.budget(k)
        nets = (
            level.build_generator(size, num_classes),
            level.discriminator.build(size, num_classes),
        )
        g, d = (sum(p.numel() for p in net.parameters()) for net in nets)
        limit = f"{budget.images:,} images"
        if budget.seconds < math.inf:
            limit = f"{budget.seconds / 60:.1f} minutes"
        yield f"level {order.recipe.level_name(k)}: G {g:,} and D {d:,} parameters, for {limit}"
    yield f"run folder: {order.out}"


def _check_jobs(order: Order) -> None:
    if order.jobs > 1 and len(order.chosen) > 1 and order.recipe.training.exposure > 0:
        raise LapganError(
            f"--jobs {order.jobs}: recipe {order.recipe.name} trains each level on samples of the "
            "level below (training.exposure), so one must wait for the other; use --jobs 1, or set "
            "training.exposure=0."
        )


def _check_images(order: Order, images: Images) -> None:
    training_batches(order.recipe, images, order.seed)
    if order.recipe.data.classes and not images.class_names:
        raise LapganError(
            f"{images.name}: recipe {order.recipe.name} is class-conditional (data.classes = true) "
            "but these images have no classes; use class folders or labels, or --set "
            "data.classes=false."
        )


def _train_one(
    order: Order,
    k: int,
    images: Images,
    normalization: Normalization,
    listener: Callback,
    stopped: Callable[[], bool],
) -> None:
    folder = order.out / f"level-{order.recipe.level_name(k)}"
    with locked(folder):
        compute = choose_compute(order.device)
        exposed = order.recipe.training.exposure > 0 and k < len(order.recipe.levels) - 1
        job = LevelTask(
            recipe=order.recipe,
            k=k,
            images=images,
            normalization=normalization,
            folder=folder,
            budget=order.budget(k),
            seed=order.seed,
            compute=compute,
            intervals=order.intervals,
            below=load_below(order.out, order.recipe, k, compute) if exposed else None,
        )
        train_level(job, listener, stopped)


def _one_by_one(
    order: Order, images: Images, listener: Callback, stopped: Callable[[], bool]
) -> None:
    normalization = normalization_of(order.recipe, images)
    for k in order.chosen:
        if not stopped():
            _train_one(order, k, images, normalization, listener, stopped)


# Side by side: one process a level. Messages to the listener travel over a queue as plain tuples.


class _Queued(Callback):
    def __init__(self, queue: "SimpleQueue[Any]") -> None:
        self.queue = queue

    def started(self, level: str, images: int, seconds: float, budget: Budget) -> None:
        self.queue.put(("started", (level, images, seconds, budget)))

    def recorded(self, level: str, record: AnyRecord) -> None:
        self.queue.put(("recorded", (level, record)))

    def warned(self, message: str) -> None:
        self.queue.put(("warned", (message,)))


def _side_by_side(
    order: Order, images: Images, listener: Callback, stopped: Callable[[], bool]
) -> None:
    context = multiprocessing.get_context("spawn")
    queue: SimpleQueue[Any] = context.SimpleQueue()
    waiting, running = list(order.chosen), dict[int, SpawnProcess]()
    failures: list[str] = []
    threads = max(1, (os.cpu_count() or 1) // order.jobs)
    while waiting or running:
        if stopped() or failures:
            waiting.clear()
            for process in running.values():
                process.terminate()
        while waiting and len(running) < order.jobs:
            k = waiting.pop(0)
            running[k] = context.Process(target=_work, args=(order, k, threads, queue))
            running[k].start()
        for k, process in list(running.items()):
            process.join(timeout=0.1)
            if process.exitcode is not None:
                del running[k]
                if process.exitcode != 0 and not stopped():
                    failures.append(f"level {order.recipe.level_name(k)}: its process died")
        failures += _deliver(queue, listener)
    if failures:
        raise LapganError("\n".join(failures))


def _deliver(queue: "SimpleQueue[Any]", listener: Callback) -> list[str]:
    """Passes waiting messages on to the listener; returns those that tell of a failure."""
    failures = []
    while not queue.empty():
        kind, content = queue.get()
        if kind == "failed":
            failures.append(content[0])
        else:
            getattr(listener, kind)(*content)
    return failures


def _work(order: Order, k: int, threads: int, queue: "SimpleQueue[Any]") -> None:
    torch.set_num_threads(threads)
    try:
        images = open_images(order.data, on_invalid=order.on_invalid)
        with stop_signals() as stopped:
            normalization = normalization_of(order.recipe, images)
            _train_one(order, k, images, normalization, _Queued(queue), stopped)
    except LapganError as error:
        queue.put(("failed", (str(error),)))
