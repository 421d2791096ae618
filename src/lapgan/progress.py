"""Progress on stderr for everything that lasts."""

from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress, track

__all__ = ["tracked", "tracked_blocks", "working"]

_Item = TypeVar("_Item")
_Block = TypeVar("_Block", bound=Sized)


def tracked(
    items: Sequence[_Item] | Iterable[_Item],
    what: str,
    total: int | None = None,
    *,
    enabled: bool | None = None,
) -> Iterable[_Item]:
    """Yields the items and draws a progress bar meanwhile.

    Args:
        items: anything that can be iterated over.
        what: the text beside the bar, such as "decoding images".
        total: how many items there are; needed if `items` has no length.
        enabled: whether to draw the bar; only in a terminal if None.
    """
    console = Console(stderr=True)
    # Versions of rich below 15 draw an empty line for a bar that is disabled.
    if not _should_draw(console, enabled):
        return items
    return track(items, what, total, console=console, transient=True)


def tracked_blocks(
    blocks: Iterable[_Block], what: str, total: int, *, enabled: bool | None = None
) -> Iterator[_Block]:
    """Yields blocks of items and draws a progress bar meanwhile, which counts the items.

    Args:
        blocks: anything with lengths, such as batches of images.
        what: the text beside the bar.
        total: how many items there are in all blocks.
        enabled: whether to draw the bar; only in a terminal if None.
    """
    console = Console(stderr=True)
    if not _should_draw(console, enabled):
        yield from blocks
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        for block in blocks:
            progress.advance(task, len(block))
            yield block


def working(what: str, *, enabled: bool | None = None) -> AbstractContextManager[object]:
    """Shows a spinner while the block runs, for work of unknown length.

    Args:
        what: the text beside the spinner.
        enabled: whether to draw it; only in a terminal if None.
    """
    console = Console(stderr=True)
    return console.status(what) if _should_draw(console, enabled) else nullcontext()


def _should_draw(console: Console, enabled: bool | None) -> bool:
    return console.is_terminal if enabled is None else enabled
