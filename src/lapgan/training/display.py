"""Listeners that show progress: in a terminal, as plain lines, in TensorBoard."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lapgan.errors import LapganError
from lapgan.training.job import Budget
from lapgan.training.listener import Callback
from lapgan.training.log import AnyRecord, ClassifierRecord
from lapgan.weights import CLASSIFIER

__all__ = ["Bars", "CallbackList", "Lines", "TensorBoard", "shown"]


class Bars(Callback):
    """A progress bar a level, with speed, time left, losses, and how often D is right."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[str, tuple[TaskID, Budget]] = {}

    def started(self, level: str, images: int, seconds: float, budget: Budget) -> None:
        """Adds a bar."""
        task = self.progress.add_task(_title(level), total=1.0, figures="starting")
        self.tasks[level] = (task, budget)
        self.progress.update(task, completed=min(1.0, budget.spent(images, seconds)))

    def recorded(self, level: str, record: AnyRecord) -> None:
        """Moves a bar."""
        task, budget = self.tasks[level]
        completed = min(1.0, budget.spent(record.images_seen, record.seconds))
        self.progress.update(task, completed=completed, figures=_figures(record))

    def warned(self, message: str) -> None:
        """Prints above the bars."""
        self.progress.console.print(f"[yellow]warning:[/yellow] {message}")


class Lines(Callback):
    """A line of text a record, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def started(self, level: str, images: int, seconds: float, budget: Budget) -> None:
        """Prints a line."""
        origin = f"goes on after {images / 1000:.0f} kimg" if images else "starts"
        self.console.print(f"{_title(level)} {origin}")

    def recorded(self, level: str, record: AnyRecord) -> None:
        """Prints a line."""
        self.console.print(
            f"{_title(level)}  {record.images_seen / 1000:.1f} kimg  {record.seconds:.0f} s  "
            + _figures(record)
        )

    def warned(self, message: str) -> None:
        """Prints a line."""
        self.console.print(f"warning: {message}")


class TensorBoard(Callback):
    """Event files for TensorBoard in each level's folder.

    Raises:
        LapganError: TensorBoard is not installed.
    """

    def __init__(self, out: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise LapganError(
                "--tensorboard needs a package that is not installed: "
                "pip install 'lapgan[tensorboard]'."
            ) from None
        self.writer = SummaryWriter
        self.out = out
        self.writers: dict[str, SummaryWriter] = {}

    def started(self, level: str, images: int, seconds: float, budget: Budget) -> None:
        """Opens the event file; later steps of an interrupted run are purged."""
        folder = str(self.out / f"level-{level}")
        self.writers[level] = self.writer(folder, purge_step=images)

    def recorded(self, level: str, record: AnyRecord) -> None:
        """Writes every figure, against images seen."""
        writer = self.writers[level]
        figures = asdict(record)
        images_seen = figures.pop("images_seen")
        for name, value in figures.items():
            writer.add_scalar(name, value, images_seen)
        writer.flush()


class CallbackList(Callback):
    """Passes everything on to several listeners."""

    def __init__(self, listeners: Sequence[Callback]) -> None:
        self.listeners = listeners

    def started(self, level: str, images: int, seconds: float, budget: Budget) -> None:
        """Passes it on."""
        for listener in self.listeners:
            listener.started(level, images, seconds, budget)

    def recorded(self, level: str, record: AnyRecord) -> None:
        """Passes it on."""
        for listener in self.listeners:
            listener.recorded(level, record)

    def warned(self, message: str) -> None:
        """Passes it on."""
        for listener in self.listeners:
            listener.warned(message)


@contextmanager
def shown(console: Console) -> Iterator[Callback]:
    """Shows bars in a terminal and lines elsewhere, for as long as the block lasts."""
    if not console.is_terminal:
        yield Lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield Bars(progress)


def _title(level: str) -> str:
    return level if level == CLASSIFIER else f"level {level}"


def _figures(record: AnyRecord) -> str:
    speed = f"{record.images_per_second:.0f} images/s  "
    if isinstance(record, ClassifierRecord):
        return (
            f"{speed}classifier's loss {record.loss_classifier:.2f}, right on {record.accuracy:.0%}"
        )
    return (
        f"{speed}"
        f"loss D {record.loss_d:.2f} G {record.loss_g:.2f}  "
        f"D right on real {record.real_accuracy:.0%} fake {record.fake_accuracy:.0%}"
    )
