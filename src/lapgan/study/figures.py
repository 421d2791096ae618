"""The report's figures, as SVG."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from lapgan.plots import COLORS, GRAY, INK, MARKERS, look, svg
from lapgan.study.design import REAL
from lapgan.study.thresholds import PsychometricFit

__all__ = ["draw_error_rates", "draw_sensitivity", "draw_shares", "draw_thresholds"]


def draw_shares(results: Mapping[str, Any]) -> str:
    """Share judged real by presentation time: the figure of the paper's human study."""
    with look():
        figure = Figure(figsize=(7.2, 4.3), layout="constrained")
        axes = figure.add_subplot()
        cells = [cell for cell in results["shares"] if cell["asked_ms"] is not None]
        if cells:
            for source in results["study"]["sources"]:
                mine = [cell for cell in cells if cell["source"] == source]
                _line(axes, results, source, mine, [cell["share"] for cell in mine], "interval")
            _time_axis(axes, sorted({cell["asked_ms"] for cell in cells}))
        else:
            _bars(axes, results)
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylabel("judged real")
        _legend(figure, axes)
        return svg(figure, "Share of images judged real")


def draw_sensitivity(results: Mapping[str, Any]) -> str | None:
    """Sensitivity by presentation time; None when the study has no fixed times."""
    cells = [cell for cell in results["sensitivity"] if cell["asked_ms"] is not None]
    if not cells:
        return None
    with look():
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for source in _fakes(results):
            mine = [cell for cell in cells if cell["source"] == source]
            flat = [{**cell, "interval": _ends(cell["d_prime"])} for cell in mine]
            _line(axes, results, source, flat, [c["d_prime"]["value"] for c in mine], "interval")
        axes.axhline(0, color=GRAY, linewidth=1, linestyle=":")
        _time_axis(axes, sorted({cell["asked_ms"] for cell in cells}))
        axes.set_ylabel("sensitivity d\u2032")
        _legend(figure, axes)
        return svg(figure, "Sensitivity by presentation time")


def draw_thresholds(results: Mapping[str, Any]) -> str | None:
    """Fitted psychometric functions; None without any."""
    fits = {source: fit for source, fit in results["thresholds"].items() if fit}
    if not fits:
        return None
    with look():
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.add_subplot()
        lowest = 0.5
        for source, fit in fits.items():
            color, marker = _look(results, source)
            times, hits, totals = np.array(fit["points"]).T
            line = np.geomspace(times.min(), times.max(), 200)
            axes.plot(line, PsychometricFit(**fit).at(line), color=color)
            sizes = 8 + 32 * totals / totals.max()
            axes.scatter(times, hits / totals, sizes, color=color, marker=marker, label=source)
            lowest = min(lowest, *(hits / totals))
            if fit["inside"]:
                axes.axvline(fit["threshold_ms"], color=color, linewidth=1, linestyle="--")
        _time_axis(axes, sorted({point[0] for fit in fits.values() for point in fit["points"]}))
        axes.set_ylim(lowest - 0.04, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylabel("correct")
        axes.axhline(0.5, color=GRAY, linewidth=1, linestyle=":")
        _legend(figure, axes)
        return svg(figure, "Psychometric functions")


def draw_error_rates(results: Mapping[str, Any]) -> str:
    """Error rates of this study's sources among published ones, which are drawn hollow."""
    published = results["published"]["dgm_eval_cifar10_error"]
    mine = results["error_rates"]
    names = sorted([*published, *mine], key=lambda name: _error(name, mine, published))
    with look():
        figure = Figure(figsize=(7.2, 0.55 + 0.27 * len(names)), layout="constrained")
        axes = figure.add_subplot()
        for row, name in enumerate(names):
            if name not in mine:
                axes.plot(published[name], row, "o", color=GRAY, markerfacecolor="white")
                continue
            color, marker = _look(results, name)
            low, high = _ends(mine[name])
            axes.plot([low, high], [row, row], color=color, linewidth=2)
            axes.plot(mine[name]["value"], row, marker, color=color, markersize=8)
        axes.axvline(0.5, color=GRAY, linewidth=1, linestyle=":")
        axes.set_yticks(range(len(names)), names)
        for label, name in zip(axes.get_yticklabels(), names, strict=True):
            label.set_fontweight("bold" if name in mine else "normal")
        axes.set_xlim(0, 0.62)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("error rate (50%: cannot be told from real)")
        return svg(figure, "Error rates, with published ones")


def _fakes(results: Mapping[str, Any]) -> list[str]:
    return [source for source in results["study"]["sources"] if source != REAL]


def _look(results: Mapping[str, Any], source: str) -> tuple[str, str]:
    if source == REAL:
        return INK, "o"
    place = _fakes(results).index(source)
    return COLORS[place % len(COLORS)], MARKERS[(place + 1) % len(MARKERS)]


def _line(
    axes: Axes,
    results: Mapping[str, Any],
    source: str,
    cells: Sequence[Mapping[str, Any]],
    values: Sequence[float],
    interval: str,
) -> None:
    color, marker = _look(results, source)
    times = [cell["asked_ms"] for cell in cells]
    low, high = np.array([cell[interval] for cell in cells], dtype=float).T
    axes.fill_between(times, low, high, color=color, alpha=0.13, linewidth=0)
    axes.plot(times, values, color=color, marker=marker, markersize=5, label=source)


def _bars(axes: Axes, results: Mapping[str, Any]) -> None:
    for row, cell in enumerate(results["shares"]):
        color, marker = _look(results, cell["source"])
        low, high = cell["interval"]
        axes.plot([row, row], [low, high], color=color, linewidth=2)
        axes.plot(row, cell["share"], marker, color=color, markersize=8, label=cell["source"])
    axes.set_xticks(range(len(results["shares"])), [c["source"] for c in results["shares"]])
    axes.margins(x=0.2)


def _time_axis(axes: Axes, times: Sequence[float]) -> None:
    axes.set_xscale("log")
    apart = [times[0]]
    for time in times[1:]:
        if time / apart[-1] > 1.2:
            apart.append(time)
    axes.xaxis.set_major_locator(FixedLocator(apart))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{time:.0f}" for time in apart])
    axes.set_xlabel("presentation time (ms, log scale)")


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4)


def _ends(estimate: Mapping[str, float]) -> tuple[float, float]:
    return estimate["low"], estimate["high"]


def _error(name: str, mine: Mapping[str, Any], published: Mapping[str, float]) -> float:
    value = mine[name]["value"] if name in mine else published[name]
    return value if np.isfinite(value) else -1.0
