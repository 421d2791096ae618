"""The report's plots as SVG: one dot per row, with its interval."""

from matplotlib.figure import Figure

from lapgan.evaluation.sections import Plot
from lapgan.plots import COLORS, GRAY, INK, look, svg

__all__ = ["draw_dots"]


def draw_dots(plot: Plot) -> str:
    """Draws the dots of a plot from top to bottom."""
    with look():
        figure = Figure(figsize=(7.2, 0.75 + 0.33 * len(plot.dots)), layout="constrained")
        axes = figure.add_subplot()
        for place, dot in enumerate(plot.dots):
            color = {"model": COLORS[0], "reference": INK}.get(dot.kind, GRAY)
            face = "white" if dot.kind == "published" else color
            ends = [dot.value - dot.half_width, dot.value + dot.half_width]
            axes.plot(ends, [place, place], color=color, linewidth=2)
            axes.plot(dot.value, place, "o", color=color, markerfacecolor=face, markersize=7)
        axes.set_yticks(range(len(plot.dots)), [dot.label for dot in plot.dots])
        axes.set_ylim(len(plot.dots) - 0.5, -0.5)
        axes.set_xlabel(plot.label)
        axes.margins(x=0.08)
        return svg(figure, f"{plot.title} by model")
