"""Data: sources decoded once into uint8 arrays, their normalisation, and minibatches."""

from lapgan.data.batches import Batches
from lapgan.data.cache import default_cache
from lapgan.data.crops import corner_crops
from lapgan.data.images import Images
from lapgan.data.normalisation import Normalisation, corner_offsets, standardised, symmetric
from lapgan.data.opening import open_images
from lapgan.data.prepare import prepare_images
from lapgan.data.reading import OnBad

__all__ = [
    "Batches",
    "Images",
    "Normalisation",
    "OnBad",
    "corner_crops",
    "corner_offsets",
    "default_cache",
    "open_images",
    "prepare_images",
    "standardised",
    "symmetric",
]
