"""The sections of the report: which tables and plots show the measurements of a metric.

Each metric names its section, and a measurement carries the section's name. The report itself only
draws what a section returns, so a metric that needs another table brings a section of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lapgan.evaluation.measurement import HELD_OUT, Measurement

__all__ = [
    "COUNT_COLUMN",
    "ERROR_COLUMN",
    "SCORES",
    "VALUE_COLUMN",
    "Column",
    "Dot",
    "Plot",
    "ReportSection",
    "Row",
    "SectionData",
    "Table",
    "format_count",
    "format_number",
    "group_by_metric",
    "plot_each_metric",
    "plot_nothing",
    "tabulate_beside_real",
    "tabulate_by_metric",
]

# What float32 leaves of nothing.
_NOTHING = 1e-5


@dataclass(frozen=True)
class SectionData:
    """What a section shows.

    Args:
        measurements: those of the section, in the order in which they were made.
        settings: of the evaluation.
    """

    measurements: Sequence[Measurement]
    settings: Mapping[str, Any]

    @property
    def models(self) -> Sequence[str]:
        """The names of the evaluated models."""
        models: Sequence[str] = self.settings["models"]
        return models


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, and the text of a measurement's cell."""

    heading: str
    cell: Callable[[Measurement], str]
    left: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table; `published` for values that were not measured here."""

    cells: Sequence[str]
    published: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        headings: of the columns.
        left: for each column, whether it is aligned to the left.
        rows: from top to bottom.
        note: a line below the table.
    """

    headings: Sequence[str]
    left: Sequence[bool]
    rows: Sequence[Row]
    note: str = ""


@dataclass(frozen=True)
class Dot:
    """A row of a plot.

    Args:
        label: beside the row.
        value: where the dot is.
        half_width: half of the bar's length; 0 for none.
        kind: `model` in color, `reference` in ink, `published` hollow and gray.
    """

    label: str
    value: float
    half_width: float = 0.0
    kind: str = "model"


@dataclass(frozen=True)
class Plot:
    """A plot of one dot per row.

    Args:
        title: above it.
        label: of the axis.
        dots: from top to bottom, at least one.
    """

    title: str
    label: str
    dots: Sequence[Dot]


def plot_nothing(data: SectionData) -> list[Plot]:
    """Returns no plots."""
    return []


@dataclass(frozen=True)
class ReportSection:
    """A section of the report.

    Args:
        name: what measurements carry.
        title: its heading.
        introduction: the paragraph below the heading.
        tabulate: makes the tables.
        plot: makes the plots, which stand above the tables.
        note: the last line.
    """

    name: str
    title: str
    introduction: str
    tabulate: Callable[[SectionData], list[Table]]
    plot: Callable[[SectionData], list[Plot]] = plot_nothing
    note: str = ""


def tabulate_by_metric(*columns: Column) -> Callable[[SectionData], list[Table]]:
    """Returns a function that lists measurements metric by metric, each named once."""

    def tabulate(data: SectionData) -> list[Table]:
        rows = [
            Row([metric if number == 0 else "", *(column.cell(m) for column in columns)])
            for metric, measurements in group_by_metric(data.measurements).items()
            for number, m in enumerate(measurements)
        ]
        headings = ["metric", *(column.heading for column in columns)]
        return [Table(headings, [True, *(column.left for column in columns)], rows)]

    return tabulate


def tabulate_beside_real(data: SectionData) -> list[Table]:
    """Makes a table per model, with the values of real images beside the model's.

    `details["model"]` says which table a measurement belongs to.
    """
    tables = []
    for model in data.models:
        own = [m for m in data.measurements if m.details["model"] == model]
        if own:
            rows = [_pair_with_real(model, *pair) for pair in group_by_metric(own).items()]
            headings = ["metric", model, "±", HELD_OUT, "±", "unit", "n"]
            left = [heading in ("metric", "unit") for heading in headings]
            tables.append(Table(headings, left, rows))
    return tables


def _pair_with_real(model: str, metric: str, measurements: Sequence[Measurement]) -> Row:
    by_subject = {m.subject: m for m in measurements}
    own, real = by_subject[model], by_subject.get(HELD_OUT)
    values = [format_number(own.value, 3), format_number(own.error, 2)]
    if real is not None:
        values += [format_number(real.value, 3), format_number(real.error, 2)]
    else:
        values += ["", ""]
    return Row([metric, *values, own.unit, format_count(own.n)])


def plot_each_metric(data: SectionData) -> list[Plot]:
    """Plots each metric that was measured more than once, with bars of two errors to each side."""
    return [
        Plot(metric, metric, [_dot_of(m, data.models) for m in measurements])
        for metric, measurements in group_by_metric(data.measurements).items()
        if len(measurements) > 1
    ]


def _dot_of(m: Measurement, models: Sequence[str]) -> Dot:
    return Dot(
        m.subject, m.value, 2 * (m.error or 0), "model" if m.subject in models else "reference"
    )


def group_by_metric(measurements: Sequence[Measurement]) -> dict[str, list[Measurement]]:
    """Returns the measurements of each metric, in the order of the first of each."""
    groups: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        groups.setdefault(measurement.metric, []).append(measurement)
    return groups


def format_number(value: float | None, digits: int = 4) -> str:
    """Returns a value with so many significant digits; nothing for None."""
    if value is None:
        return ""
    return "0" if abs(value) < _NOTHING else f"{value:.{digits}g}"


def format_count(n: int) -> str:
    """Returns a number of images, with thousands set apart."""
    return f"{n:,}"


VALUE_COLUMN = Column("value", lambda m: format_number(m.value))
ERROR_COLUMN = Column("±", lambda m: format_number(m.error, 2))
COUNT_COLUMN = Column("n", lambda m: format_count(m.n))

SCORES = ReportSection(
    name="scores",
    title="Scores on features",
    introduction=(
        "Scores on the features of a pretrained net. Each name ends in the net; without an ending "
        "it is Inception-v3. fd and kid: lower is better. fd is biased upwards by few images, so "
        "compare equal n only. Precision and density measure the quality of images, recall and "
        "coverage their diversity. A nearest-neighbour ratio near 0 would mean copies of training "
        "images. Bars are two errors to each side."
    ),
    tabulate=tabulate_by_metric(
        Column("images", lambda m: m.subject, left=True),
        VALUE_COLUMN,
        ERROR_COLUMN,
        Column("± is the", lambda m: str(m.details.get("error_is", "")), left=True),
        COUNT_COLUMN,
    ),
    plot=plot_each_metric,
)
