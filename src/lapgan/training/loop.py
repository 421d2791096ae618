"""The training loop: report, checkpoint, sheet, done?, step - for any part of a run.

A part is a `Task`: a level, or the classifier. The loop has the clock, the log, the checkpoints and
the stops; the task has the nets, the examples and the step. Several ranks (`lapgan.distributed`)
run the same loop by the clock of the first, which alone writes files.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from lapgan.compute import Compute
from lapgan.distributed import (
    current_ranks,
    decide_together,
    time_of_main_rank,
    wait_for_ranks,
)
from lapgan.errors import LapganError
from lapgan.files import write_json
from lapgan.run_folder import PartFolder
from lapgan.training.callbacks import Callback
from lapgan.training.config import Budget, LogIntervals
from lapgan.training.log import Meter, Record, append_record, rewind_records
from lapgan.training.monitor import HealthMonitor
from lapgan.training.rollback import ExplosionError, Limits, Safeguard
from lapgan.training.state import NotFiniteError, TrainingState, load_state, save_state

__all__ = ["Task", "check_finite", "train_task"]

State = TypeVar("State", bound=TrainingState)


class Task(Protocol[State]):
    """A part of a run: what the loop needs to know of it."""

    @property
    def name(self) -> str:
        """A level's name, such as 28, or `classifier`."""

    @property
    def folder(self) -> PartFolder:
        """Where the part's files are."""

    @property
    def budget(self) -> Budget:
        """When to stop."""

    @property
    def intervals(self) -> LogIntervals:
        """How often to report."""

    @property
    def compute(self) -> Compute:
        """Where, and in which precision."""

    @property
    def limits(self) -> Limits | None:
        """Beyond which training goes back to an earlier state; None for never."""

    def initial_state(self) -> State:
        """Makes the state before the first step, from seed and data alone."""

    def step(self, state: State) -> Mapping[str, float | Tensor]:
        """Makes one step and advances `images_seen`; returns figures of the step.

        Figures may be tensors on the device: the loop reads their means when it logs them.
        """

    def record(self, state: State, rate: float, means: Mapping[str, float]) -> Record:
        """Makes a record of the means of figures; `rate` is in images per second."""

    def write_weights(self, state: State) -> None:
        """Writes the weights that are sampled with."""

    def draw_sheet(self, state: State) -> None:
        """Writes a sheet of samples, if the part has any."""


def train_task(
    task: Task[State], callback: Callback, stopped: Callable[[], bool] = lambda: False
) -> State:
    """Trains a part until its budget is spent, from its checkpoint if there is one.

    Args:
        task: what to train.
        callback: called when the part starts, logs a record, or warns.
        stopped: asked before each step; when it returns true, a checkpoint is written and the
            state returned.

    Raises:
        LapganError: training diverged (the last good checkpoint is kept), a file cannot be
            written, or a checkpoint cannot be read.
    """
    devices = [task.compute.device] if task.compute.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), task.compute.tuned():
        state = task.initial_state()
        if task.folder.state.exists():
            load_state(task.folder.state, state)
        _rewind_log(task, state)
        if current_ranks().is_main:
            write_json(task.folder.budget, task.budget.content())
        callback.started(task.name, state.images_seen, state.seconds, task.budget)
        _Loop(task, state, callback).run(stopped)
    return state


class _Loop(Generic[State]):
    """One run of the loop: when it last logged, saved and drew, in seconds of training."""

    def __init__(self, task: Task[State], state: State, callback: Callback) -> None:
        self.task, self.state, self.callback = task, state, callback
        self.is_main = current_ranks().is_main
        self.meter, self.monitor = Meter(), HealthMonitor(task.name)
        self.safeguard = Safeguard(task.folder, task.limits)
        self.begun = time.monotonic() - state.seconds
        self.logged = self.saved = state.seconds
        self.logged_images = state.images_seen
        self.next_sheet = state.seconds + task.intervals.first_sheet

    def run(self, stopped: Callable[[], bool]) -> None:
        """Trains until the budget is spent or `stopped` returns true."""
        self.safeguard.begin(self.state)
        while not (done := self._is_spent()) or self.meter.steps:
            try:
                done = done or decide_together(stopped())
                self._report(done)
                if done:
                    return
                self._step()
            except (NotFiniteError, ExplosionError) as error:
                self._go_back(error)

    def _step(self) -> None:
        self.meter.add(**self.task.step(self.state))
        self.state.seconds = self._now()
        self.safeguard.check(self.state)

    def _now(self) -> float:
        """Returns the seconds of training so far, by the clock of the first rank."""
        return time_of_main_rank(time.monotonic() - self.begun)

    def _report(self, done: bool) -> None:
        """Logs, saves and draws what is due, or all of it when training is done."""
        task, state, every = self.task, self.state, self.task.intervals
        if self.meter.steps and (done or state.seconds - self.logged >= every.log):
            self._log()
        saves = done or state.seconds - self.saved >= every.checkpoint
        draws = done or state.seconds >= self.next_sheet
        if saves or draws:
            check_finite(self.meter.means())
        if saves:
            self._checkpoint()
        if draws:
            if self.is_main:
                task.draw_sheet(state)
            self.callback.drawn(task.name, state.images_seen)
            self.next_sheet = state.seconds + every.sheet

    def _is_spent(self) -> bool:
        return self.task.budget.spent(self.state.images_seen, self.state.seconds) >= 1

    def _log(self) -> None:
        state = self.state
        rate = (state.images_seen - self.logged_images) / (state.seconds - self.logged)
        means = self.meter.take()
        check_finite(means)
        record = self.task.record(state, rate, means)
        if self.is_main:
            append_record(self.task.folder.log, record)
        self.callback.recorded(self.task.name, record)
        for message in self.monitor.warnings(record):
            self.callback.warned(message)
        self.logged, self.logged_images = state.seconds, state.images_seen

    def _checkpoint(self) -> None:
        save_state(self.task.folder.state, self.state)
        if self.is_main:
            self.task.write_weights(self.state)
        self.saved = self._now()

    def _go_back(self, error: LapganError) -> None:
        """Goes on from an earlier state at half the learning rate, if the task may.

        Raises:
            LapganError: it may not, or not once more; the checkpoint is a good one.
        """
        task, state, limits = self.task, self.state, self.task.limits
        images = state.images_seen
        if limits is None or not self.safeguard.restore(state):
            raise _divergence(task, images, str(error)) from error
        is_last = state.rollbacks >= limits.rollbacks
        state.rollbacks += not is_last
        self._checkpoint()
        _rewind_log(task, state)
        self.meter.clear()
        self.logged, self.logged_images = state.seconds, state.images_seen
        if is_last:
            reason = f"{error} It had gone back {state.rollbacks} times."
            raise _divergence(task, images, reason) from error
        self.callback.warned(
            f"level {task.name}: training exploded after {images:,} images: {error} It goes on "
            f"from {state.images_seen:,} images at {0.5**state.rollbacks:g} of the learning rate "
            f"(rollback {state.rollbacks} of {limits.rollbacks})."
        )


def check_finite(figures: Mapping[str, float]) -> None:
    """Raises a NotFiniteError if a figure is infinite or not a number."""
    for name, value in figures.items():
        if not math.isfinite(value):
            raise NotFiniteError(f"{name} has become infinite or not a number.")


def _rewind_log(task: Task[State], state: State) -> None:
    if current_ranks().is_main:
        rewind_records(task.folder.log, state.images_seen)
    wait_for_ranks()


def _divergence(task: Task[State], images: int, reason: str) -> LapganError:
    file = task.folder.state
    checkpoint = f"The last good checkpoint is {file}" if file.exists() else "No checkpoint yet"
    return LapganError(
        f"{task.folder.path}: training diverged after {images} images: {reason} {checkpoint}. Use "
        "a lower learning rate (in a new run folder) or another seed."
    )
