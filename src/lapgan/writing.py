"""Generated images as files: a sheet, a folder of PNGs, or an npz archive, in constant memory."""

import itertools
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lapgan.cascade import Cascade
from lapgan.data import class_folders
from lapgan.data.decode import InvalidImageError, decode
from lapgan.errors import LapganError
from lapgan.files import atomic_folder, atomic_path, check_writable, write_atomically
from lapgan.pictures import caption_rows, encode_png, sheet, write_png, zoom_to
from lapgan.progress import tracked_blocks
from lapgan.pyramid import Stage
from lapgan.sizes import Size, size_text

__all__ = ["check_output", "read_coarse_image", "write_chain", "write_images", "write_overview"]

_FOLDER = "folder"
_MAX_SHEET = 200_000_000  # pixels
# Of the overview: images per row, rows at most, and pixels per image at least.
_COLUMNS, _MAX_ROWS, _SIDE = 8, 16, 64


def check_output(out: Path, *, chain: bool = False) -> None:
    """Raises a LapganError unless images can be written to `out`, before any is made.

    Args:
        out: as for `write_images`, or for `write_chain`.
        chain: whether it is for `write_chain`.
    """
    kind = _output_kind(out)
    if chain and kind != ".png":
        raise LapganError(f"--out {out}: a chain is a picture; name a .png file.")
    if kind == _FOLDER and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise LapganError(f"--out {out}: already exists; name a new or empty folder.")
    if kind != _FOLDER and out.is_dir():
        raise LapganError(f"--out {out}: this is a folder; name a file.")
    check_writable(out)


def read_coarse_image(path: Path) -> Tensor:
    """Reads an image to refine, uint8 (3, h, w), as training reads its images.

    Raises:
        LapganError: it cannot be read as 8-bit RGB without loss.
    """
    try:
        pixels = decode(path)
    except InvalidImageError as error:
        raise LapganError(f"--from {path}: {error}.") from None
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


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

    A folder has one sub-folder per class if there are classes, and is written whole or not at all.
    The archive has `images`, uint8 (n, H, W, 3), and if there are classes `labels`, int64 (n,), and
    `class_names`.
    The other arguments are those of `Cascade.sample`; `zoom` enlarges a sheet.

    Raises:
        LapganError: `out` has another suffix, cannot be written, or the sheet would be too large.
    """
    check_output(out)
    kind = _output_kind(out)
    if kind == ".png":
        _check_sheet(out, n, cascade.output_sizes[0], zoom)
    blocks = tracked_blocks(cascade.stream(n, seed, labels, start), "sampling", n)
    if kind == ".png":
        write_png(out, list(blocks), zoom=zoom)
    elif kind == ".npz":
        arrays = {}
        if labels is not None:
            arrays = {"labels": labels.numpy(), "class_names": np.array(cascade.class_names)}
        _write_npz(out, blocks, (n, *cascade.output_sizes[0], 3), arrays)
    else:
        names = class_folders(cascade.class_names)
        _write_folder(out, blocks, None if labels is None else [names[int(i)] for i in labels])


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
        LapganError: `out` is no .png file, cannot be written, or the sheet would be too large.
    """
    check_output(out, chain=True)
    sizes = cascade.output_sizes
    _check_sheet(out, n * (2 * len(sizes) - 1), sizes[0], zoom)
    stages = cascade.chain(n, seed, labels, start)
    columns = [zoom_to(picture, sizes[0]) for picture in _pictures(stages)]
    images = torch.stack(columns, dim=1).flatten(0, 1)
    write_png(out, images, columns=len(columns), zoom=zoom)


def write_overview(cascade: Cascade, out: Path) -> None:
    """Generates a small sheet: a row per class with its name, or a square without classes.

    Of more than 16 classes the first 16 are shown.

    Raises:
        LapganError: `out` cannot be written.
    """
    names = cascade.class_names[:_MAX_ROWS]
    n = _COLUMNS * (len(names) or _COLUMNS)
    images = cascade.sample(n, labels=cascade.labels(n, range(len(names))) if names else None)
    height, width = cascade.sizes[0]
    zoom = max(1, _SIDE // max(height, width))
    picture = sheet(zoom_to(images, (zoom * height, zoom * width)), _COLUMNS)
    write_atomically(out, encode_png(caption_rows(picture, names) if names else picture))


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
    with atomic_folder(out, replace=True) as new:
        for index, image in enumerate(itertools.chain.from_iterable(blocks)):
            folder = new if classes is None else new / classes[index]
            folder.mkdir(exist_ok=True)
            (folder / f"{index:06d}.png").write_bytes(encode_png(image))


def _output_kind(out: Path) -> str:
    """Returns `.png`, `.npz` or `folder`."""
    suffix = out.suffix.lower()
    # A number after a dot is a version, not the type of a file.
    if out.is_dir() or not suffix or suffix[1:].isdecimal():
        return _FOLDER
    if suffix not in (".png", ".npz"):
        raise LapganError(f"--out {out}: expected a .png or .npz file, or a folder.")
    return suffix


def _check_sheet(out: Path, count: int, size: Size, zoom: int) -> None:
    pixels = count * size[0] * size[1] * zoom**2
    if pixels > _MAX_SHEET:
        raise LapganError(
            f"--out {out}: a sheet of {count:,} pictures of {size_text(size)}, enlarged {zoom} "
            f"times, has {pixels / 1e6:,.0f} megapixels, more than {_MAX_SHEET / 1e6:.0f}. Ask for "
            "fewer images, a smaller --zoom, or an .npz file or a folder."
        )
