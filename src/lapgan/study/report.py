"""The report: all results as JSON, and as one HTML page that needs nothing else."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from lapgan.errors import LapganError
from lapgan.files import write_atomically, write_json
from lapgan.study import figures
from lapgan.study.results import compute_results
from lapgan.study.stimuli import Manifest

__all__ = ["render_html", "write_report"]


def write_report(
    manifest: Manifest, rows: Sequence[Mapping[str, Any]], folder: Path, replicates: int = 2000
) -> list[Path]:
    """Writes `report.html` and `report.json` into `folder`.

    Args:
        manifest: of the study.
        rows: from `Store.rows`.
        folder: where to; it is made if need be.
        replicates: of the raters' bootstrap.

    Raises:
        LapganError: there are no answers yet, or a file cannot be written.
    """
    if not rows:
        raise LapganError("no answers yet, so there is nothing to report. Let raters take part.")
    results = compute_results(manifest, rows, replicates)
    as_json, as_page = folder / "report.json", folder / "report.html"
    write_json(as_json, results)
    write_atomically(as_page, render_html(results).encode())
    return [as_json, as_page]


def render_html(results: Mapping[str, Any]) -> str:
    """Results as one self-contained page."""
    environment = Environment(
        loader=PackageLoader("lapgan.study"),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "number": _number, "interval": _interval}
    drawn = {
        "shares": figures.draw_shares(results),
        "sensitivity": figures.draw_sensitivity(results),
        "thresholds": figures.draw_thresholds(results),
        "error_rates": figures.draw_error_rates(results),
    }
    safe = {name: Markup(svg) if svg else None for name, svg in drawn.items()}
    shares = [{**cell, "order": cell["asked_ms"] or 0.0} for cell in results["shares"]]
    page = environment.get_template("report.html")
    return page.render({**results, "shares": shares, "figures": safe})


def _percent(value: float | None) -> str:
    return "n/a" if value is None or not math.isfinite(value) else f"{value:.1%}"


def _number(value: float | None, digits: int = 2) -> str:
    if value is None or not math.isfinite(value):
        return "n/a"
    return f"{value:z.{digits}f}".replace("-", "\u2212")


def _interval(ends: Sequence[float], kind: str = "number") -> str:
    style = _percent if kind == "percent" else _number
    return f"{style(ends[0])} to {style(ends[1])}"
