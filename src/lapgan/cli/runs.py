"""Commands about runs: a table of them, and a page on one."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from lapgan.cli.options import Json, console, print_json, print_note
from lapgan.errors import LapganError

if TYPE_CHECKING:
    from lapgan.runs import PartSummary, RunSummary

__all__ = ["runs", "watch"]

_HEADINGS = ("run", "recipe", "state", "levels", "images", "minutes", "last figures")


def runs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder with run folders.")],
    json: Json = False,
) -> None:
    """List the runs below a folder: state, images, minutes and last figures."""
    from lapgan.runs import find_runs, summarize_run

    summaries: list[RunSummary] = []
    for path in find_runs(folder):
        try:
            summaries.append(summarize_run(path))
        except LapganError as error:
            print_note(f"left out: {error}")
    if json:
        print_json([_describe(summary) for summary in summaries])
    elif not summaries:
        console.print(f"{escape(str(folder))}: no runs; `lapgan train RECIPE --out DIR` makes one")
    else:
        rows = [_HEADINGS, *(_make_row(summary, folder) for summary in summaries)]
        for line in _align(rows):
            console.print(escape(line))


def watch(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of `train`.")],
    host: Annotated[
        str, typer.Option(help="127.0.0.1: reachable from this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 lets the system choose.")] = 8010,
) -> None:
    """Show a run's curves and sheets of samples as a page, while it trains and afterwards.

    The page only reads the run folder. Ctrl-C stops it; the training goes on.
    """
    from lapgan.watch import serve

    serve(run, host, port, lambda address: console.print(f"{address}  (Ctrl-C stops the page)"))


def _describe(summary: "RunSummary") -> dict[str, Any]:
    """Returns a run as plain data."""
    return {
        **asdict(summary),
        "path": str(summary.path),
        "images_seen": summary.images_seen,
        "minutes": round(summary.seconds / 60, 2),
    }


def _make_row(summary: "RunSummary", folder: Path) -> tuple[str, ...]:
    path = summary.path.relative_to(folder)
    begun = [level for level in summary.levels if level.figures]
    return (
        str(summary.path if path == Path() else path),
        summary.recipe,
        summary.state,
        f"{len(begun)}/{len(summary.levels)}",
        f"{summary.images_seen:,}",
        f"{summary.seconds / 60:.1f}",
        _describe_figures(begun[0]) if begun else "",
    )


def _describe_figures(level: "PartSummary") -> str:
    """Returns the last figures of a level in words, as `train` prints them."""
    figures = level.figures
    return (
        f"level {level.name}: loss D {figures['loss_d']:.2f} G {figures['loss_g']:.2f}, "
        f"D right on real {figures['real_accuracy']:.0%} fake {figures['fake_accuracy']:.0%}"
    )


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Pads the cells of a table, whose columns of numbers are flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if heading in ("levels", "images", "minutes") else cell.ljust(width)
            for cell, width, heading in zip(row, widths, _HEADINGS, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
