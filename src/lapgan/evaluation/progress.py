"""A progress bar on stderr for everything that lasts."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

__all__ = ["tracked"]

_Item = TypeVar("_Item")


def tracked(
    items: Sequence[_Item] | Iterable[_Item], what: str, total: int | None = None
) -> Iterable[_Item]:
    """Yields the items under a bar that says `what`; silent where stderr is no terminal."""
    console = Console(stderr=True)
    return track(items, what, total, console=console, transient=True,
                 disable=not console.is_terminal)  # fmt: skip
