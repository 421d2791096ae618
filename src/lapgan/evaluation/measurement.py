"""The results of an evaluation: estimates, and measurements that can be read and repeated."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

__all__ = [
    "HELD_OUT",
    "TRAINING",
    "Detail",
    "Estimate",
    "Measurement",
    "Picture",
    "divide_estimates",
    "estimate_mean",
    "estimate_ratio",
]

# The subjects of reference rows.
TRAINING = "real training images"
HELD_OUT = "real held-out images"

Detail = str | int | float | bool


@dataclass(frozen=True)
class Measurement:
    """One value of one model, with all that is needed to read and repeat it.

    Args:
        subject: what was measured: a model's name, or that of a reference row.
        metric: the name of the score, which is never used for another score.
        value: the value.
        error: its error, or None where none can be given; a standard error unless
            `details["error_is"]` says otherwise.
        n: the number of generated images that the value rests on.
        seed: of the images and of all that is random in the score.
        section: the name of the report's section that shows it.
        unit: of the value; empty for a ratio.
        extractor: the net that the features come from, or None for a score of pixels.
        details: what else determines the value: sigma, dimension, scale, counts.
    """

    subject: str
    metric: str
    value: float
    error: float | None
    n: int
    seed: int
    section: str = ""
    unit: str = ""
    extractor: str | None = None
    details: dict[str, Detail] = field(default_factory=dict)

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        error = "" if self.error is None else f" ± {self.error:.2g}"
        return f"{self.subject}: {self.metric} {self.value:.4g}{error}{unit} (n = {self.n:,})"


@dataclass(frozen=True)
class Picture:
    """A sheet of images as PNG, with a line about it."""

    caption: str
    png: bytes = field(repr=False)


@dataclass(frozen=True)
class Estimate:
    """An estimate from a sample, with its error.

    Args:
        value: the estimate.
        error: the standard deviation of the estimate over other samples of this size, unless
            `error_is` says otherwise.
        n: the number of independent values that it rests on.
        error_is: what kind of error it is, in words.
    """

    value: float
    error: float
    n: int
    error_is: str = "standard error"

    def root(self) -> "Estimate":
        """Returns sqrt(value), with the error to first order; 0 below 0."""
        root = max(self.value, 0.0) ** 0.5
        error = self.error / (2 * root) if root else 0.0
        return Estimate(root, error, self.n)

    def report(
        self,
        *,
        subject: str,
        metric: str,
        section: str,
        seed: int,
        unit: str = "",
        extractor: str | None = None,
        details: Mapping[str, Detail] | None = None,
    ) -> Measurement:
        """Returns the measurement that reports this estimate; see `Measurement` for the fields."""
        return Measurement(
            subject=subject,
            metric=metric,
            value=self.value,
            error=self.error,
            n=self.n,
            seed=seed,
            section=section,
            unit=unit,
            extractor=extractor,
            details=dict(details or {}),
        )


def estimate_mean(values: Tensor) -> Estimate:
    """Returns the mean of independent values (n,), with s / sqrt(n) as its error."""
    x = values.double()
    return Estimate(float(x.mean()), float(x.std() / len(x) ** 0.5), len(x))


def estimate_ratio(numerators: Tensor, denominators: Tensor) -> Estimate:
    """Returns the ratio of the means of couples (n,) of values, with its error to first order."""
    x, y = numerators.double(), denominators.double()
    if not y.any():
        return Estimate(float("nan"), float("nan"), len(x))
    ratio = float(x.mean() / y.mean())
    error = float((x - ratio * y).std() / (y.mean().abs() * len(x) ** 0.5))
    return Estimate(ratio, error, len(x))


def divide_estimates(a: Estimate, b: Estimate) -> Estimate:
    """Returns a / b of two independent estimates, with the error to first order."""
    if not b.value:
        return Estimate(float("nan"), float("nan"), min(a.n, b.n))
    value = a.value / b.value
    error = (a.error**2 + (value * b.error) ** 2) ** 0.5 / abs(b.value)
    return Estimate(value, error, min(a.n, b.n))
