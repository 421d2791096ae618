"""An entropy report for people: a table and a figure."""

from pathlib import Path

from rich.table import Table

from lapgan.errors import LapganError, requires
from lapgan.evaluation.metrics.entropy.levels import EntropyReport, LevelEntropy
from lapgan.files import atomic_path

__all__ = ["entropy_table", "write_entropy_plot"]


def entropy_table(report: EntropyReport) -> Table:
    """Returns the levels, finest first, and their sum, in bits per pixel."""
    n = report.levels[0].n
    table = Table(title=f"{report.data['test']}: upper bounds in bits per pixel, {n} test images")
    for column in (
        "",
        "learned",
        "coder",
        "",
        "bits/dim",
        "white noise",
        "noise",
        "unused",
        "minutes",
    ):
        table.add_column(column, justify="left" if not column else "right")
    for level in report.levels:
        table.add_row(*_row(level))
    sum_of = f"{report.total:.3f} ± {report.standard_error:.3f}"
    table.add_section()
    table.add_row("sum", sum_of, "", "", f"{report.total / 3:.3f}", "", "", "", "")
    return table


def write_entropy_plot(report: EntropyReport, path: Path) -> None:
    """Draws bits per pixel by level: both bounds, and the noise if there is a recipe.

    Raises:
        LapganError: matplotlib is not installed, or the file is not an .svg, .png or .pdf.
    """
    with requires("eval", "a plot"):
        from matplotlib.figure import Figure

        from lapgan.plots import COLORS, GRAY, look
    if path.suffix not in (".svg", ".png", ".pdf"):
        raise LapganError(f"{path}: a plot is an .svg, .png or .pdf file.")
    levels = report.levels[::-1]
    ticks = range(len(levels))
    with look():
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(ticks, [v.standard for v in levels], "s--", color=COLORS[1], label="best coder")
        axes.errorbar(ticks, [v.learned for v in levels], [2 * v.standard_error for v in levels],
                      fmt="o-", color=COLORS[0], label="learned density")  # fmt: skip
        noise = [v.noise for v in levels if v.noise is not None]
        if noise:
            axes.plot(ticks, noise, "^:", color=GRAY, label="noise of the recipe")
        axes.set_xticks(list(ticks), [v.name for v in levels])
        axes.set_ylim(bottom=0)
        axes.set_ylabel("bits per pixel, at most")
        axes.grid(visible=False, axis="x")
        axes.legend()
        # A date in the file would make equal figures differ.
        metadata = {"Date": None} if path.suffix == ".svg" else None
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=150, metadata=metadata)


def _row(level: LevelEntropy) -> list[str]:
    return [
        level.name,
        f"{level.learned:.3f} ± {level.standard_error:.3f}",
        f"{level.standard:.3f}",
        level.coder,
        f"{level.bits_per_dimension:.3f}",
        "" if level.white is None else f"{level.white:.2f}",
        "" if level.noise is None else f"{level.noise:.1f}",
        "" if level.unused is None else f"{level.unused:.0%}",
        f"{level.minutes:g}",
    ]
