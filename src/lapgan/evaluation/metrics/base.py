"""What a metric is to the rest of the evaluation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from lapgan.evaluation.context import Context, EvaluatedModel
from lapgan.evaluation.measurement import Measurement, Picture
from lapgan.evaluation.sections import ReportSection
from lapgan.sizes import Size

__all__ = ["Metric", "Need", "only_when_named"]

Need = Literal["nothing", "samples", "features"]


def _accept(context: Context) -> None:
    """Checks nothing."""


def _include(context: Context) -> bool:
    """Returns True: the metric is measured by default."""
    return True


def only_when_named(context: Context) -> bool:
    """Returns False, for a metric that is measured only when the user names it."""
    return False


def _measure_no_references(context: Context, size: Size) -> Iterator[Measurement]:
    """Yields nothing."""
    yield from ()


@dataclass(frozen=True)
class Metric:
    """A metric.

    Args:
        name: as users type it.
        section: of the report.
        measure: measures a model; yields nothing for a model that the metric does not apply to.
        measure_references: measures what stands beside all models of a size, such as real images.
        check: raises a LapganError for what would fail later; called before any slow work.
        is_usual: whether to measure it when the user names no metrics.
        needs: many samples of each model, their features too, or neither.
        uses_held_out: whether it needs held-out images; others only show them as a reference.
    """

    name: str
    section: ReportSection
    measure: Callable[[Context, EvaluatedModel], Iterator[Measurement | Picture]]
    measure_references: Callable[[Context, Size], Iterator[Measurement]] = _measure_no_references
    check: Callable[[Context], None] = _accept
    is_usual: Callable[[Context], bool] = _include
    needs: Need = "nothing"
    uses_held_out: bool = False
