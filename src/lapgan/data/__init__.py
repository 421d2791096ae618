"""Data sources: folders, parquet, CIFAR-10 and made images, decoded once into uint8 arrays."""

from lapgan.data.cache import default_cache
from lapgan.data.images import Images, Size
from lapgan.data.opening import open_images
from lapgan.data.reading import OnBad

__all__ = ["Images", "OnBad", "Size", "default_cache", "open_images"]
