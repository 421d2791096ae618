import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from lapgan.data.decode import InvalidImageError, decode, image_size


def deep_png(color_type, channels):
    """A 4x4 PNG with 16 bits a channel, which Pillow cannot write in color."""

    def chunk(kind, content):
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 4, 4, 16, color_type, 0, 0, 0)
    rows = (b"\0" + b"\1\2" * channels * 4) * 4
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_keep_every_pixel(kind, pixels, encode):
    content = encode(pixels(), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert image_size(content) == (6, 8)
    np.testing.assert_array_equal(decode(content), pixels())


def test_a_path_reads_like_its_bytes(tmp_path, pixels, encode):
    (tmp_path / "a.png").write_bytes(encode(pixels()))
    np.testing.assert_array_equal(decode(tmp_path / "a.png"), pixels())


def test_greyscale_is_the_same_in_all_channels(pixels, encode):
    grey = pixels()[..., 0]
    np.testing.assert_array_equal(decode(encode(grey)), np.stack([grey] * 3, axis=-1))


def test_black_and_white_becomes_0_and_255(encode):
    bits = np.eye(4, dtype=bool)
    decoded = decode(encode(Image.fromarray(bits)))
    np.testing.assert_array_equal(decoded, np.stack([bits * np.uint8(255)] * 3, axis=-1))


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_palette_is_looked_up(kind, encode):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert decode(encode(image, kind)).tolist() == [[[10, 20, 30], [40, 50, 60]]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_opaque_alpha_is_dropped(mode, pixels, encode):
    image = Image.fromarray(pixels()).convert("L").convert("RGB")
    decoded = decode(encode(image.convert(mode)))
    np.testing.assert_array_equal(decoded, np.asarray(image))


def test_exif_orientation_turns_the_image_upright(pixels, encode):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter turn clockwise
    content = encode(pixels(), exif=exif)
    assert image_size(content) == (8, 6)
    np.testing.assert_array_equal(decode(content), np.rot90(pixels(), -1))


def see_through(mode):
    image = Image.new(mode, (4, 4), 255 if mode == "LA" else (255, 0, 0, 255))
    image.putpixel((1, 1), (9, 254) if mode == "LA" else (9, 9, 9, 254))
    return image


def see_through_palette(encode):
    image = Image.new("P", (4, 4))
    image.putpalette([10, 20, 30, 40, 50, 60])
    return encode(image, transparency=0)


def animation(encode):
    frames = [Image.new("L", (4, 4), grey) for grey in (0, 99)]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda encode: b"hello", "is not a PNG, JPEG"),
        (lambda encode: b"", "is empty"),
        (lambda encode: encode(Image.new("I;16", (4, 4))), "more than 8 bits"),
        (lambda encode: encode(Image.new("I;16", (4, 4)), "TIFF"), "more than 8 bits"),
        (lambda encode: encode(Image.new("F", (4, 4)), "TIFF"), "more than 8 bits"),
        (lambda encode: deep_png(2, 3), "more than 8 bits"),
        (lambda encode: deep_png(6, 4), "more than 8 bits"),
        (lambda encode: deep_png(4, 2), "more than 8 bits"),
        (lambda encode: encode(Image.new("CMYK", (4, 4)), "JPEG"), "has CMYK colors"),
        (lambda encode: encode(see_through("RGBA")), "has transparent pixels"),
        (lambda encode: encode(see_through("LA")), "has transparent pixels"),
        (see_through_palette, "has transparent pixels"),
        (animation, "more than one frame"),
        (lambda encode: encode(Image.new("RGB", (4, 4)), "PPM"), "is not a PNG, JPEG"),
    ],
)
def test_refuses_what_would_lose_something(make, message, encode):
    with pytest.raises(InvalidImageError, match=message):
        decode(make(encode))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_refuses_a_truncated_file(kind, pixels, encode):
    content = encode(pixels(height=64, width=64), kind)
    with pytest.raises(InvalidImageError, match="cannot be read"):
        decode(content[: len(content) // 2])


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(InvalidImageError, match=r"cannot be read \(No such file"):
        decode(tmp_path / "gone.png")


def test_a_long_text_beside_the_pixels_does_no_harm(pixels, encode):
    info = PngImagePlugin.PngInfo()
    info.add_text("k", "x" * 2_000_000, zip=True)
    np.testing.assert_array_equal(decode(encode(pixels(), pnginfo=info)), pixels())


def test_an_image_beyond_the_limit_says_how_large_is_too_large(pixels, encode, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # it warns from there, and refuses from 80
    np.testing.assert_array_equal(decode(encode(pixels())), pixels())
    with pytest.raises(InvalidImageError, match=r"is larger than 0 megapixels. Reduce it"):
        decode(encode(pixels(height=9, width=9)))


def test_an_empty_file_is_called_empty(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(InvalidImageError, match="is empty"):
        decode(tmp_path / "empty.png")
