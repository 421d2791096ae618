"""The report's pictures: those that raters judged real most and least often."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lapgan.errors import LapganError
from lapgan.study.results import ImageCount, Results
from lapgan.study.stimuli import encode_png

__all__ = ["Picture", "choose_pictures"]

_IN_A_ROW = 6
_LARGEST = 192  # pixels of the longer side, so that a page of large images stays small


@dataclass(frozen=True)
class Picture:
    """A picture in the page.

    Args:
        address: the image as a data URL.
        judged_real: how often it was judged real.
        answers: how often it was judged.
    """

    address: str
    judged_real: int
    answers: int


def choose_pictures(
    results: Results, stimuli: Path
) -> Mapping[str, tuple[Sequence[Picture], Sequence[Picture]]]:
    """Returns the pictures of each source that were judged real most and least often.

    Args:
        results: of the study.
        stimuli: the study's folder of images.

    Raises:
        LapganError: an image is missing or cannot be read.
    """
    chosen = {}
    for source, images in results.images.items():
        most, rest = images[:_IN_A_ROW], images[_IN_A_ROW:]
        rows = most, rest[: -_IN_A_ROW - 1 : -1]
        zoom = results.manifest.zoom
        best, worst = ([_read(image, stimuli, zoom) for image in row] for row in rows)
        chosen[source] = best, worst
    return chosen


def _read(image: ImageCount, stimuli: Path, zoom: int) -> Picture:
    path = stimuli / f"{image.name}.png"
    try:
        with Image.open(path) as file:
            shown = file.convert("RGB")
    except OSError as error:
        raise LapganError(
            f"{path}: cannot be read ({error.strerror or error}). Restore the study's folder."
        ) from error
    small = shown.reduce(zoom)  # exact: every pixel was repeated
    small.thumbnail((_LARGEST, _LARGEST))
    content = base64.b64encode(encode_png(np.asarray(small))).decode()
    return Picture(f"data:image/png;base64,{content}", image.judged_real, image.answers)
