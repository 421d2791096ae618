"""Writes pictures of any size as tar shards of images of one size, for `stream:`.

The files in a shard are those of webdataset: `00000042.png`, and `00000042.cls` with the class if
there are classes.
"""

import hashlib
import io
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lapgan.data.decode import fit_image
from lapgan.data.prepare import draw_test_images
from lapgan.data.reading import OnInvalid, SourceReader, warn_skipped
from lapgan.data.sources import find_source
from lapgan.data.sources.tar import INDEX
from lapgan.errors import LapganError
from lapgan.files import atomic_folder, write_json
from lapgan.sizes import Size

__all__ = ["write_shards"]

_OPEN_AT_ONCE = 256


def write_shards(
    source: str | Path,
    out: Path,
    size: Size,
    *,
    split: str = "train",
    count: int | None = None,
    hold_out: int = 0,
    images_per_shard: int = 1000,
    on_invalid: OnInvalid = "stop",
) -> int:
    """Writes the images of a source as PNG files in tar shards, with an index.

    The images of 256 shards at a time are dealt out to them at random, so that each shard has
    images from all over a source that comes class by class. Pictures are read once, one after
    another, so a source may be of any length.

    Args:
        source: as for `open_images`, but the images may have any size.
        out: the new folder: `train-000000.tar` and so on, and `shards.json`.
        size: height and width, in pixels.
        split: which part of the source.
        count: how many images to write, the first ones of the source; all if None.
        hold_out: how many, drawn at random, go into shards of the split `test`.
        images_per_shard: how many images a shard has; the last one has fewer.
        on_invalid: as for `prepare_images`.

    Returns:
        The number of images that were written.

    Raises:
        LapganError: `out` exists or cannot be written, the source cannot be read, or none is left.
    """
    reader = SourceReader(find_source(str(source), split), on_invalid)
    total = min(len(reader.source), count or len(reader.source))
    test = draw_test_images(total, hold_out) or frozenset()
    with atomic_folder(out) as folder:
        train_part = _Part(folder, "train", total - len(test), images_per_shard)
        test_part = _Part(folder, "test", len(test), images_per_shard)
        images = reader.images(partial(fit_image, size=size), range(total))
        labels = _fill(lambda n: test_part if n in test else train_part, images, reader.source.name)
        shards = {**train_part.close(), **test_part.close()}
        names = list(reader.source.class_names) if labels[True] else []
        index = {"format": 1, "size": size, "class_names": names, "shards": shards}
        write_json(folder / INDEX, index)
    warn_skipped(reader.source.name, reader.list_invalid(), len(reader.invalid))
    return labels.total()


def _fill(
    part_of: Callable[[int], "_Part"],
    images: Iterable[tuple[NDArray[np.uint8], int | None]],
    name: str,
) -> Counter[bool]:
    """Writes each image into its part; returns how many have a label, and how many have none."""
    labels: Counter[bool] = Counter()
    for number, (pixels, label) in enumerate(images):
        labels[label is not None] += 1
        part_of(number).add(number, pixels, label)
    if len(labels) > 1:
        raise LapganError(
            f"{name}: {labels[False]} of {labels.total()} images have no label. Label all images "
            "or none."
        )
    return labels


@dataclass
class _Part:
    """The shards of one split.

    Args:
        folder: where they are written.
        split: what their names begin with.
        total: how many images are expected; some may turn out to be invalid.
        images_per_shard: how many images a shard has.
    """

    folder: Path
    split: str
    total: int
    images_per_shard: int
    added: int = 0
    open: dict[int, tarfile.TarFile] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)

    def add(self, number: int, pixels: NDArray[np.uint8], label: int | None) -> None:
        """Adds an image under a name that is its own among all images."""
        group, place = divmod(self.added, self._group)
        if place == 0:
            self._close_shards()
            self._deal(group)
        shard = group * _OPEN_AT_ONCE + int(self._places[place]) // self.images_per_shard
        if shard not in self.open:
            self.open[shard] = tarfile.open(  # noqa: SIM115 (closed with its group)
                self._path(shard), "w", format=tarfile.USTAR_FORMAT
            )
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        _add_file(self.open[shard], f"{number:08}.png", file.getvalue())
        if label is not None:
            _add_file(self.open[shard], f"{number:08}.cls", str(label).encode())
        self.counts[shard] += 1
        self.added += 1

    def close(self) -> dict[str, Any]:
        """Closes all shards; returns their part of the index."""
        self._close_shards()
        index = {}
        for shard, count in sorted(self.counts.items()):
            path = self._path(shard)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = path.stat().st_size
            index[path.name] = {"images": count, "bytes": size, "sha256": digest}
        return index

    @property
    def _group(self) -> int:
        return _OPEN_AT_ONCE * self.images_per_shard

    def _deal(self, group: int) -> None:
        """Draws the places of the images of the shards that are written at once."""
        count = min(self._group, self.total - group * self._group)
        self._places = np.random.default_rng((0, group)).permutation(count)

    def _close_shards(self) -> None:
        for tar in self.open.values():
            tar.close()
        self.open.clear()

    def _path(self, shard: int) -> Path:
        return self.folder / f"{self.split}-{shard:06}.tar"


def _add_file(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
