"""What is evaluated: a trained cascade, or any source of images that somebody's model made."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from lapgan.cascade import BLOCK, Cascade
from lapgan.compute import Compute
from lapgan.data import Images, open_images
from lapgan.errors import LapganError
from lapgan.files import resolve_data_path
from lapgan.progress import tracked
from lapgan.run_folder import is_model_path
from lapgan.sizes import Size
from lapgan.weights import pretrained_names

__all__ = ["Subject", "open_subject"]


@dataclass(frozen=True)
class Subject:
    """A model under a name.

    Args:
        name: for tables and figures.
        cascade: the model, if it is a cascade.
        source: else the images that it made.
    """

    name: str
    cascade: Cascade | None = None
    source: Images | None = None

    @property
    def size(self) -> Size:
        """Height and width of its images."""
        if self.cascade is not None:
            return self.cascade.sizes[0]
        assert self.source is not None
        return self.source.size

    @property
    def has_levels(self) -> bool:
        """Whether it is a cascade of more than one level."""
        return self.cascade is not None and len(self.cascade.levels) > 1

    def images(self, n: int, seed: int) -> UInt8[Tensor, "n 3 h w"]:
        """Returns n images: sampled, all classes in equal numbers, or the source's first.

        Raises:
            LapganError: the source has fewer.
        """
        if self.cascade is not None:
            blocks = tracked(
                self.cascade.blocks(n, seed), f"samples of {self.name}", -(-n // BLOCK)
            )
            return torch.cat(list(blocks))
        assert self.source is not None
        if len(self.source) < n:
            raise LapganError(
                f"{self.name}: has {len(self.source)} images, {n} are needed; give more, or lower "
                "--images."
            )
        return torch.from_numpy(np.array(self.source.pixels[:n]))

    def labels(self, n: int) -> Int64[Tensor, " n"] | None:
        """Returns the classes of `images`, or None without classes."""
        if self.cascade is not None:
            return self.cascade.labels(n)
        return None


def open_subject(text: str, compute: Compute, best_of: int = 1) -> Subject:
    """Opens `PATH` or `NAME=PATH`: a run folder, a weights file or name, or a source of images.

    Args:
        text: what to open.
        compute: where a cascade runs.
        best_of: how many candidates a cascade makes for each image; see `Cascade.best_of`.

    Raises:
        LapganError: there is nothing of that kind, or the cascade cannot choose.
    """
    name, _, path = text.rpartition("=")
    found = resolve_data_path(path)
    if found.suffix == ".safetensors" or is_model_path(found) or path in pretrained_names():
        suffix = f" (best of {best_of})" if best_of > 1 else ""
        cascade = Cascade.load(found, compute).best_of(best_of)
        return Subject((name or found.stem) + suffix, cascade=cascade)
    return Subject(name or found.name, source=open_images(path))
