"""The report: all measurements as JSON, and as one HTML page that needs nothing else."""

import base64
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, Template, select_autoescape
from markupsafe import Markup

from lapgan.evaluation.figures import draw_dots
from lapgan.evaluation.metrics import load_metrics
from lapgan.evaluation.sections import ReportSection, SectionData, Table
from lapgan.evaluation.suite import Evaluation
from lapgan.files import check_writable, write_atomically, write_json

__all__ = ["check_report_folder", "describe", "render_html", "write_report"]

HTML, JSON = "report.html", "report.json"


@dataclass(frozen=True)
class _Drawing:
    """A plot as SVG, with the heading above it."""

    title: str
    svg: Markup


@dataclass(frozen=True)
class _Section:
    """A section as the template shows it."""

    text: ReportSection
    drawings: list[_Drawing]
    tables: list[Table]


def check_report_folder(folder: Path) -> None:
    """Raises a LapganError unless a report can be written into `folder`; nothing is left there."""
    check_writable(folder / HTML)


def write_report(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Writes `report.html` and `report.json` into `folder`.

    Raises:
        LapganError: a file cannot be written.
    """
    write_json(folder / JSON, describe(evaluation))
    write_atomically(folder / HTML, render_html(evaluation).encode())
    return [folder / HTML, folder / JSON]


def describe(evaluation: Evaluation) -> dict[str, Any]:
    """Returns an evaluation without its pictures as plain data, as `report.json` holds it."""
    return {
        "settings": evaluation.settings,
        "versions": evaluation.versions,
        "measurements": [asdict(measurement) for measurement in evaluation.measurements],
    }


def render_html(evaluation: Evaluation) -> str:
    """Renders an evaluation as one self-contained page."""
    sections = dict.fromkeys(metric.section for metric in load_metrics())
    filled = [_fill(section, evaluation) for section in sections]
    return _load_template().render(
        settings=evaluation.settings,
        versions=evaluation.versions,
        pictures=evaluation.pictures,
        sections=[section for section in filled if section is not None],
    )


def _fill(section: ReportSection, evaluation: Evaluation) -> _Section | None:
    """Makes a section's plots and tables; None if nothing was measured for it."""
    measurements = [m for m in evaluation.measurements if m.section == section.name]
    if not measurements:
        return None
    data = SectionData(measurements, evaluation.settings)
    drawings = [_Drawing(plot.title, Markup(draw_dots(plot))) for plot in section.plot(data)]
    return _Section(section, drawings, section.tabulate(data))


@cache
def _load_template() -> Template:
    environment = Environment(
        loader=PackageLoader("lapgan.evaluation"),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _encode_data_uri
    return environment.get_template("report.html")


def _encode_data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
