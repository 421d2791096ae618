"""Sheets of images as PNG files."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lapgan.files import write_atomically
from lapgan.sizes import Size

__all__ = ["caption_rows", "encode_png", "sheet", "write_png", "zoom_to"]

_GAP = 2
_BACKGROUND = 255


def sheet(images: UInt8[Tensor, "n 3 h w"], columns: int | None = None) -> UInt8[Tensor, "3 H W"]:
    """Lays images out in rows, left to right, with a thin white gap.

    Args:
        images: at least one image.
        columns: images per row; by default as many as make the sheet about square.
    """
    n, _, height, width = images.shape
    columns = min(columns or math.ceil(math.sqrt(n)), n)
    rows = math.ceil(n / columns)
    step_y, step_x = height + _GAP, width + _GAP
    canvas = torch.full((3, rows * step_y - _GAP, columns * step_x - _GAP), _BACKGROUND,
                        dtype=torch.uint8)  # fmt: skip
    for i, image in enumerate(images):
        top, left = i // columns * step_y, i % columns * step_x
        canvas[:, top : top + height, left : left + width] = image
    return canvas


def caption_rows(
    picture: UInt8[Tensor, "3 h w"], captions: Sequence[str]
) -> UInt8[Tensor, "3 h W"]:
    """Writes a caption to the left of each row of a sheet.

    Args:
        picture: rows of one height, at the size at which it is looked at.
        captions: one per row.
    """
    height = picture.shape[1] / len(captions)
    font = ImageFont.load_default(max(8, min(16, int(height) - 2)))
    width = math.ceil(max(font.getlength(caption) for caption in captions)) + 3 * _GAP
    canvas = Image.new("RGB", (width, picture.shape[1]), (_BACKGROUND,) * 3)
    draw = ImageDraw.Draw(canvas)
    for row, caption in enumerate(captions):
        draw.text((_GAP, (row + 0.5) * height), caption, fill=(0, 0, 0), font=font, anchor="lm")
    text = torch.from_numpy(np.array(canvas)).permute(2, 0, 1)
    return torch.cat((text, picture), dim=2)


def zoom_to(images: UInt8[Tensor, "n 3 h w"], size: Size) -> UInt8[Tensor, "n 3 H W"]:
    """Enlarges images to `size` by repeating pixels, so that coarse levels can be looked at."""
    rows = torch.arange(size[0]) * images.shape[-2] // size[0]
    columns = torch.arange(size[1]) * images.shape[-1] // size[1]
    return images[..., rows[:, None], columns]


def encode_png(image: UInt8[Tensor, "3 h w"], zoom: int = 1) -> bytes:
    """Encodes an image as PNG, each pixel repeated `zoom` times on both axes."""
    pixels = image.permute(1, 2, 0).numpy().repeat(zoom, axis=0).repeat(zoom, axis=1)
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, format="PNG")
    return stream.getvalue()


def write_png(
    path: Path, rows: UInt8[Tensor, "n 3 h w"] | Sequence[Tensor], columns: int | None = None,
    zoom: int = 1,
) -> None:  # fmt: skip
    """Writes a sheet of images as a PNG file, whole or not at all."""
    images = rows if isinstance(rows, Tensor) else torch.cat(list(rows))
    write_atomically(path, encode_png(sheet(images, columns), zoom))
