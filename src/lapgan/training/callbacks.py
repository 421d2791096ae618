"""Callbacks of a training run: progress bars, plain lines, TensorBoard."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from lapgan.errors import requires
from lapgan.run_folder import CLASSIFIER, RunFolder
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

    def started(self, part: str, images: int, seconds: float, budget: Budget) -> None:
        """Called when a part begins, or continues after `images` examples and `seconds`."""

    def recorded(self, part: str, record: Record) -> None:
        """Called when a record was logged."""

    def warned(self, message: str) -> None:
        """Called when something looks wrong."""


class ProgressBars(Callback):
    """One progress bar per part, with speed, time left, losses, and accuracies of D."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[str, tuple[TaskID, Budget]] = {}

    def opened(self, data: str) -> None:
        """Prints above the bars."""
        self.progress.console.print(escape(data))

    def started(self, part: str, images: int, seconds: float, budget: Budget) -> None:
        """Adds a bar."""
        task = self.progress.add_task(_title(part), total=1.0, figures="starting")
        self.tasks[part] = (task, budget)
        self.progress.update(task, completed=min(1.0, budget.spent(images, seconds)))

    def recorded(self, part: str, record: Record) -> None:
        """Moves a bar."""
        task, budget = self.tasks[part]
        completed = min(1.0, budget.spent(record.images_seen, record.seconds))
        self.progress.update(task, completed=completed, figures=str(record))

    def warned(self, message: str) -> None:
        """Prints above the bars."""
        self.progress.console.print(f"[yellow]warning:[/yellow] {message}")


class PlainLog(Callback):
    """One line of text per record, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def opened(self, data: str) -> None:
        """Prints a line."""
        self.console.print(escape(data))

    def started(self, part: str, images: int, seconds: float, budget: Budget) -> None:
        """Prints a line."""
        start = f"continues after {images / 1000:.0f} kimg" if images else "starts"
        self.console.print(f"{_title(part)} {start}")

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


class CallbackList(Callback):
    """Passes every call on to several callbacks."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = callbacks

    def opened(self, data: str) -> None:
        """Passes it on."""
        for callback in self.callbacks:
            callback.opened(data)

    def started(self, part: str, images: int, seconds: float, budget: Budget) -> None:
        """Passes it on."""
        for callback in self.callbacks:
            callback.started(part, images, seconds, budget)

    def recorded(self, part: str, record: Record) -> None:
        """Passes it on."""
        for callback in self.callbacks:
            callback.recorded(part, record)

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
