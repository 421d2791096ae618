"""Turns pictures of any size into a folder of images of one size, ready for training."""

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from PIL import Image

from lapgan.data.decode import fit_image
from lapgan.data.reading import OnInvalid, SourceReader, warn_skipped
from lapgan.data.sources import Source, find_source
from lapgan.data.sources.folder import class_folders
from lapgan.errors import LapganError
from lapgan.files import atomic_folder
from lapgan.sizes import Size

__all__ = ["draw_test_images", "prepare_images"]


def prepare_images(
    source: str | Path,
    out: Path,
    size: Size,
    *,
    split: str = "train",
    count: int | None = None,
    hold_out: int = 0,
    on_invalid: OnInvalid = "stop",
    progress: bool | None = None,
) -> int:
    """Writes all images of a source as PNG files of one size, in class folders if it has classes.

    Args:
        source: as for `open_images`, but the images may have any size.
        out: the new folder.
        size: height and width, in pixels.
        split: which part of the source.
        count: how many images to write, the first ones of the source; all if None.
        hold_out: how many, drawn at random, go into a folder `test` beside a folder `train`.
        on_invalid: what to do with images that are broken, not 8-bit RGB without loss, or smaller
            than `size`: "stop" raises and names them, "skip" leaves them out with a warning.
        progress: whether to draw a progress bar on stderr; only in a terminal if None.

    Returns:
        The number of images that were written.

    Raises:
        LapganError: `out` exists or cannot be written, the source cannot be read, or none is left.
    """
    reader = SourceReader(find_source(str(source), split), on_invalid, progress)
    with atomic_folder(out) as folder:
        chosen = reader.survey(size)[:count]
        places = _Places(folder, draw_test_images(len(chosen), hold_out), reader.source)
        for pixels, label in reader.images(partial(fit_image, size=size), set(chosen)):
            Image.fromarray(pixels).save(places.next(label))
        places.check()
    warn_skipped(reader.source.name, reader.list_invalid(), len(reader.invalid))
    return places.written


def draw_test_images(count: int, hold_out: int) -> frozenset[int] | None:
    """Returns which of the images are test images; None if there is only one part."""
    if not hold_out:
        return None
    if hold_out >= count:
        raise LapganError(
            f"--hold-out {hold_out}: there are {count} images that can be used; hold out fewer."
        )
    return frozenset(np.random.default_rng(0).permutation(count)[:hold_out].tolist())


@dataclass
class _Places:
    """Where the next image goes, in an order that follows from the source alone."""

    folder: Path
    test: frozenset[int] | None
    source: Source
    written: int = 0
    labeled: int = 0

    def next(self, label: int | None) -> Path:
        """Returns the file of the next image."""
        part = "" if self.test is None else "test" if self.written in self.test else "train"
        classes = self._class_folders
        parent = self.folder / part / (classes[label] if classes and label is not None else "")
        parent.mkdir(parents=True, exist_ok=True)
        path = parent / f"{self.written:06}.png"
        self.written += 1
        self.labeled += label is not None
        return path

    def check(self) -> None:
        """Raises a LapganError if some images have a class and others none."""
        if 0 < self.labeled < self.written:
            raise LapganError(
                f"{self.source.name}: {self.written - self.labeled} of {self.written} images have "
                "no label. Label all images or none."
            )

    @cached_property
    def _class_folders(self) -> tuple[str, ...]:
        return class_folders(self.source.class_names)
