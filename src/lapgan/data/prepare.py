"""Turns pictures of any size into a folder of images of one size, ready for training."""

from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lapgan.data.decode import InvalidImageError
from lapgan.data.reading import OnInvalid, SourceReader, warn_skipped
from lapgan.data.sources import Source, find_source
from lapgan.files import atomic_folder, safe_file_name
from lapgan.sizes import Size

__all__ = ["fit_image", "prepare_images"]


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
    """Writes the images of a source as PNG files of one size, in class folders if it has classes.

    The folder is written whole or not at all.

    Args:
        source: as for `open_images`, but the images may have any size.
        out: the new folder.
        size: height and width, in pixels.
        split: which part of the source.
        count: how many images to write, the first ones of the source; all if None.
        on_invalid: what to do with images that are broken, not 8-bit RGB without loss, or smaller
            than `size`: "stop" raises and names them, "skip" leaves them out with a warning.
        progress: whether to draw a progress bar on stderr; only in a terminal if None.

    Returns:
        The number of images that were written.

    Raises:
        LapganError: `out` exists, the source cannot be found or read, or `out` cannot be written.
    """
    reader = SourceReader(find_source(str(source), split), on_invalid, progress)
    written = 0
    with atomic_folder(out) as folder:
        for pixels, label in islice(reader.images(partial(fit_image, size=size)), count):
            parent = folder / _class_folder(reader.source, label)
            parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(parent / f"{written:06}.png")
            written += 1
    warn_skipped(reader.source.name, reader.list_invalid(), len(reader.invalid))
    return written


def _class_folder(source: Source, label: int | None) -> str:
    return (
        safe_file_name(source.class_names[label])
        if source.class_names and label is not None
        else ""
    )


def fit_image(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Crops the largest centered region with the aspect ratio of `size`, and reduces it (Lanczos).

    Args:
        pixels: uint8 (H, W, 3).
        size: height and width, in pixels.

    Raises:
        InvalidImageError: the image is smaller than `size`; images are never enlarged.
    """
    height, width = size
    if pixels.shape[0] < height or pixels.shape[1] < width:
        raise InvalidImageError(
            f"is {pixels.shape[1]}x{pixels.shape[0]} pixels (width x height), smaller than "
            f"{width}x{height}. Remove it or choose a smaller size"
        )
    image = ImageOps.fit(Image.fromarray(pixels), (width, height), Image.Resampling.LANCZOS)
    return np.asarray(image)
