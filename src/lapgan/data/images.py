"""Decoded images of one size with their labels: what every data source becomes."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lapgan.sizes import Size, size_text

__all__ = ["Images"]


@dataclass(frozen=True, eq=False)
class Images:
    """Decoded images, read from the disk when they are used.

    Args:
        pixels: uint8 (N, 3, H, W), 0 to 255, RGB; usually a read-only memory map.
        labels: int64 (N,), each an index into `class_names`; None if the images have none.
        class_names: the name of each class; empty if and only if there are no labels.
        name: a short name for people.
        fingerprint: a hash of the source's content; equal for the same source on any machine.
        content: a hash of pixels, labels and class names, whatever source they come from; empty
            where it is not known.

    Raises:
        ValueError: the parts do not fit together.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    labels: NDArray[np.int64] | None = field(repr=False)
    class_names: tuple[str, ...]
    name: str
    fingerprint: str
    content: str = ""

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4 or self.pixels.shape[1] != 3:
            actual = f"{self.pixels.dtype} {self.pixels.shape}"
            raise ValueError(f"pixels: expected uint8 (N, 3, H, W), got {actual}")
        if (self.labels is None) != (not self.class_names):
            raise ValueError("class_names: expected names if and only if there are labels")
        if self.labels is not None:
            self._check_labels(self.labels)

    def _check_labels(self, labels: NDArray[np.int64]) -> None:
        if labels.dtype != np.int64 or labels.shape != (len(self),):
            actual = f"{labels.dtype} {labels.shape}"
            raise ValueError(f"labels: expected int64 ({len(self)},), got {actual}")
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.class_names):
            raise ValueError(
                f"labels: expected 0 to {len(self.class_names) - 1}, "
                f"got {labels.min()} to {labels.max()}"
            )

    def __len__(self) -> int:
        return len(self.pixels)

    def describe(self) -> str:
        """Returns what they are on one line: name, number, size and classes."""
        count = len(self.class_names)
        names = ", ".join(self.class_names[:10]) + (", ..." if count > 10 else "")
        classes = f"{count} classes ({names})" if count else "no classes"
        return f"{self.name}, {len(self):,} images of {size_text(self.size)}, {classes}"

    @property
    def size(self) -> Size:
        """Height and width of every image, in pixels."""
        return self.pixels.shape[2], self.pixels.shape[3]
