"""What every evaluation gives: a figure, with all that is needed to read and repeat it."""

from dataclasses import dataclass, field

__all__ = ["Detail", "Measurement"]

Detail = str | int | float | bool


@dataclass(frozen=True)
class Measurement:
    """One figure.

    Args:
        subject: what was measured: a model's name, or that of a reference row.
        metric: the name of the score, which never stands for another.
        value: the figure.
        error: its standard error, or None where none can be given.
        n: how many generated images it is of.
        seed: of the images and of all that is random in the score.
        unit: of the value; empty for a ratio.
        extractor: of features, or None for a score of pixels.
        details: what else shapes the value: sigma, dimension, scale, counts.
    """

    subject: str
    metric: str
    value: float
    error: float | None
    n: int
    seed: int
    unit: str = ""
    extractor: str | None = None
    details: dict[str, Detail] = field(default_factory=dict)

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        error = "" if self.error is None else f" ± {self.error:.2g}"
        return f"{self.subject}: {self.metric} {self.value:.4g}{error}{unit} (n = {self.n:,})"
