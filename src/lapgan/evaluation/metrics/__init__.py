"""The metrics, one per module.

A new metric is a new module with a `METRIC` (see `lapgan.evaluation.metrics.base`), and its name in
`METRICS`.
"""

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from lapgan.errors import LapganError

if TYPE_CHECKING:
    # The metrics' own modules lie in this package, so they cannot be imported with it.
    from lapgan.evaluation.metrics.base import Metric

__all__ = ["METRICS", "find_metrics", "load_metrics"]

# In the order in which they are measured.
METRICS = (
    "parzen",
    "multiscale_parzen",
    "frechet",
    "kernel",
    "precision_recall",
    "density_coverage",
    "inception_score",
    "class_agreement",
    "neighbors",
    "swd",
    "dependence",
    "noise_use",
    "entropy",
)


@cache
def load_metrics() -> "tuple[Metric, ...]":
    """Returns all metrics, in the order in which they are measured."""
    return tuple(import_module(f"{__name__}.{module}").METRIC for module in METRICS)


def find_metrics(names: Sequence[str]) -> "list[Metric]":
    """Returns the metrics that a user named, in the order in which they are measured.

    Raises:
        LapganError: a name is unknown.
    """
    by_name = {metric.name: metric for metric in load_metrics()}
    chosen = [name.strip() for name in names]
    for name in chosen:
        if name not in by_name:
            raise LapganError(f"--metrics {name}: expected one of {', '.join(by_name)}.")
    return [metric for name, metric in by_name.items() if name in chosen]
