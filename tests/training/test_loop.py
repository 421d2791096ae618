"""The loop, with a task that only counts: one image per step, which takes one second."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lapgan.compute import Compute, choose_compute
from lapgan.errors import LapganError
from lapgan.run_folder import PartFolder
from lapgan.training.callbacks import Callback
from lapgan.training.config import Budget, LogIntervals
from lapgan.training.log import ClassifierRecord, Record, read_records
from lapgan.training.loop import train_task


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@dataclass
class Counting:
    """The state of a task that counts."""

    net: nn.Module = field(default_factory=lambda: nn.Linear(1, 1))
    images_seen: int = 0
    seconds: float = 0.0
    rollbacks: int = 0

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"net": self.net}

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {}


@dataclass
class Counter:
    """A task whose step moves the clock by a second; it keeps what the loop asks of it."""

    folder: PartFolder
    budget: Budget
    clock: Clock
    intervals: LogIntervals = field(default_factory=LogIntervals)
    compute: Compute = field(default_factory=lambda: choose_compute("cpu"))
    diverges_at: int = -1
    events: list[tuple[str, int]] = field(default_factory=list)
    name: str = "counter"
    limits: None = None

    def initial_state(self) -> Counting:
        return Counting()

    def step(self, state: Counting) -> dict[str, float]:
        self.clock.now += 1
        state.images_seen += 1
        accuracy = float("nan") if state.images_seen == self.diverges_at else 0.5
        return {"loss_classifier": state.images_seen, "accuracy": accuracy}

    def record(self, state: Counting, rate: float, means: Mapping[str, float]) -> ClassifierRecord:
        self.events.append(("record", state.images_seen))
        return ClassifierRecord(state.images_seen, state.seconds, rate, learning_rate=0.1, **means)

    def write_weights(self, state: Counting) -> None:
        self.events.append(("weights", state.images_seen))

    def draw_sheet(self, state: Counting) -> None:
        self.events.append(("sheet", state.images_seen))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("lapgan.training.loop.time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture
def counter(tmp_path: Path, clock: Clock) -> Counter:
    intervals = LogIntervals(log=2, checkpoint=3, first_sheet=4, sheet=5)
    return Counter(PartFolder(tmp_path / "counter"), Budget(images=12), clock, intervals)


def again(counter: Counter, **changes: object) -> Counter:
    """Another process with the same task, later."""
    counter.clock.now += 1000
    settings = {"budget": counter.budget, "intervals": counter.intervals} | changes
    return Counter(counter.folder, clock=counter.clock, **settings)  # type: ignore[arg-type]


def test_everything_happens_as_often_as_the_intervals_say_and_at_the_end(counter: Counter):
    train_task(counter, Callback())
    assert counter.events == [
        ("record", 2),
        ("weights", 3),
        *(("record", 4), ("sheet", 4)),
        *(("record", 6), ("weights", 6)),
        ("record", 8),
        *(("weights", 9), ("sheet", 9)),
        ("record", 10),
        *(("record", 12), ("weights", 12), ("sheet", 12)),
    ]


def test_a_record_has_the_means_since_the_one_before_and_the_speed(counter: Counter):
    train_task(counter, Callback())
    first, second, *_ = read_records(counter.folder.log)
    assert first == {
        **{"images_seen": 2, "seconds": 2.0, "images_per_second": 1.0},
        **{"loss_classifier": 1.5, "accuracy": 0.5, "learning_rate": 0.1},
    }
    assert second["loss_classifier"] == 3.5
    assert second["images_per_second"] == 1.0


def test_a_budget_of_time_counts_the_time_before_an_interruption(counter: Counter):
    state = train_task(again(counter, budget=Budget(seconds=5)), Callback())
    assert (state.images_seen, state.seconds) == (5, 5)
    state = train_task(again(counter, budget=Budget(seconds=8)), Callback())
    assert (state.images_seen, state.seconds) == (8, 8)


def test_a_stop_saves_and_the_rest_follows_in_another_process(counter: Counter):
    calls = iter([False] * 7 + [True])
    stopped = train_task(counter, Callback(), lambda: next(calls))
    assert stopped.images_seen == 7
    assert counter.events[-3:] == [("record", 7), ("weights", 7), ("sheet", 7)]
    rest = again(counter)
    state = train_task(rest, Callback())
    assert (state.images_seen, state.seconds) == (12, 12)
    assert torch.equal(state.net.weight, stopped.net.weight)
    assert rest.events == [
        ("record", 9),
        ("weights", 10),
        *(("record", 11), ("sheet", 11)),
        *(("record", 12), ("weights", 12), ("sheet", 12)),
    ]


def test_a_task_whose_budget_is_spent_is_left_alone(counter: Counter):
    train_task(counter, Callback())
    finished = again(counter)
    assert train_task(finished, Callback()).images_seen == 12
    assert finished.events == []


def test_callbacks_get_the_start_of_a_task_and_each_record(counter: Counter):
    starts: list[tuple[str, int, float]] = []
    records: list[tuple[str, int]] = []

    class Recorder(Callback):
        def started(self, part: str, images: int, seconds: float, budget: Budget) -> None:
            starts.append((part, images, seconds))

        def recorded(self, part: str, record: Record) -> None:
            records.append((part, record.images_seen))

    train_task(again(counter, budget=Budget(images=3)), Recorder())
    train_task(again(counter, budget=Budget(images=4)), Recorder())
    assert starts == [("counter", 0, 0.0), ("counter", 3, 3.0)]
    assert records == [("counter", 2), ("counter", 3), ("counter", 4)]


@pytest.mark.parametrize(
    ("diverges_at", "seen", "message"),
    [(1, 2, "No checkpoint yet"), (5, 6, r"is .*state\.safetensors"), (7, 8, r"is .*state\.saf")],
)
def test_divergence_is_noticed_before_anything_is_written(
    counter: Counter, diverges_at: int, seen: int, message: str
):
    """Figures are read when they are logged, every other step, or before a checkpoint or sheet."""
    counter.diverges_at = diverges_at
    expected = rf"counter: training diverged after {seen} images: accuracy has become .*{message}"
    with pytest.raises(LapganError, match=expected):
        train_task(counter, Callback())
    assert all(images < diverges_at for _, images in counter.events)
    assert all(record["images_seen"] < diverges_at for record in read_records(counter.folder.log))


def test_divergence_since_the_last_record_is_noticed_before_a_checkpoint(counter: Counter):
    """Step 3 diverges; a checkpoint is due after it, a record only after step 4."""
    counter.diverges_at = 3
    with pytest.raises(LapganError, match="training diverged after 3 images"):
        train_task(counter, Callback())
    assert counter.events == [("record", 2)]
    assert not counter.folder.state.exists()
