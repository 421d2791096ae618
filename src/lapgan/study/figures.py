"""The report's figures, as SVG."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from lapgan.plots import COLORS, GRAY, INK, MARKERS, look, svg
from lapgan.study.analysis import Estimate
from lapgan.study.design import REAL
from lapgan.study.published import DGM_EVAL_CIFAR10_ERROR
from lapgan.study.results import Results
from lapgan.study.stimuli import Manifest
from lapgan.study.thresholds import PsychometricFit

__all__ = ["draw_error_rates", "draw_sensitivity", "draw_shares", "draw_thresholds"]

# (time in ms, value, ends of its interval)
_Point = tuple[float, float, tuple[float, float]]


def draw_shares(results: Results) -> str:
    """Draws the share judged real by presentation time: the figure of the paper's human study."""
    with look():
        figure = Figure(figsize=(7.2, 4.3), layout="constrained")
        axes = figure.add_subplot()
        lines: dict[str, list[_Point]] = {}
        for cell in results.shares:
            if cell.asked_ms is not None:
                point = (cell.asked_ms, cell.share.share, cell.share.interval)
                lines.setdefault(cell.source, []).append(point)
        if lines:
            _draw_lines(axes, results.manifest, lines)
        else:
            _draw_bars(axes, results)
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylabel("judged real")
        _add_legend(figure, axes)
        return svg(figure, "Share of images judged real")


def draw_sensitivity(results: Results) -> str | None:
    """Draws sensitivity by presentation time; None when the study has no fixed times."""
    lines: dict[str, list[_Point]] = {}
    for cell in results.sensitivity:
        if cell.asked_ms is not None:
            point = (cell.asked_ms, cell.d_prime.value, _interval_of(cell.d_prime))
            lines.setdefault(cell.source, []).append(point)
    if not lines:
        return None
    with look():
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.add_subplot()
        _draw_lines(axes, results.manifest, lines)
        axes.axhline(0, color=GRAY, linewidth=1, linestyle=":")
        axes.set_ylabel("sensitivity d\u2032")
        _add_legend(figure, axes)
        return svg(figure, "Sensitivity by presentation time")


def draw_thresholds(results: Results) -> str | None:
    """Draws the fitted psychometric functions; None without any."""
    fits = {source: fit for source, fit in results.thresholds.items() if fit}
    if not fits:
        return None
    with look():
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        axes = figure.add_subplot()
        lowest = 0.5
        for source, fit in fits.items():
            _draw_fit(axes, results.manifest, source, fit)
            lowest = min(lowest, *(correct / trials for _, correct, trials in fit.points))
        _set_time_axis(axes, sorted({point[0] for fit in fits.values() for point in fit.points}))
        axes.set_ylim(lowest - 0.04, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylabel("correct")
        axes.axhline(0.5, color=GRAY, linewidth=1, linestyle=":")
        _add_legend(figure, axes)
        return svg(figure, "Psychometric functions")


def draw_error_rates(results: Results) -> str:
    """Draws the sources' error rates; on CIFAR-10 among published ones, which are hollow."""
    rates = results.error_rates
    published = DGM_EVAL_CIFAR10_ERROR if results.is_cifar10 else {}
    values = {**published, **{name: rate.value for name, rate in rates.items()}}
    names = sorted([*published, *rates], key=lambda name: _sort_key(values[name]))
    with look():
        figure = Figure(figsize=(7.2, 0.55 + 0.27 * len(names)), layout="constrained")
        axes = figure.add_subplot()
        for row, name in enumerate(names):
            if name not in rates:
                axes.plot(published[name], row, "o", color=GRAY, markerfacecolor="white")
                continue
            color, marker = _style_of(results.manifest, name)
            axes.plot(_interval_of(rates[name]), [row, row], color=color, linewidth=2)
            axes.plot(rates[name].value, row, marker, color=color, markersize=8)
        axes.axvline(0.5, color=GRAY, linewidth=1, linestyle=":")
        axes.set_yticks(range(len(names)), [_escape(name) for name in names])
        for label, name in zip(axes.get_yticklabels(), names, strict=True):
            label.set_fontweight("bold" if name in rates else "normal")
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlim(0, 0.62)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("error rate (50%: cannot be told from real)")
        return svg(figure, "Error rates")


def _style_of(manifest: Manifest, source: str) -> tuple[str, str]:
    """Returns the color and the marker of a source."""
    if source == REAL:
        return INK, "o"
    place = manifest.fakes.index(source)
    return COLORS[place % len(COLORS)], MARKERS[(place + 1) % len(MARKERS)]


def _draw_lines(axes: Axes, manifest: Manifest, lines: Mapping[str, Sequence[_Point]]) -> None:
    for source, points in lines.items():
        color, marker = _style_of(manifest, source)
        times, values, intervals = zip(*points, strict=True)
        low, high = np.array(intervals, dtype=float).T
        axes.fill_between(times, low, high, color=color, alpha=0.13, linewidth=0)
        axes.plot(times, values, color=color, marker=marker, markersize=5, label=_escape(source))
    _set_time_axis(axes, sorted({point[0] for points in lines.values() for point in points}))


def _draw_bars(axes: Axes, results: Results) -> None:
    for row, cell in enumerate(results.shares):
        color, marker = _style_of(results.manifest, cell.source)
        axes.plot([row, row], cell.share.interval, color=color, linewidth=2)
        axes.plot(
            row, cell.share.share, marker, color=color, markersize=8, label=_escape(cell.source)
        )
    axes.set_xticks(range(len(results.shares)), [_escape(cell.source) for cell in results.shares])
    axes.margins(x=0.2)


def _draw_fit(axes: Axes, manifest: Manifest, source: str, fit: PsychometricFit) -> None:
    color, marker = _style_of(manifest, source)
    times, correct, trials = np.array(fit.points).T
    line = np.geomspace(times.min(), times.max(), 200)
    axes.plot(line, fit.at(line), color=color)
    if fit.raters:  # points would mix raters, each with times of their own
        own = np.array(list(fit.raters.values()))
        axes.scatter(own, fit.at(own), 20, color=color, marker=marker, label=_escape(source))
    else:
        sizes = 8 + 32 * trials / trials.max()
        shares = correct / trials
        axes.scatter(times, shares, sizes, color=color, marker=marker, label=_escape(source))
    if fit.inside:
        axes.axvline(fit.threshold_ms, color=color, linewidth=1, linestyle="--")


def _set_time_axis(axes: Axes, times: Sequence[float]) -> None:
    axes.set_xscale("log")
    ticks = [times[0]]
    for time in times[1:]:
        if time / ticks[-1] > 1.2:  # closer labels would overlap
            ticks.append(time)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{time:.0f}" for time in ticks])
    axes.set_xlabel("presentation time (ms, log scale)")


def _add_legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4)


def _escape(name: str) -> str:
    """Returns a name as matplotlib sets it as it is; between dollar signs it sets mathematics."""
    return name.replace("$", r"\$")


def _interval_of(estimate: Estimate) -> tuple[float, float]:
    return estimate.low, estimate.high


def _sort_key(value: float) -> float:
    return value if np.isfinite(value) else -1.0
