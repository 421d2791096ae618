"""Generated images as files: a sheet, a folder of PNGs, or an npz archive, in constant memory."""

import itertools
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from lapgan.cascade import Cascade
from lapgan.errors import LapganError
from lapgan.files import atomic_path, safe_file_name, write_atomically
from lapgan.pictures import encode_png, write_png, zoom_to
from lapgan.pyramid import Stage

__all__ = ["read_coarse_image", "write_chain", "write_images"]


def read_coarse_image(path: Path) -> Tensor:
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


def write_images(
    cascade: Cascade,
    out: Path,
    n: int,
    seed: int = 0,
    labels: Tensor | None = None,
    start: Tensor | None = None,
    zoom: int = 1,
) -> None:
    """Generates images into `out`: a sheet (.png), an archive (.npz), or a folder of PNGs.

    The archive has `images`, uint8 (n, H, W, 3), and if there are classes `labels`, int64 (n,), and
    `class_names`.
    The other arguments are those of `Cascade.sample`; `zoom` enlarges a sheet.

    Raises:
        LapganError: `out` has another suffix, or cannot be written.
    """
    blocks = cascade.stream(n, seed, labels, start)
    if out.suffix == ".png":
        write_png(out, list(blocks), zoom=zoom)
    elif out.suffix == ".npz":
        arrays = {}
        if labels is not None:
            arrays = {"labels": labels.numpy(), "class_names": np.array(cascade.class_names)}
        _write_npz(out, blocks, (n, *cascade.sizes[0], 3), arrays)
    elif not out.suffix:
        classes = None if labels is None else [cascade.class_names[int(i)] for i in labels]
        _write_folder(out, blocks, classes)
    else:
        raise LapganError(f"--out {out}: expected a .png or .npz file, or a folder.")


def write_chain(
    cascade: Cascade,
    out: Path,
    n: int,
    seed: int = 0,
    labels: Tensor | None = None,
    start: Tensor | None = None,
    zoom: int = 1,
) -> None:
    """Generates a sheet with one row per image: coarse image, then residual and image per level.

    Raises:
        LapganError: `out` is no .png file, or cannot be written.
    """
    if out.suffix != ".png":
        raise LapganError(f"--out {out}: a chain is a picture; name a .png file.")
    stages = cascade.chain(n, seed, labels, start)
    columns = [zoom_to(picture, cascade.sizes[0]) for picture in _pictures(stages)]
    images = torch.stack(columns, dim=1).flatten(0, 1)
    write_png(out, images, columns=len(columns), zoom=zoom)


def _pictures(stages: list[Stage]) -> Iterator[Tensor]:
    for stage in stages:
        if stage.low is not None:
            yield stage.high
        yield stage.image


def _write_npz(
    out: Path,
    blocks: Iterable[Tensor],
    shape: tuple[int, ...],
    arrays: Mapping[str, NDArray[Any]],
) -> None:
    """Writes as `numpy.savez` would, but block by block."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with atomic_path(out) as path, zipfile.ZipFile(path, "w") as archive:
        with archive.open("images.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_2_0(stream, header)
            for block in blocks:
                stream.write(block.permute(0, 2, 3, 1).contiguous().numpy().tobytes())
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


def _write_folder(out: Path, blocks: Iterable[Tensor], classes: list[str] | None) -> None:
    """Writes one PNG per image, numbered, in class folders if there are classes."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise LapganError(f"--out {out}: already exists; name a new or empty folder.")
    for index, image in enumerate(itertools.chain.from_iterable(blocks)):
        folder = out if classes is None else out / safe_file_name(classes[index])
        write_atomically(folder / f"{index:06d}.png", encode_png(image))
