"""The report: all measurements as JSON, and as one HTML page that needs nothing else."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from lapgan.evaluation.figures import Dot, dots, of_measurements
from lapgan.evaluation.measurement import Measurement
from lapgan.evaluation.published import CIFAR10_LOG_LIKELIHOOD
from lapgan.evaluation.suite import HELD_OUT, Evaluation
from lapgan.files import write_atomically, write_json

__all__ = ["render_html", "write_report"]

# What float32 leaves of nothing.
_NOTHING = 1e-5
HTML, JSON = "report.html", "report.json"


@dataclass(frozen=True)
class _Figure:
    """A figure of one metric."""

    title: str
    svg: Markup


def write_report(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Writes `report.html` and `report.json` into `folder`.

    Raises:
        LapganError: a file cannot be written.
    """
    write_json(
        folder / JSON,
        {
            "settings": evaluation.settings,
            "versions": evaluation.versions,
            "measurements": [asdict(measurement) for measurement in evaluation.measurements],
        },
    )
    write_atomically(folder / HTML, render_html(evaluation).encode())
    return [folder / HTML, folder / JSON]


def render_html(evaluation: Evaluation) -> str:
    """An evaluation as one self-contained page."""
    environment = Environment(
        loader=PackageLoader("lapgan.evaluation"),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "data_uri": _data_uri}
    found = evaluation.measurements
    likelihoods = [m for m in found if m.unit == "nats an image"]
    classes = [m for m in found if " of class " in m.metric]
    entropies = [m for m in found if "entropy" in m.metric or "noise at" in m.metric]
    levels = [m for m in found if "beside" in m.details and m not in entropies]
    rest = [m for m in found if m not in likelihoods + classes + levels + entropies]
    return environment.get_template("report.html").render(
        settings=evaluation.settings,
        versions=evaluation.versions,
        pictures=evaluation.pictures,
        likelihoods=likelihoods,
        published=CIFAR10_LOG_LIKELIHOOD
        if "cifar10" in evaluation.settings["training_data"]
        else {},
        scores=_by_metric(rest),
        classes=_by_metric(classes),
        entropies=_by_metric(entropies),
        levels=_beside(levels, evaluation.settings["models"]),
        likelihood_figure=_likelihood_figure(evaluation, likelihoods),
        figures=list(_figures(evaluation, rest)),
    )


def _by_metric(measurements: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    metrics = dict.fromkeys(m.metric for m in measurements)
    return {metric: [m for m in measurements if m.metric == metric] for metric in metrics}


def _beside(
    measurements: Sequence[Measurement], models: Sequence[str]
) -> dict[str, dict[str, list[Measurement | None]]]:
    """Returns, by model and metric, the model's value and that of real images, if any."""
    return {
        model: {
            metric: [
                next((m for m in found if m.subject == who), None) for who in (model, HELD_OUT)
            ]
            for metric, found in _by_metric(
                [m for m in measurements if m.details["beside"] == model]
            ).items()
        }
        for model in models
        if any(m.details["beside"] == model for m in measurements)
    }


def _figures(evaluation: Evaluation, scores: Sequence[Measurement]) -> Iterator[_Figure]:
    for metric, found in _by_metric(scores).items():
        if len(found) == 1:
            continue  # the table says it
        rows = of_measurements(found, evaluation.settings["models"])
        yield _Figure(metric, Markup(dots(rows, metric, f"{metric} by model")))


def _likelihood_figure(evaluation: Evaluation, found: Sequence[Measurement]) -> Markup | None:
    """Draws Parzen values, with the spread over images as the paper's tables give it."""
    rows = [
        Dot(
            f"{m.subject} ({m.details['size']})",
            m.value,
            float(m.details["spread"]),
            "model" if m.subject in evaluation.settings["models"] else "reference",
        )
        for m in found
        if m.metric == "parzen"
    ]
    if not rows:
        return None
    if _comparable(evaluation, found):
        rows += [
            Dot(f"{name}, published", value, spread, "published")
            for name, (value, spread) in CIFAR10_LOG_LIKELIHOOD.items()
            if "multi-scale" not in name
        ]
    label = "nats an image; bars: standard deviation over images"
    return Markup(dots(rows, label, "Parzen log-likelihoods"))


def _comparable(evaluation: Evaluation, found: Sequence[Measurement]) -> bool:
    """Returns whether some value has the paper's data, scale and dimension."""
    return (
        "cifar10" in evaluation.settings["training_data"]
        and evaluation.settings["scale"] == "standardised"
        and any(m.details["size"] == "32x32" for m in found)
    )


def _number(value: float | None, digits: int = 4) -> str:
    if value is None:
        return ""
    return "0" if abs(value) < _NOTHING else f"{value:.{digits}g}"


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
