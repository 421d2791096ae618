"""Opens images by the name of their source: the one entry to all data sources."""

from collections.abc import Callable
from pathlib import Path

from lapgan.data.cache import default_cache, open_cached_images
from lapgan.data.images import Images
from lapgan.data.reading import OnInvalid
from lapgan.data.sources import find_source
from lapgan.sizes import Size

__all__ = ["open_images"]


def open_images(
    source: str | Path,
    *,
    split: str = "train",
    on_invalid: OnInvalid = "stop",
    cache: Path | None = None,
    progress: bool | None = None,
    check_size: Callable[[str, Size], None] | None = None,
) -> Images:
    """Opens a source of images of one size; it is decoded once and memory-mapped from then on.

    >>> lapgan.open_images("dead-leaves:10").pixels.shape
    (10, 3, 32, 32)

    Args:
        source: the name or path of a source, such as `cifar10` or a folder of images;
            `lapgan.data.describe_sources()` lists all kinds, and where paths are searched.
        split: which part of the source, usually "train" or "test".
        on_invalid: what to do with images that are broken, of another size than most, or not 8-bit
            RGB without loss: "stop" raises, "skip" leaves them out with a warning; no other value.
        cache: the folder for decoded images; `$LAPGAN_CACHE` or the user's cache folder if None.
        progress: whether to draw progress bars on stderr; only in a terminal if None.
        check_size: called with name and size before images are decoded; may raise.

    Returns:
        The images, uint8 (N, 3, H, W), with labels and class names if the source has them.

    Raises:
        LapganError: the source cannot be found, downloaded, read, or stored when decoded.
    """
    if on_invalid not in ("stop", "skip"):
        raise ValueError(f"on_invalid: expected 'stop' or 'skip', got {on_invalid!r}")
    return open_cached_images(
        find_source(str(source), split),
        split=split,
        on_invalid=on_invalid,
        folder=cache or default_cache(),
        progress=progress,
        check_size=check_size,
    )
