"""Data: sources of pictures, decoded once into uint8 arrays. No PyTorch here."""

from lapgan.data.cache import default_cache
from lapgan.data.crops import corner_crops, corner_offsets
from lapgan.data.images import Images
from lapgan.data.opening import open_images
from lapgan.data.prepare import prepare_images
from lapgan.data.reading import OnInvalid

__all__ = [
    "Images",
    "OnInvalid",
    "corner_crops",
    "corner_offsets",
    "default_cache",
    "open_images",
    "prepare_images",
]
