"""A figure and how far it may be off."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Estimate", "mean_estimate", "quotient", "ratio_estimate"]


@dataclass(frozen=True)
class Estimate:
    """A figure of a sample.

    Args:
        value: the figure.
        standard_error: the standard deviation that it would have over other samples of the size.
        n: how many independent values it rests on.
    """

    value: float
    standard_error: float
    n: int

    def root(self) -> "Estimate":
        """Returns sqrt(value), with the error to first order; 0 below 0."""
        root = max(self.value, 0.0) ** 0.5
        error = self.standard_error / (2 * root) if root else 0.0
        return Estimate(root, error, self.n)


def mean_estimate(values: Tensor) -> Estimate:
    """Returns the mean of independent values (n,), with s / sqrt(n) as its error."""
    x = values.double()
    return Estimate(float(x.mean()), float(x.std() / len(x) ** 0.5), len(x))


def ratio_estimate(numerators: Tensor, denominators: Tensor) -> Estimate:
    """Returns the ratio of the means of couples (n,) of values, with its error to first order."""
    x, y = numerators.double(), denominators.double()
    if not y.any():
        return Estimate(float("nan"), float("nan"), len(x))
    ratio = float(x.mean() / y.mean())
    error = float((x - ratio * y).std() / (y.mean().abs() * len(x) ** 0.5))
    return Estimate(ratio, error, len(x))


def quotient(a: Estimate, b: Estimate) -> Estimate:
    """Returns a / b of two independent estimates, with the error to first order."""
    if not b.value:
        return Estimate(float("nan"), float("nan"), min(a.n, b.n))
    value = a.value / b.value
    error = (a.standard_error**2 + (value * b.standard_error) ** 2) ** 0.5 / abs(b.value)
    return Estimate(value, error, min(a.n, b.n))
