"""Training images that lie on the device, where minibatches are cut out of them.

The processor says which examples a minibatch has (`Batches.select`), a few bytes each that are sent
ahead; pixels are read, cropped and mirrored on the device, so no step waits for it.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lapgan.batches import Batch, Batches, TrainingSet
from lapgan.compute import Compute
from lapgan.data import Images
from lapgan.data.crops import corner_offsets

__all__ = ["ResidentBatches", "place_batches"]

# The fraction of the device's free memory that the images of all levels in training may take.
_MEMORY = 0.25
_CHUNK = 4096


def place_batches(batches: TrainingSet, compute: Compute, at_once: int = 1) -> TrainingSet:
    """Puts the training images on a CUDA device if they fit.

    They fit if they take at most a quarter of its free memory. Elsewhere, if they do not fit, and
    from a stream, minibatches are read by the processor and sent as they are, 8 bits per value.

    Args:
        batches: the training examples; those of a stream are returned as they are.
        compute: where the nets run.
        at_once: how many levels are trained at once, each with images of its own.
    """
    if compute.device.type != "cuda" or not isinstance(batches, Batches):
        return batches
    free, _ = torch.cuda.mem_get_info(compute.device)
    if at_once * batches.images.pixels.nbytes > _MEMORY * free:
        return batches
    return ResidentBatches(batches, compute)


class ResidentBatches:
    """The same minibatches as those of `batches`, from images that lie on the device.

    Args:
        batches: the training examples.
        compute: its device holds all the images, as 8-bit pixels.
    """

    def __init__(self, batches: Batches, compute: Compute) -> None:
        self.batches, self.compute = batches, compute
        device, images = compute.device, batches.images
        self.pixels = torch.empty(images.pixels.shape, dtype=torch.uint8, device=device)
        for start, chunk in _chunks(images):
            self.pixels[start : start + len(chunk)] = chunk.to(device)
        labels = images.labels
        self.labels = None if labels is None else torch.from_numpy(labels.copy()).to(device)
        corners = corner_offsets(images.size, batches.size) if batches.corners else [(0, 0)]
        self.corners = torch.tensor(corners, device=device)
        height, width = batches.size
        self.channels = torch.arange(3, device=device)[:, None, None]
        self.rows = torch.arange(height, device=device)
        self.columns = torch.arange(width, device=device)

    @property
    def name(self) -> str:
        """The name of the images."""
        return self.batches.name

    @property
    def fingerprint(self) -> str:
        """The hash of the images."""
        return self.batches.fingerprint

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class; empty if there are none."""
        return self.batches.class_names

    @property
    def epoch(self) -> int:
        """How many examples an epoch has."""
        return self.batches.epoch

    def at(self, images_seen: int, count: int) -> Batch:
        """Returns what `Batches.at` returns, on the device."""
        selection = self.batches.select(images_seen, count)
        examples = self.compute.send(torch.from_numpy(selection.examples))
        crops = len(self.corners)
        indices, corners = (examples // crops, self.corners[examples % crops])
        columns = self.columns.expand(count, -1)
        if selection.mirrored is not None:
            mirrored = self.compute.send(torch.from_numpy(selection.mirrored))
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        pixels = self._read(indices, corners[:, :1] + self.rows, corners[:, 1:] + columns)
        return pixels, None if self.labels is None else self.labels[indices]

    def _read(self, indices: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Reads places of images: indices (n,), rows (n, h) and columns (n, w)."""
        places = (
            indices[:, None, None, None],
            self.channels,
            rows[:, None, :, None],
            columns[:, None, None, :],
        )
        return self.pixels[places]


def _chunks(images: Images) -> Iterator[tuple[int, Tensor]]:
    """Yields the pixels in parts, each with the index of its first image."""
    for start in range(0, len(images), _CHUNK):
        yield start, torch.from_numpy(np.array(images.pixels[start : start + _CHUNK]))
