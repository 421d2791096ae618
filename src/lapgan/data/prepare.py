"""Pictures of any size become a folder of pictures of one size, ready to be trained on."""

import sys
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lapgan.data.decode import InvalidImageError
from lapgan.data.opening import find_source
from lapgan.data.reading import OnInvalid, Reading, warn_skipped
from lapgan.files import atomic_folder, safe_file_name
from lapgan.sizes import Size

__all__ = ["fitted", "prepare_images"]


def prepare_images(
    source: str | Path,
    out: Path,
    size: Size,
    *,
    split: str = "train",
    count: int | None = None,
    on_invalid: OnInvalid = "stop",
    progress: bool | None = None,
) -> int:
    """Writes a source's images as PNG files of one size, in class folders if it has classes.

    The folder appears when it is complete, or not at all.

    Args:
        source: as for `open_images`, but its images may have any sizes.
        out: the folder to make.
        size: height and width, in pixels.
        split: which part of the source.
        count: how many images, the first ones; all if None.
        on_invalid: what to do about images that are broken, not 8-bit RGB without loss, or smaller than
            `size`: "stop" raises and names them, "skip" leaves them out with a warning.
        progress: whether to draw a progress bar on stderr; only in a terminal if None.

    Returns:
        How many images were written.

    Raises:
        LapganError: `out` exists, the source cannot be found or read, or nothing can be written.
    """
    found = find_source(str(source), split)
    reading = Reading(found, on_invalid, sys.stderr.isatty() if progress is None else progress)
    written = 0
    with atomic_folder(out) as folder:
        for pixels, label in islice(reading.images(partial(fitted, size=size)), count):
            named = found.class_names and label is not None
            place = folder / safe_file_name(found.class_names[label or 0]) if named else folder
            place.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(place / f"{written:06}.png")
            written += 1
    warn_skipped(found.name, reading.named(), len(reading.bad))
    return written


def fitted(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Cuts the largest centered part of the shape of `size`, and reduces it (Lanczos).

    Args:
        pixels: uint8 (H, W, 3).
        size: height and width, in pixels.

    Raises:
        InvalidImageError: the image is smaller than `size`; nothing is enlarged.
    """
    height, width = size
    if pixels.shape[0] < height or pixels.shape[1] < width:
        raise InvalidImageError(
            f"is {pixels.shape[1]}x{pixels.shape[0]} pixels (width x height), smaller than "
            f"{width}x{height}. Remove it or choose a smaller size"
        )
    image = ImageOps.fit(Image.fromarray(pixels), (width, height), Image.Resampling.LANCZOS)
    return np.asarray(image)
