"""The report: all results as JSON, and as one self-contained HTML page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lapgan.errors import LapganError
from lapgan.files import write_atomically, write_json
from lapgan.study import figures
from lapgan.study.gallery import choose_pictures
from lapgan.study.pages import render_page
from lapgan.study.published import PAPER_AT_2000_MS
from lapgan.study.results import Results, compute_results, results_to_json
from lapgan.study.stimuli import Manifest

__all__ = ["render_html", "write_report"]


def write_report(
    manifest: Manifest,
    rows: Sequence[Mapping[str, Any]],
    folder: Path,
    replicates: int = 2000,
    progress: Sequence[Mapping[str, Any]] = (),
    stimuli: Path | None = None,
) -> list[Path]:
    """Writes `report.html` and `report.json` into a folder.

    Args:
        manifest: of the study.
        rows: from `Store.rows`.
        folder: where to write; it is created if needed.
        replicates: number of bootstrap samples of the raters.
        progress: from `Store.progress`, for the numbers of raters who joined and finished.
        stimuli: the study's folder of images; without it, the page shows none of them.

    Raises:
        LapganError: there are no answers yet, an image cannot be read, or a file cannot be
            written.
    """
    if not rows:
        raise LapganError("no answers yet, so there is nothing to report. Let raters take part.")
    results = compute_results(manifest, rows, replicates, progress)
    as_json, as_page = folder / "report.json", folder / "report.html"
    page = render_html(results, stimuli)
    write_json(as_json, results_to_json(results))
    write_atomically(as_page, page.encode())
    return [as_json, as_page]


def render_html(results: Results, stimuli: Path | None = None) -> str:
    """Returns results as one self-contained page; `stimuli` as in `write_report`."""
    drawn = {
        "shares": figures.draw_shares(results),
        "sensitivity": figures.draw_sensitivity(results),
        "thresholds": figures.draw_thresholds(results),
        "error_rates": figures.draw_error_rates(results),
    }
    return render_page(
        "report.html",
        results=results,
        study=results.manifest,
        raters=results.raters,
        figures={name: Markup(svg) if svg else None for name, svg in drawn.items()},
        # jinja's groupby sorts, and None cannot be compared with a time.
        rows=[(cell.asked_ms or 0.0, cell) for cell in results.shares],
        overall={cell.source: cell.share for cell in results.shares if cell.asked_ms is None},
        pictures=choose_pictures(results, stimuli) if stimuli else {},
        published=PAPER_AT_2000_MS,
    )
