"""Generated images as files: a sheet, a folder of PNGs, or an npz archive, in constant memory."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from lapgan.cascade import Cascade, Link
from lapgan.errors import LapganError
from lapgan.files import atomic_path, write_atomically
from lapgan.pictures import encode_png, write_png, zoomed

__all__ = ["sample_chain", "sample_images"]


def sample_images(
    cascade: Cascade,
    out: Path,
    n: int,
    seed: int,
    labels: Tensor | None,
    given: Path | None,
    zoom: int,
) -> None:
    """Writes n images to `out`: a sheet (.png), an archive (.npz), or a folder of PNGs.

    The archive has `images`, uint8 (n, H, W, 3), and `labels`, int64 (n,), if there are classes.

    Raises:
        LapganError: `out` has another suffix, or cannot be written.
    """
    blocks = _blocks(cascade, n, seed, labels, given)
    if out.suffix == ".png":
        write_png(out, list(blocks), zoom=zoom)
    elif out.suffix == ".npz":
        _write_npz(out, blocks, (n, *cascade.sizes[0], 3), labels)
    elif not out.suffix:
        _write_folder(out, blocks, labels, cascade.class_names)
    else:
        raise LapganError(f"--out {out}: expected a .png or .npz file, or a folder.")


def sample_chain(
    cascade: Cascade,
    out: Path,
    n: int,
    seed: int,
    labels: Tensor | None,
    given: Path | None,
    zoom: int,
) -> None:
    """Writes a sheet with one row an image: coarse image, then residual and image of each level.

    Raises:
        LapganError: `out` is no .png file, or cannot be written.
    """
    if out.suffix != ".png":
        raise LapganError(f"--out {out}: a chain is a picture; name a .png file.")
    if given is None:
        links = cascade.chain(n, seed, labels)
    else:
        links = cascade.refine_chain(_repeated(given, n), seed, labels)
    columns = [zoomed(picture, cascade.sizes[0]) for picture in _pictures(links)]
    images = torch.stack(columns, dim=1).flatten(0, 1)
    write_png(out, images, columns=len(columns), zoom=zoom)


def _pictures(links: list[Link]) -> Iterator[Tensor]:
    for link in links:
        if link.low is not None:
            yield link.high
        yield link.image


def _blocks(
    cascade: Cascade, n: int, seed: int, labels: Tensor | None, given: Path | None
) -> Iterator[Tensor]:
    if given is None:
        return cascade.blocks(n, seed, labels)
    return cascade.refine_blocks(_repeated(given, n), seed, labels)


def _repeated(path: Path, n: int) -> Tensor:
    try:
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise LapganError(f"--from {path}: cannot be read as an image ({error}).") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).expand(n, -1, -1, -1)


def _write_npz(
    out: Path, blocks: Iterator[Tensor], shape: tuple[int, ...], labels: Tensor | None
) -> None:
    """Writes as `numpy.savez` would, but a block at a time."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with atomic_path(out) as path, zipfile.ZipFile(path, "w") as archive:
        with archive.open("images.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_2_0(stream, header)
            for block in blocks:
                stream.write(block.permute(0, 2, 3, 1).contiguous().numpy().tobytes())
        if labels is not None:
            with archive.open("labels.npy", "w") as stream:
                np.lib.format.write_array(stream, labels.numpy(), allow_pickle=False)


def _write_folder(
    out: Path, blocks: Iterator[Tensor], labels: Tensor | None, class_names: tuple[str, ...]
) -> None:
    """Writes one PNG an image, numbered, in class folders if there are classes."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise LapganError(f"--out {out}: already exists; name a new or empty folder.")
    index = 0
    for block in blocks:
        for image in block:
            folder = out if labels is None else out / _as_file_name(class_names[int(labels[index])])
            write_atomically(folder / f"{index:06d}.png", encode_png(image))
            index += 1


def _as_file_name(class_name: str) -> str:
    """Keeps a class name, which a weights file may choose freely, from naming another folder."""
    return re.sub(r"[^\w -]", "_", class_name)
