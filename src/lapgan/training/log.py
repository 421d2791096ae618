"""What a level tells while it trains: a line of JSON now and then, and warnings in plain words."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lapgan.compute import Compute
from lapgan.data import Images
from lapgan.files import append_line, write_atomically

__all__ = [
    "AnyRecord",
    "ClassifierRecord",
    "Meter",
    "Record",
    "Watch",
    "append_record",
    "read_records",
    "rewind_records",
    "training_figures",
]


@dataclass(frozen=True)
class Record:
    """The means over the steps since the last record.

    Args:
        images_seen: examples seen so far.
        seconds: time spent in training so far.
        images_per_second: since the last record.
        loss_d: loss of D; log 2 = 0.69 when it cannot tell.
        loss_g: loss of G.
        real_accuracy: share of real examples that D took for real.
        fake_accuracy: share of generated examples that D took for generated.
        spread: standard deviation among generated examples over that among real ones.
        learning_rate: of both nets.
    """

    images_seen: int
    seconds: float
    images_per_second: float
    loss_d: float
    loss_g: float
    real_accuracy: float
    fake_accuracy: float
    spread: float
    learning_rate: float


@dataclass(frozen=True)
class ClassifierRecord:
    """The means over the steps since the last record, while a classifier learns.

    Args:
        images_seen: examples seen so far.
        seconds: time spent in training so far.
        images_per_second: since the last record.
        loss_classifier: its cross-entropy.
        accuracy: share of real examples that it classified right.
        learning_rate: of the classifier.
    """

    images_seen: int
    seconds: float
    images_per_second: float
    loss_classifier: float
    accuracy: float
    learning_rate: float


AnyRecord = Record | ClassifierRecord


class Meter:
    """Adds up figures of single steps until they are taken as means."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.steps = 0

    def add(self, **figures: float) -> None:
        """Adds the figures of one step."""
        self.steps += 1
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        """Returns the means and starts anew."""
        means = {name: total / self.steps for name, total in self.sums.items()}
        self.sums, self.steps = {}, 0
        return means


def append_record(path: Path, record: AnyRecord) -> None:
    """Adds a line to a log."""
    append_line(path, json.dumps({k: _rounded(v) for k, v in asdict(record).items()}))


def read_records(path: Path) -> Iterator[dict[str, float]]:
    """Yields the lines of a log; a last line that was cut off is left out."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return


def rewind_records(path: Path, images_seen: int) -> None:
    """Drops what was logged after the checkpoint from which a level goes on."""
    if not path.exists():
        return
    kept = [record for record in read_records(path) if record["images_seen"] <= images_seen]
    content = "".join(json.dumps(record) + "\n" for record in kept)
    if content != path.read_text(encoding="utf-8"):
        write_atomically(path, content.encode())


def training_figures(
    images_seen: int, seconds: float, seed: int, images: Images, compute: Compute
) -> dict[str, Any]:
    """Returns what a weights file tells of the training of a level or of the classifier."""
    return {
        "images_seen": images_seen,
        "seconds": round(seconds, 1),
        "seed": seed,
        "data": {"name": images.name, "fingerprint": images.fingerprint},
        "compute": str(compute),
        "torch": torch.__version__,
    }


# A level begins with next to nothing in its residuals, and D may lead for a while.
_WARM_UP = 20_000


class Watch:
    """Says in plain words what begins to look wrong, and what may help; once until it clears."""

    def __init__(self, level: str) -> None:
        self.level = level
        self.told: set[str] = set()

    def warnings(self, record: AnyRecord) -> list[str]:
        """Returns the warnings that a record gives and the last one did not."""
        if isinstance(record, ClassifierRecord) or record.images_seen < _WARM_UP:
            return []
        found = {
            kind: message
            for kind, message in (("won", _won(record)), ("collapsed", _collapsed(record)))
            if message
        }
        new = [f"level {self.level}: {found[kind]}" for kind in found if kind not in self.told]
        self.told = set(found)
        return new


def _won(record: Record) -> str | None:
    accuracy = min(record.real_accuracy, record.fake_accuracy)
    if accuracy < 0.98 or record.loss_g < 4:
        return None
    return (
        f"D has won. It tells real from generated {accuracy:.0%} of the time (loss of G "
        f"{record.loss_g:.1f}), so G learns little. A smaller or more regularised D (fewer maps or "
        "units, more dropout), or a lower learning rate, may help."
    )


def _collapsed(record: Record) -> str | None:
    if record.spread > 0.1:
        return None
    return (
        f"G has collapsed. What it makes varies {record.spread:.0%} as much as real examples do. "
        "If this lasts, start again in a new run folder with a lower learning rate or another "
        "seed."
    )


def _rounded(value: float) -> float:
    """Keeps six digits: enough to plot, short to read."""
    if isinstance(value, int) or not math.isfinite(value):
        return value
    return float(f"{value:.6g}")
