"""The look of the project's plots, and plots as SVG text."""

import io
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = ["COLORS", "GRAY", "INK", "MARKERS", "look", "svg"]

# Okabe and Ito's colors, told apart by the color-blind, each with its own marker.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#aa3377", "#b8860b", "#56b4e9", "#7a5195")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK = "#1d2430"
GRAY = "#8b93a3"
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRAY,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e7ec",
    "xtick.color": "#576073",
    "ytick.color": "#576073",
    "svg.fonttype": "none",
    "svg.hashsalt": "lapgan",
    "legend.frameon": False,
}


def look() -> AbstractContextManager[object]:
    """Returns the context in which plots are drawn."""
    return mpl.rc_context(_STYLE)


def svg(figure: Figure, title: str) -> str:
    """Returns a figure as an SVG element with a title for those who cannot see it."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Title": title})
    markup = text.getvalue()
    return markup[markup.index("<svg") :].replace(
        "<svg ", f'<svg role="img" aria-label="{title}" ', 1
    )
