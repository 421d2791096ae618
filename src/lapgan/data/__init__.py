"""Data: sources of images, decoded once into uint8 arrays. Nothing here imports PyTorch."""

from lapgan.data.cache import default_cache
from lapgan.data.crops import CornerCrops, check_crop_size, corner_crops, corner_offsets
from lapgan.data.images import Images
from lapgan.data.opening import open_images
from lapgan.data.parts import hold_out_images, is_mixed
from lapgan.data.prepare import prepare_images
from lapgan.data.reading import OnInvalid
from lapgan.data.shards import write_shards
from lapgan.data.sources import describe_sources, find_source
from lapgan.data.sources.folder import class_folders
from lapgan.data.sources.splits import NoSplitError
from lapgan.data.streams import ImageStream, ShardOrder, is_stream, open_stream

__all__ = [
    "CornerCrops",
    "ImageStream",
    "Images",
    "NoSplitError",
    "OnInvalid",
    "ShardOrder",
    "check_crop_size",
    "class_folders",
    "corner_crops",
    "corner_offsets",
    "default_cache",
    "describe_sources",
    "find_source",
    "hold_out_images",
    "is_mixed",
    "is_stream",
    "open_images",
    "open_stream",
    "prepare_images",
    "write_shards",
]
