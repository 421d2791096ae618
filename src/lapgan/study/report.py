"""The report: all results as JSON, and as one HTML page that needs nothing else."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from lapgan.errors import LapganError
from lapgan.files import write_atomically
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
    files = {
        "report.json": json.dumps(_finite(results), indent=1, allow_nan=False) + "\n",
        "report.html": render_html(results),
    }
    for name, text in files.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in files]


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


def _finite(value: Any) -> Any:
    """The same value with null for what is no number, as JSON demands."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _percent(value: float | None) -> str:
    return "n/a" if value is None or not math.isfinite(value) else f"{value:.1%}"


def _number(value: float | None, digits: int = 2) -> str:
    if value is None or not math.isfinite(value):
        return "n/a"
    return f"{value:z.{digits}f}".replace("-", "\u2212")


def _interval(ends: Sequence[float], kind: str = "number") -> str:
    style = _percent if kind == "percent" else _number
    return f"{style(ends[0])} to {style(ends[1])}"
