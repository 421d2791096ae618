"""Log-likelihoods of images, and the section of the report that shows them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from lapgan.evaluation.measurement import Detail, Measurement
from lapgan.evaluation.published import CIFAR10_LOG_LIKELIHOOD
from lapgan.evaluation.sections import (
    Column,
    Dot,
    Plot,
    ReportSection,
    Row,
    SectionData,
    Table,
    format_count,
    format_number,
)
from lapgan.sizes import Size, size_text

__all__ = ["SECTION", "UNIT", "LogLikelihood", "Width"]

UNIT = "nats per image"


@dataclass(frozen=True)
class Width:
    """The width of the window, chosen on validation images.

    Args:
        sigma: the standard deviation of each Gaussian, in the scale of the pixels.
        on_edge: whether it is the smallest or largest of the grid, so that the true best may lie
            beyond.
    """

    sigma: float
    on_edge: bool


@dataclass(frozen=True)
class LogLikelihood:
    """Log-likelihoods of images, in nats per image.

    Args:
        values: one per image, float64 (n,).
        width: of the window.
        dimension: of an image: colors x height x width.
        samples: how many Gaussians.
        validation: how many images the width was chosen on.
    """

    values: Float[Tensor, " n"]
    width: Width
    dimension: int
    samples: int
    validation: int

    @property
    def mean(self) -> float:
        """The mean over images."""
        return self.values.mean().item()

    @property
    def std(self) -> float:
        """The standard deviation over images: the +- of the paper's tables."""
        return self.values.std().item()

    @property
    def error(self) -> float:
        """The standard error of the mean, over images."""
        return self.std / math.sqrt(len(self.values))

    def report(
        self, *, subject: str, metric: str, size: Size, seed: int, details: Mapping[str, Detail]
    ) -> Measurement:
        """Returns the measurement that reports the mean.

        Args:
            subject: the model, or the reference.
            metric: the name of the score.
            size: of the images.
            seed: of the samples.
            details: what else determines the value.
        """
        shape: dict[str, Detail] = {
            "std": self.std,
            "sigma": self.width.sigma,
            "sigma_on_edge": self.width.on_edge,
            "dimension": self.dimension,
            "test_images": len(self.values),
            "validation_images": self.validation,
            "size": size_text(size),
        }
        return Measurement(
            subject=subject,
            metric=metric,
            value=self.mean,
            error=self.error,
            n=self.samples,
            seed=seed,
            section=SECTION.name,
            unit=UNIT,
            details=shape | dict(details),
        )


def _format_sigma(m: Measurement) -> str:
    edge = " (edge of the grid)" if m.details["sigma_on_edge"] else ""
    return format_number(float(m.details["sigma"]), 3) + edge


_COLUMNS = (
    Column("images", lambda m: m.subject, left=True),
    Column("density", lambda m: m.metric, left=True),
    Column(UNIT, lambda m: f"{m.value:.0f} ± {format_number(m.error, 2)}"),
    Column("std", lambda m: f"{m.details['std']:.0f}"),
    Column("sigma", _format_sigma),
    Column("size", lambda m: f"{m.details['size']}, d = {m.details['dimension']}"),
    Column("scale", lambda m: str(m.details["scale"]), left=True),
    Column("samples", lambda m: format_count(m.n)),
    Column("test images", lambda m: format_count(int(m.details["test_images"]))),
)
_PUBLISHED_NOTE = (
    "Published: Denton et al. (2015), on CIFAR-10. By their level these values are of 32x32 "
    "pixels, standardised; compare them with no other dimension or scale."
)


def _tabulate(data: SectionData) -> list[Table]:
    rows = [Row([column.cell(m) for column in _COLUMNS]) for m in data.measurements]
    published = [
        Row(
            [name, "published, not measured here", f"{mean}", f"{std}", "", "", "", "50,000", ""],
            published=True,
        )
        for name, (mean, std) in _published(data).items()
    ]
    headings, left = zip(*((column.heading, column.left) for column in _COLUMNS), strict=True)
    return [Table(headings, left, rows + published, _PUBLISHED_NOTE if published else "")]


def _plot(data: SectionData) -> list[Plot]:
    """Plots Parzen values, with the standard deviation over images, as the paper's tables do."""
    windows = [m for m in data.measurements if m.metric == "parzen"]
    dots = [
        Dot(
            f"{m.subject} ({m.details['size']})",
            m.value,
            float(m.details["std"]),
            "model" if m.subject in data.models else "reference",
        )
        for m in windows
    ]
    if any(_is_like_published(m) for m in windows):
        dots += [
            Dot(f"{name}, published", mean, std, "published")
            for name, (mean, std) in _published(data).items()
            if "multi-scale" not in name
        ]
    label = f"{UNIT}; bars: standard deviation over images"
    return [Plot("Parzen log-likelihoods", label, dots)] if dots else []


def _is_like_published(m: Measurement) -> bool:
    """Returns whether a value has the published ones' scale and dimension."""
    return m.details["scale"] == "standardised" and m.details["size"] == "32x32"


def _published(data: SectionData) -> Mapping[str, tuple[float, float]]:
    return CIFAR10_LOG_LIKELIHOOD if "cifar10" in data.settings["training_data"] else {}


SECTION = ReportSection(
    name="log-likelihood",
    title="Log-likelihood",
    introduction=(
        "Held-out images under Gaussians centered on a model's samples. ± is the standard error of "
        "the mean; std is the standard deviation over images, the ± of the paper's tables. The "
        "values depend on scale, dimension and number of samples, and do not rank models by how "
        "good their images look: centroids of k-means score higher than real images (Theis et al., "
        "2016). The reference rows are there to show this."
    ),
    tabulate=_tabulate,
    plot=_plot,
)
