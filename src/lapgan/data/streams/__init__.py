"""Streams: sources whose images are decoded while a run is trained, shard by shard.

`stream:SOURCE` asks for one where SOURCE has shards: tar files, parquet files, a data set of the
Hugging Face Hub, LSUN. Everything that is random in the order is in `order`; `stream` reads.
"""

import hashlib
from pathlib import Path

from lapgan.data.reading import OnInvalid, warn_skipped
from lapgan.data.sources import find_source
from lapgan.data.sources.base import STREAM
from lapgan.data.sources.lsun import Lsun
from lapgan.data.sources.parquet import ParquetImages, describe_classes
from lapgan.data.sources.tar import TarImages, describe_broken
from lapgan.data.streams.lsun import key_ranges
from lapgan.data.streams.order import ShardOrder
from lapgan.data.streams.parquet import hub_files, read_footers
from lapgan.data.streams.shard import Shard
from lapgan.data.streams.stream import ImageStream, common_size
from lapgan.errors import LapganError

__all__ = ["ImageStream", "Shard", "ShardOrder", "is_stream", "open_stream"]


def is_stream(text: str) -> bool:
    """Returns whether a data source is to be streamed: `stream:SOURCE`."""
    return text.startswith(STREAM)


def open_stream(text: str, *, split: str = "train", on_invalid: OnInvalid = "stop") -> ImageStream:
    """Opens `stream:SOURCE`; images are counted, not decoded.

    Args:
        text: the source, with or without the word.
        split: which part of it.
        on_invalid: what to do with images and shards that cannot be used, "stop" or "skip".

    Raises:
        LapganError: the source has no shards, or cannot be read.
    """
    name = text.removeprefix(STREAM)
    shards, class_names, content = _find_shards(name, split, on_invalid)
    if not sum(shard.count for shard in shards):
        raise LapganError(f"{text}: expected images, but there are none.")
    fingerprint = hashlib.sha256(f"stream {split} {content}".encode()).hexdigest()
    size = common_size(shards, name)
    return ImageStream(shards, class_names, text, fingerprint, size, on_invalid)


def _find_shards(
    text: str, split: str, on_invalid: OnInvalid
) -> tuple[tuple[Shard, ...], tuple[str, ...], str]:
    """Returns the shards of a source, its classes, and what stands for its content."""
    if text.startswith("hub:"):
        return _find_row_groups(hub_files(text, split), text)
    source = find_source(text, split)
    if isinstance(source, TarImages):
        if source.broken and on_invalid == "stop":
            raise describe_broken(source.name, source.broken)
        warn_skipped(source.name, list(source.broken), len(source.broken))
        return source.shards, source.class_names, source.quick_fingerprint()
    if isinstance(source, ParquetImages):
        return _find_row_groups([str(file.absolute()) for file in source.files], text)
    if isinstance(source, Lsun):
        ranges = key_ranges(source)
        keys = [(shard.index, shard.first, shard.count) for shard in ranges]
        return ranges, source.class_names, repr((keys, source.classes, source.size))
    raise LapganError(
        f"stream:{text}: this source has no shards. Leave out `stream:` to decode it once, or "
        f"write shards with `lapgan prepare {text} --shards FOLDER` and train from stream:FOLDER."
    )


def _find_row_groups(files: list[str], text: str) -> tuple[tuple[Shard, ...], tuple[str, ...], str]:
    groups, columns = read_footers(files, text)
    # The URL of a file on the Hub has its version in it.
    names = [file if "://" in file else (Path(file).name, Path(file).stat().st_size)
             for file in files]  # fmt: skip
    counts = [group.count for group in groups]
    return groups, columns.class_names, repr((names, counts, describe_classes(columns)))
