"""Progress on stderr for everything that lasts."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from rich.console import Console
from rich.progress import track

__all__ = ["tracked", "working"]

_Item = TypeVar("_Item")


def tracked(
    items: Sequence[_Item] | Iterable[_Item], what: str, total: int | None = None
) -> Iterable[_Item]:
    """Yields the items under a bar that says `what`; silent where stderr is no terminal."""
    console = Console(stderr=True)
    return track(items, what, total, console=console, transient=True,
                 disable=not console.is_terminal)  # fmt: skip


def working(what: str) -> AbstractContextManager[object]:
    """Says `what` beside a spinner while the block runs, for work of unknown length."""
    console = Console(stderr=True)
    return console.status(what) if console.is_terminal else nullcontext()
