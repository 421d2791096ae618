"""Levels are trained one after another, or side by side in processes of their own."""

import multiprocessing
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import SimpleQueue
from typing import Any

import torch

from lapgan.compute import Compute, choose_compute
from lapgan.data import Images
from lapgan.distributed import current_ranks, decide_together
from lapgan.errors import LapganError
from lapgan.normalization import Normalization
from lapgan.recipe import LevelRecipe
from lapgan.run_folder import RunFolder
from lapgan.training.callbacks import Callback
from lapgan.training.coarse import coarse_levels
from lapgan.training.config import Budget, RunConfig, data_source
from lapgan.training.folder import lock, starting_model
from lapgan.training.level import LevelTask
from lapgan.training.log import Record
from lapgan.training.loop import train_task
from lapgan.training.opening import (
    TrainingImages,
    class_names_of,
    open_training_images,
    training_normalization,
    training_set,
)
from lapgan.training.resident import place_batches
from lapgan.training.selection import ScoredLevel, Selection, open_held_out, selection_of
from lapgan.training.signals import stop_signals
from lapgan.training.starting import StartingModel

__all__ = ["train_levels"]


@dataclass(frozen=True)
class _Shared:
    """What the levels of a run have in common: it is read once."""

    images: TrainingImages
    normalization: Normalization
    start: StartingModel | None


def train_levels(
    config: RunConfig,
    images: TrainingImages,
    start: StartingModel | None,
    callback: Callback,
    stopped: Callable[[], bool],
) -> None:
    """Trains the selected levels.

    Args:
        config: what to train; `precision` and `compile` are chosen, not left open.
        images: the training images.
        start: the trained model that the levels start with, if there is one.
        callback: see `lapgan.training.callbacks`.
        stopped: whether the run shall stop.

    Raises:
        LapganError: a level is trained by another process, or failed.
    """
    if config.jobs == 1 or len(config.selected_levels) == 1:
        shared = _Shared(images, training_normalization(config.recipe, images), start)
        for level in config.selected_levels:
            if not decide_together(stopped()):
                _train_level(config, level, shared, callback, stopped)
    else:
        _SideBySide(config, callback, stopped).run()


def _train_level(
    config: RunConfig,
    level: LevelRecipe,
    shared: _Shared,
    callback: Callback,
    stopped: Callable[[], bool],
) -> None:
    compute = _choose_compute(config)
    folder = RunFolder(config.out).part(level.name)
    at_once = min(config.jobs, len(config.selected_levels))
    task = LevelTask(
        recipe=config.recipe,
        level=level,
        batches=place_batches(
            training_set(config.recipe, shared.images, config.seed, workers=config.workers),
            compute,
            at_once,
        ),
        normalization=shared.normalization.to(compute.device),
        folder=folder,
        budget=config.budget(level),
        seed=config.seed,
        compute=compute,
        intervals=config.intervals,
        selection=_make_selection(config, level, shared, callback),
        start=shared.start,
        coarse=coarse_levels(
            config.out,
            shared.start,
            config.recipe,
            level,
            class_names_of(config.recipe, shared.images),
            compute,
        ),
    )
    with lock(task.folder) if current_ranks().is_main else nullcontext():
        train_task(task, callback, stopped)


def _choose_compute(config: RunConfig) -> Compute:
    compute = choose_compute(config.device, config.precision)
    return replace(
        compute,
        compiled=bool(config.compile),
        cuda_graphs=config.cuda_graphs and compute.device.type == "cuda",
    )


def _make_selection(
    config: RunConfig, level: LevelRecipe, shared: _Shared, callback: Callback
) -> Selection | None:
    """Makes the selection that a run asks for; warns of one that it does not go on with."""
    folder, criterion = RunFolder(config.out).part(level.name), config.select
    images = shared.images
    if criterion is not None and isinstance(images, Images):
        source = data_source(config.data, config.recipe)
        held_out = open_held_out(criterion, source, images, config.recipe, config.on_invalid)
        compute = choose_compute(config.device, config.precision)
        target = ScoredLevel(
            config.recipe, level, shared.normalization, images, held_out, compute, config.seed
        )
        return Selection(criterion, target, folder)
    if selected := selection_of(folder, level.name):
        callback.warned(
            f"level {level.name}: samples are drawn from {folder.best.name}, which was selected by "
            f"{selected['by']} after {selected['images_seen']:,} images. Continue with --select "
            f"{selected['by']}, or delete the file to sample with the last weights."
        )
    return None


class _QueueCallback(Callback):
    """Sends every call over a queue, as the name of the method and its arguments."""

    def __init__(self, queue: "SimpleQueue[Any]") -> None:
        self.queue = queue

    def started(self, part: str, images: int, seconds: float, budget: Budget) -> None:
        self.queue.put(("started", (part, images, seconds, budget)))

    def recorded(self, part: str, record: Record) -> None:
        self.queue.put(("recorded", (part, record)))

    def drawn(self, part: str, images: int) -> None:
        self.queue.put(("drawn", (part, images)))

    def warned(self, message: str) -> None:
        self.queue.put(("warned", (message,)))


class _SideBySide:
    """One process per level, as many at once as there are jobs."""

    def __init__(self, config: RunConfig, callback: Callback, stopped: Callable[[], bool]) -> None:
        self.config, self.callback, self.stopped = config, callback, stopped
        self.context = multiprocessing.get_context("spawn")
        self.queue: SimpleQueue[Any] = self.context.SimpleQueue()
        self.waiting = list(config.selected_levels)
        self.running: dict[str, SpawnProcess] = {}
        self.failures: list[str] = []

    def run(self) -> None:
        """Trains all levels; raises a LapganError with the failures, after all have ended."""
        while self.waiting or self.running:
            if self.stopped() or self.failures:
                self.waiting.clear()
                for process in self.running.values():
                    process.terminate()
            self._start()
            self._collect()
            self._deliver()
        if self.failures:
            raise LapganError("\n".join(self.failures))

    def _start(self) -> None:
        threads = max(1, (os.cpu_count() or 1) // self.config.jobs)
        while self.waiting and len(self.running) < self.config.jobs:
            name = self.waiting.pop(0).name
            arguments = (self.config, name, threads, self.queue)
            self.running[name] = self.context.Process(target=_work, args=arguments)
            self.running[name].start()

    def _collect(self) -> None:
        for name, process in list(self.running.items()):
            process.join(timeout=0.1)
            if process.exitcode is not None:
                del self.running[name]
                if process.exitcode != 0 and not self.stopped():
                    self.failures.append(f"level {name}: its process died")

    def _deliver(self) -> None:
        """Passes waiting calls on to the callback, and keeps messages of failures."""
        while not self.queue.empty():
            kind, content = self.queue.get()
            if kind == "failed":
                self.failures.append(content[0])
            else:
                getattr(self.callback, kind)(*content)


def _work(config: RunConfig, name: str, threads: int, queue: "SimpleQueue[Any]") -> None:
    """Trains one level in a process of its own."""
    torch.set_num_threads(threads)
    try:
        source = data_source(config.data, config.recipe)
        images = open_training_images(source, config.recipe, config.on_invalid)
        normalization = training_normalization(config.recipe, images)
        shared = _Shared(images, normalization, starting_model(config.out, config.start_from))
        with stop_signals() as stopped:
            level = config.recipe.level(name)
            _train_level(config, level, shared, _QueueCallback(queue), stopped)
    except LapganError as error:
        queue.put(("failed", (str(error),)))
