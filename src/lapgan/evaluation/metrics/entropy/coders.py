"""Lossless image coders, as upper bounds of an entropy that need no training.

Many small images are laid out on large sheets, so that headers hardly count. The sheets are decoded
again, so that a lossy coder is detected.
"""

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lapgan.errors import requires
from lapgan.progress import tracked

__all__ = ["CODERS", "Code", "best_code", "code_bits", "residual_values"]

# Options for strong compression at reasonable speed.
CODERS: dict[str, dict[str, Any]] = {
    "JPEG XL": {"format": "JXL", "lossless": True, "effort": 7},
    "WebP": {"format": "WEBP", "lossless": True, "quality": 100, "method": 4, "exact": True},
    "PNG": {"format": "PNG", "compress_level": 9},
}
SIDE = 1024


@dataclass(frozen=True)
class Code:
    """The shortest code by a standard coder.

    Args:
        coder: its name.
        bits: bits for all images together.
    """

    coder: str
    bits: int


def residual_values(
    fine: UInt8[Tensor, "n 3 h w"], low: UInt8[Tensor, "n 3 h w"]
) -> UInt8[Tensor, "n 3 h w"]:
    """Returns (fine - low + 128) mod 256, from which `fine` follows if `low` is given."""
    return fine - low + 128


def best_code(images: UInt8[Tensor, "n 3 h w"]) -> Code:
    """Returns the shortest code of `images` among `CODERS`.

    Raises:
        LapganError: JPEG XL is not installed.
    """
    codes = [Code(name, code_bits(images, name)) for name in tracked(list(CODERS), "coders")]
    return min(codes, key=lambda code: code.bits)


def code_bits(images: UInt8[Tensor, "n 3 h w"], coder: str) -> int:
    """Returns how many bits a coder needs for all images, laid out on sheets.

    Raises:
        LapganError: the coder is JPEG XL and not installed.
        RuntimeError: decoding gave other images back.
    """
    if coder == "JPEG XL":
        _register_jpeg_xl()
    return sum(_sheet_bits(sheet, coder) for sheet in _sheets(images.numpy()))


def _sheet_bits(sheet: NDArray[np.uint8], coder: str) -> int:
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, **CODERS[coder])
    if not np.array_equal(np.asarray(Image.open(file)), sheet):
        raise RuntimeError(f"{coder}: decoding did not give the same image back.")
    return 8 * len(file.getvalue())


def _sheets(images: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Lays images out on sheets (H, W, 3) without gaps, row by row; the rest get their own sheets.

    Every pixel of a sheet belongs to an image.
    """
    sheets = []
    while len(images):
        columns = min(max(SIDE // images.shape[3], 1), math.isqrt(len(images)))
        rows = min(max(SIDE // images.shape[2], 1), len(images) // columns)
        grid = images[: rows * columns].reshape(rows, columns, *images.shape[1:])
        sheet = grid.transpose(0, 3, 1, 4, 2)
        sheets.append(sheet.reshape(rows * images.shape[2], columns * images.shape[3], 3))
        images = images[rows * columns :]
    return sheets


def _register_jpeg_xl() -> None:
    """Registers the format with Pillow."""
    with requires("eval", "the entropy"):
        import pillow_jxl  # noqa: F401
