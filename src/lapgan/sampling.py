"""Generated images as files: a sheet, a folder of PNGs, or an npz archive, in constant memory."""

import itertools
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from lapgan.cascade import Cascade, Link
from lapgan.errors import LapganError
from lapgan.files import atomic_path, safe_file_name, write_atomically
from lapgan.pictures import encode_png, write_png, zoomed

__all__ = ["Draw", "read_coarse", "write_chain", "write_images"]


@dataclass(frozen=True)
class Draw:
    """Which images to generate.

    Args:
        cascade: the model.
        n: how many.
        seed: the same seed gives the same images.
        labels: one class index an image, or None.
        coarse: an image, uint8 (3, h, w), to refine in n ways; None to begin from noise.
    """

    cascade: Cascade
    n: int
    seed: int = 0
    labels: Tensor | None = None
    coarse: Tensor | None = None

    def blocks(self) -> Iterator[Tensor]:
        """Generates the images a block at a time."""
        if self.coarse is None:
            return self.cascade.blocks(self.n, self.seed, self.labels)
        return self.cascade.refine_blocks(self._repeated(self.coarse), self.seed, self.labels)

    def chain(self) -> list[Link]:
        """Generates the images and returns every level, coarsest first."""
        if self.coarse is None:
            return self.cascade.chain(self.n, self.seed, self.labels)
        return self.cascade.refine_chain(self._repeated(self.coarse), self.seed, self.labels)

    def _repeated(self, coarse: Tensor) -> Tensor:
        return coarse.expand(self.n, -1, -1, -1)


def read_coarse(path: Path) -> Tensor:
    """Reads an image to refine, uint8 (3, h, w).

    Raises:
        LapganError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise LapganError(f"--from {path}: cannot be read as an image ({error}).") from None
    return torch.from_numpy(pixels).permute(2, 0, 1)


def write_images(draw: Draw, out: Path, zoom: int = 1) -> None:
    """Writes images to `out`: a sheet (.png), an archive (.npz), or a folder of PNGs.

    The archive has `images`, uint8 (n, H, W, 3), and `labels`, int64 (n,), if there are classes.

    Raises:
        LapganError: `out` has another suffix, or cannot be written.
    """
    if out.suffix == ".png":
        write_png(out, list(draw.blocks()), zoom=zoom)
    elif out.suffix == ".npz":
        _write_npz(draw, out)
    elif not out.suffix:
        _write_folder(draw, out)
    else:
        raise LapganError(f"--out {out}: expected a .png or .npz file, or a folder.")


def write_chain(draw: Draw, out: Path, zoom: int = 1) -> None:
    """Writes a sheet with one row an image: coarse image, then residual and image of each level.

    Raises:
        LapganError: `out` is no .png file, or cannot be written.
    """
    if out.suffix != ".png":
        raise LapganError(f"--out {out}: a chain is a picture; name a .png file.")
    finest = draw.cascade.sizes[0]
    columns = [zoomed(picture, finest) for picture in _pictures(draw.chain())]
    images = torch.stack(columns, dim=1).flatten(0, 1)
    write_png(out, images, columns=len(columns), zoom=zoom)


def _pictures(links: list[Link]) -> Iterator[Tensor]:
    for link in links:
        if link.low is not None:
            yield link.high
        yield link.image


def _write_npz(draw: Draw, out: Path) -> None:
    """Writes as `numpy.savez` would, but a block at a time."""
    shape = (draw.n, *draw.cascade.sizes[0], 3)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with atomic_path(out) as path, zipfile.ZipFile(path, "w") as archive:
        with archive.open("images.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_2_0(stream, header)
            for block in draw.blocks():
                stream.write(block.permute(0, 2, 3, 1).contiguous().numpy().tobytes())
        if draw.labels is not None:
            with archive.open("labels.npy", "w") as stream:
                np.lib.format.write_array(stream, draw.labels.numpy(), allow_pickle=False)


def _write_folder(draw: Draw, out: Path) -> None:
    """Writes one PNG an image, numbered, in class folders if there are classes."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise LapganError(f"--out {out}: already exists; name a new or empty folder.")
    images = itertools.chain.from_iterable(draw.blocks())
    for index, image in enumerate(images):
        write_atomically(_folder(draw, out, index) / f"{index:06d}.png", encode_png(image))


def _folder(draw: Draw, out: Path, index: int) -> Path:
    if draw.labels is None:
        return out
    return out / safe_file_name(draw.cascade.class_names[int(draw.labels[index])])
