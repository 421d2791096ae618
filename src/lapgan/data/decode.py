"""Decodes image files to 8-bit RGB without loss, or refuses them and says why."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, PngImagePlugin, UnidentifiedImageError

from lapgan.data.sources.base import Content, Reduced
from lapgan.sizes import Size

__all__ = ["InvalidImageError", "decode", "fit_image", "image_size"]

# Pillow reads more formats, but only for these it reports the depth before reducing it to 8 bits.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
_LOSSLESS_MODES = {"1", "L", "P", "RGB", "LA", "PA", "RGBA"}
_SIDEWAYS = {5, 6, 7, 8}
# Pillow refuses PNG files with more than 1 MiB of text; that text is never used here.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
_ORIENTATION = 0x0112  # the EXIF tag


class InvalidImageError(Exception):
    """One image cannot be used; the message says what was found and what to do."""


def image_size(content: Content) -> Size:
    """Returns the height and width of an image, from its header if it is encoded.

    Raises:
        InvalidImageError: the header alone shows that the image cannot be used.
    """
    if isinstance(content, Reduced):
        return content.size
    if isinstance(content, np.ndarray):
        return content.shape[0], content.shape[1]
    with _open(content) as image:
        sideways = _orientation(image) in _SIDEWAYS
        return (image.width, image.height) if sideways else (image.height, image.width)


def decode(content: Content) -> NDArray[np.uint8]:
    """Decodes one image to uint8 (H, W, 3) RGB, rotated as its EXIF data says.

    Greyscale, black and white, palettes and alpha that is opaque everywhere lose nothing and are
    converted. Color profiles are not applied.

    Raises:
        InvalidImageError: the image is broken, has more than 8 bits per channel, is CMYK,
            transparent or animated, or is smaller than the size to which it is to be reduced.
    """
    if isinstance(content, np.ndarray):
        return content
    if isinstance(content, Reduced):
        return fit_image(decode(content.encoded), content.size)
    with _open(content) as file:
        image: Image.Image = file
        if _orientation(file) != 1:
            image = ImageOps.exif_transpose(file)
        if "A" in image.getbands() or "transparency" in image.info:
            image = image.convert("RGBA")
            _refuse_transparent(image)
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


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


@contextmanager
def _open(content: bytes | Path) -> Iterator[ImageFile.ImageFile]:
    if content == b"" or (isinstance(content, Path) and _is_empty(content)):
        raise InvalidImageError("is empty. Restore the file or remove it")
    try:
        file = BytesIO(content) if isinstance(content, bytes) else content
        with _open_file(file) as image:
            _refuse_lossy(image)
            yield image
    except InvalidImageError:
        raise
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise InvalidImageError(
            f"is larger than {limit:.0f} megapixels. Reduce it beforehand or remove it"
        ) from None
    except UnidentifiedImageError:
        formats = "PNG, JPEG, WebP, BMP, GIF or TIFF"
        raise InvalidImageError(f"is not a {formats} image. Convert it or remove it") from None
    except Exception as error:  # Pillow's readers raise almost anything on broken files
        detail = getattr(error, "strerror", None) or error
        raise InvalidImageError(f"cannot be read ({detail}). Restore it or remove it") from error


def _is_empty(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0


def _open_file(file: BytesIO | Path) -> ImageFile.ImageFile:
    with warnings.catch_warnings():
        # Pillow warns from half of its limit on; beyond the limit it raises.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(file, formats=_FORMATS)


def _refuse_lossy(image: ImageFile.ImageFile) -> None:
    if image.mode.startswith(("I", "F")) or ";16" in str(image.tile):
        raise InvalidImageError("has more than 8 bits per channel. Save it as 8-bit RGB")
    if image.mode not in _LOSSLESS_MODES:
        raise InvalidImageError(f"has {image.mode} colors. Save it as 8-bit RGB")
    # Cameras store a preview beside the photograph in MPO files; that is not an animation.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise InvalidImageError("has more than one frame. Save the frames as single images")


def _refuse_transparent(image: Image.Image) -> None:
    lowest, _ = image.getchannel("A").getextrema()
    if lowest != 255:
        raise InvalidImageError("has transparent pixels. Put it on a background and save it as RGB")


def _orientation(image: ImageFile.ImageFile) -> int:
    if "exif" not in image.info and image.format != "TIFF":
        return 1
    return int(image.getexif().get(_ORIENTATION, 1))
