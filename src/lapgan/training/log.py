"""The log of a part in training: one line of JSON per record."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from lapgan.files import append_line, write_atomically
from lapgan.run_folder import read_records

__all__ = [
    "ClassifierRecord",
    "LevelRecord",
    "Meter",
    "Record",
    "append_record",
    "read_records",
    "rewind_records",
]


@dataclass(frozen=True)
class LevelRecord:
    """The means over the steps since the last record.

    Args:
        images_seen: examples seen so far.
        seconds: time spent in training so far.
        images_per_second: since the last record.
        loss_d: loss of D; log 2 = 0.69 when it is undecided.
        loss_g: loss of G.
        real_accuracy: fraction of real examples that D classified as real.
        fake_accuracy: fraction of generated examples that D classified as generated.
        std_ratio: standard deviation among generated examples over that among real ones.
        learning_rate: of both nets.
        gradient_d: norm of all gradients of D, before they were clipped.
        gradient_g: norm of all gradients of G, before they were clipped.
        penalty: (R1 + R2) / 2 without its weight, over the steps with a penalty; 0 if none was.
        rollbacks: how often the level has gone back to earlier weights so far.
        supervised: the distance to the real residuals without its weight; 0 without that term.
    """

    images_seen: int
    seconds: float
    images_per_second: float
    loss_d: float
    loss_g: float
    real_accuracy: float
    fake_accuracy: float
    std_ratio: float
    learning_rate: float
    gradient_d: float = 0.0
    gradient_g: float = 0.0
    penalty: float = 0.0
    rollbacks: int = 0
    supervised: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.images_per_second:.0f} images/s  "
            f"loss D {self.loss_d:.2f} G {self.loss_g:.2f}  "
            f"D right on real {self.real_accuracy:.0%} fake {self.fake_accuracy:.0%}"
        )


@dataclass(frozen=True)
class ClassifierRecord:
    """The means over the steps of a classifier since the last record.

    Args:
        images_seen: examples seen so far.
        seconds: time spent in training so far.
        images_per_second: since the last record.
        loss_classifier: its cross-entropy.
        accuracy: fraction of examples that it classified correctly.
        learning_rate: of the classifier.
    """

    images_seen: int
    seconds: float
    images_per_second: float
    loss_classifier: float
    accuracy: float
    learning_rate: float

    def __str__(self) -> str:
        return (
            f"{self.images_per_second:.0f} images/s  "
            f"loss of the classifier {self.loss_classifier:.2f}, right on {self.accuracy:.0%}"
        )


Record = LevelRecord | ClassifierRecord


class Meter:
    """Sums the figures of single steps, and returns their means.

    Figures that are tensors are summed where they are, and read when the means are taken: no step
    waits for the device.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float | Tensor] = {}
        self.counts: dict[str, int] = {}
        self.steps = 0

    def add(self, **figures: float | Tensor) -> None:
        """Adds the figures of one step; a step may lack some."""
        self.steps += 1
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Returns the mean of each figure over the steps that had it."""
        tensors = {name: x for name, x in self.sums.items() if isinstance(x, Tensor)}
        numbers = torch.stack([*tensors.values()]).tolist() if tensors else []
        sums = {**self.sums, **dict(zip(tensors, numbers, strict=True))}
        return {name: float(total) / self.counts[name] for name, total in sums.items()}

    def clear(self) -> None:
        """Starts anew."""
        self.sums, self.counts, self.steps = {}, {}, 0

    def take(self) -> dict[str, float]:
        """Returns the means and starts anew."""
        means = self.means()
        self.clear()
        return means


def append_record(path: Path, record: Record) -> None:
    """Adds a line to a log."""
    append_line(path, json.dumps({k: _round(v) for k, v in asdict(record).items()}))


def rewind_records(path: Path, images_seen: int) -> None:
    """Drops what was logged after the checkpoint from which a level goes on."""
    if not path.exists():
        return
    earlier = [record for record in read_records(path) if record["images_seen"] <= images_seen]
    content = "".join(json.dumps(record) + "\n" for record in earlier)
    if content.encode() != path.read_bytes():
        write_atomically(path, content.encode())


def _round(value: float) -> float:
    """Keeps six digits: enough to plot, short to read."""
    if isinstance(value, int) or not math.isfinite(value):
        return value
    return float(f"{value:.6g}")
