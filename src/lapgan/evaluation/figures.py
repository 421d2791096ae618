"""The report's figures, as SVG: one dot a row, with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from lapgan.evaluation.measurement import Measurement
from lapgan.plots import COLORS, GRAY, INK, look, svg

__all__ = ["Dot", "dots", "of_measurements"]


@dataclass(frozen=True)
class Dot:
    """A row of a figure.

    Args:
        label: beside the row.
        value: where the dot is.
        spread: half of the bar's length; 0 for none.
        kind: `model` in color, `reference` in ink, `published` hollow and grey.
    """

    label: str
    value: float
    spread: float = 0.0
    kind: str = "model"


def of_measurements(measurements: Sequence[Measurement], models: Sequence[str]) -> list[Dot]:
    """Turns measurements of one metric into rows, with two standard errors to each side."""
    return [
        Dot(m.subject, m.value, 2 * (m.error or 0), "model" if m.subject in models else "reference")
        for m in measurements
    ]


def dots(rows: Sequence[Dot], label: str, title: str) -> str:
    """Draws rows from top to bottom.

    Args:
        rows: at least one.
        label: of the axis.
        title: for those who cannot see the figure.
    """
    with look():
        figure = Figure(figsize=(7.2, 0.75 + 0.33 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for place, row in enumerate(rows):
            color = {"model": COLORS[0], "reference": INK}.get(row.kind, GRAY)
            face = "white" if row.kind == "published" else color
            ends = [row.value - row.spread, row.value + row.spread]
            axes.plot(ends, [place, place], color=color, linewidth=2)
            axes.plot(row.value, place, "o", color=color, markerfacecolor=face, markersize=7)
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(label)
        axes.margins(x=0.08)
        return svg(figure, title)
