"""Callbacks of a training run: progress bars, plain lines, TensorBoard."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from lapgan.errors import requires
from lapgan.run_folder import CLASSIFIER, RunFolder
from lapgan.sizes import parse_size
from lapgan.training.config import Budget
from lapgan.training.log import Record

__all__ = [
    "Callback",
    "CallbackList",
    "PlainLog",
    "ProgressBars",
    "TensorBoard",
    "progress_callback",
]


class Callback:
    """Callbacks of a training run. This class does nothing.

    `part` is a level's name, such as 28, or `classifier`.
    """

    def opened(self, data: str) -> None:
        """Called first, with a line on what was found in the data."""

    def planned(self, parts: Sequence[tuple[str, Budget]]) -> None:
        """Called next, with every part that will be trained and how long, in this order."""

    def started(self, part: str, images: int, seconds: float, budget: Budget) -> None:
        """Called when a part begins, or continues after `images` examples and `seconds`."""

    def recorded(self, part: str, record: Record) -> None:
        """Called when a record was logged."""

    def drawn(self, part: str, images: int) -> None:
        """Called when a part may have drawn a sheet of samples, after so many images."""

    def warned(self, message: str) -> None:
        """Called when something looks wrong."""


@dataclass
class _Bar:
    """A part's bar, and how far the part is, from 0 to 1."""

    task: TaskID
    budget: Budget
    spent: float = 0.0


class ProgressBars(Callback):
    """One progress bar per part, with speed, time left, losses, and accuracies of D.

    A run of several parts has bars for those to come, and one for the whole. Its parts count by
    their minutes, or by their images times their pixels if they have no limit in minutes.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.bars: dict[str, _Bar] = {}
        self.total: TaskID | None = None

    def opened(self, data: str) -> None:
        """Prints above the bars."""
        self.progress.console.print(escape(data))

    def planned(self, parts: Sequence[tuple[str, Budget]]) -> None:
        """Adds the bars of all parts."""
        if len(parts) < 2:
            return
        self.total = self.progress.add_task("all levels", total=1.0, figures="")
        for part, budget in parts:
            self._add(part, budget, "to come")

    def started(self, part: str, images: int, seconds: float, budget: Budget) -> None:
        """Starts a bar."""
        if part not in self.bars:
            self._add(part, budget, "starting")
        bar = self.bars[part]
        self.progress.reset(bar.task)
        self._move(bar, images, seconds, "starting")

    def recorded(self, part: str, record: Record) -> None:
        """Moves a bar."""
        self._move(self.bars[part], record.images_seen, record.seconds, str(record))

    def warned(self, message: str) -> None:
        """Prints above the bars."""
        self.progress.console.print(f"[yellow]warning:[/yellow] {message}")

    def _add(self, part: str, budget: Budget, figures: str) -> None:
        task = self.progress.add_task(_title(part), total=1.0, figures=figures)
        self.bars[part] = _Bar(task, budget)

    def _move(self, bar: _Bar, images: int, seconds: float, figures: str) -> None:
        bar.spent = min(1.0, bar.budget.spent(images, seconds))
        done = bar.spent >= 1 and figures == "starting"
        self.progress.update(
            bar.task, completed=bar.spent, figures="done before" if done else figures
        )
        if self.total is not None:
            weights = {part: _weigh(part, other.budget) for part, other in self.bars.items()}
            spent = sum(weights[part] * other.spent for part, other in self.bars.items())
            self.progress.update(self.total, completed=spent / sum(weights.values()))


class PlainLog(Callback):
    """One line of text per record, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.parts: list[str] = []

    def opened(self, data: str) -> None:
        """Prints a line."""
        self.console.print(escape(data))

    def planned(self, parts: Sequence[tuple[str, Budget]]) -> None:
        """Remembers the order of the parts."""
        self.parts = [part for part, _ in parts]

    def started(self, part: str, images: int, seconds: float, budget: Budget) -> None:
        """Prints a line."""
        start = f"continues after {images / 1000:.0f} kimg" if images else "starts"
        number = ""
        if part in self.parts and len(self.parts) > 1:
            number = f" ({self.parts.index(part) + 1} of {len(self.parts)})"
        self.console.print(f"{_title(part)}{number} {start}")

    def recorded(self, part: str, record: Record) -> None:
        """Prints a line."""
        progress = f"{record.images_seen / 1000:.1f} kimg  {record.seconds:.0f} s"
        self.console.print(f"{_title(part)}  {progress}  {record}")

    def warned(self, message: str) -> None:
        """Prints a line."""
        self.console.print(f"warning: {message}")


class TensorBoard(Callback):
    """Event files for TensorBoard in the folder of each part.

    Raises:
        LapganError: TensorBoard is not installed.
    """

    def __init__(self, out: Path) -> None:
        with requires("tensorboard", "--tensorboard"):
            from torch.utils.tensorboard import SummaryWriter
        self.writer_type = SummaryWriter
        self.folder = RunFolder(out)
        self.writers: dict[str, SummaryWriter] = {}

    def started(self, part: str, images: int, seconds: float, budget: Budget) -> None:
        """Opens the event file; later steps of an interrupted run are purged."""
        folder = str(self.folder.part(part).path)
        self.writers[part] = self.writer_type(folder, purge_step=images)

    def recorded(self, part: str, record: Record) -> None:
        """Writes every figure, against images seen."""
        writer = self.writers[part]
        figures = asdict(record)
        images_seen = figures.pop("images_seen")
        for name, value in figures.items():
            writer.add_scalar(name, value, images_seen)
        writer.flush()

    def drawn(self, part: str, images: int) -> None:
        """Writes the sheet of samples, if there is one."""
        sheet = self.folder.part(part).sheet(images)
        if sheet.exists():
            with Image.open(sheet) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            self.writers[part].add_image("samples", pixels, images, dataformats="HWC")


class CallbackList(Callback):
    """Passes every call on to several callbacks."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = callbacks

    def opened(self, data: str) -> None:
        """Passes it on."""
        for callback in self.callbacks:
            callback.opened(data)

    def planned(self, parts: Sequence[tuple[str, Budget]]) -> None:
        """Passes it on."""
        for callback in self.callbacks:
            callback.planned(parts)

    def started(self, part: str, images: int, seconds: float, budget: Budget) -> None:
        """Passes it on."""
        for callback in self.callbacks:
            callback.started(part, images, seconds, budget)

    def recorded(self, part: str, record: Record) -> None:
        """Passes it on."""
        for callback in self.callbacks:
            callback.recorded(part, record)

    def drawn(self, part: str, images: int) -> None:
        """Passes it on."""
        for callback in self.callbacks:
            callback.drawn(part, images)

    def warned(self, message: str) -> None:
        """Passes it on."""
        for callback in self.callbacks:
            callback.warned(message)


@contextmanager
def progress_callback(console: Console) -> Iterator[Callback]:
    """Yields bars in a terminal and plain lines elsewhere, for as long as the block lasts."""
    if not console.is_terminal:
        yield PlainLog(console)
        return
    # In a narrow terminal the figures are cut, and the rest stays.
    fixed, rest = Column(no_wrap=True), Column(no_wrap=True, overflow="ellipsis", ratio=1)
    columns = (
        TextColumn("{task.description}", table_column=fixed),
        BarColumn(bar_width=10, table_column=Column(min_width=10)),
        TextColumn("{task.percentage:>3.0f}%", table_column=fixed),
        TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
        TextColumn("{task.fields[figures]}", table_column=rest),
    )
    with Progress(*columns, console=console, expand=True) as progress:
        yield ProgressBars(progress)


def _title(part: str) -> str:
    return part if part == CLASSIFIER else f"level {part}"


def _weigh(part: str, budget: Budget) -> float:
    """Returns about how long a part takes, relative to the others."""
    if budget.seconds < math.inf or part == CLASSIFIER:
        return budget.seconds
    height, width = parse_size(part)
    return float(budget.images * height * width)
