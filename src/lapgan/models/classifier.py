"""A small classifier of images, made of convolutions on whitened patches."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lapgan.models.heads import leaky_relu_
from lapgan.models.patch import Views
from lapgan.models.whitening import PatchWhitening
from lapgan.sizes import Size

__all__ = ["SMALLEST", "ImageClassifier", "Learnt"]

# Patches of 2x2, so that the first maps have half of the image's size.
_PATCH = 2
# Maps are halved for as long as each side keeps this many places.
SMALLEST = 4
_SMOOTHING = 0.1


@dataclass(frozen=True)
class Learnt:
    """How a classifier did on a minibatch.

    Args:
        loss: cross-entropy, with smoothed labels.
        accuracy: share of examples that it classified right.
    """

    loss: Tensor
    accuracy: Tensor


class ImageClassifier(nn.Module):
    """A small convolutional net on whitened patches of 2x2.

    Args:
        size: height and width of the images, in pixels; even.
        width: maps on the first grid, of half of the size; twice as many after each halving of the
            grid, which ends at about 4 places a side.
        num_classes: how many classes it tells apart.
    """

    def __init__(self, size: Size, width: int, num_classes: int) -> None:
        super().__init__()
        self.basis = PatchWhitening(size, (_PATCH, _PATCH))
        rows, columns = self.basis.grid
        count = width
        stages = [_Stage(self.basis.components, count, kernel=3, stride=1)]
        self.shapes = [(count, (rows, columns))]
        while min(rows, columns) >= 2 * SMALLEST:
            rows, columns, count = rows // 2, columns // 2, 2 * count
            stages.append(_Stage(count // 2, count, kernel=2, stride=2))
            self.shapes.append((count, (rows, columns)))
        self.stages = nn.ModuleList(stages)
        self.last = nn.Linear(count, num_classes)

    def study(self, images: Float[Tensor, "b 3 h w"], target: Int64[Tensor, " b"]) -> Learnt:
        """Computes the loss on images, and keeps count of the scale of the maps.

        Source: Szegedy et al. (2016), section 7, for smoothed labels.
        """
        logits = self._logits(_shifted(images), learning=True)
        return Learnt(
            loss=F.cross_entropy(logits, target, label_smoothing=_SMOOTHING),
            accuracy=(logits.detach().argmax(dim=1) == target).float().mean(),
        )

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c"]:
        """Returns log p(c | x) of every class, float32."""
        return self._logits(images, learning=False).log_softmax(dim=1)

    def maps(self, images: Tensor) -> Views:
        """Returns the maps of each size, finest first, of zero mean and unit variance."""
        return tuple(normalized for _, normalized in self._run(images, learning=False))

    def _logits(self, images: Tensor, learning: bool) -> Tensor:
        *_, (x, _) = self._run(images, learning)
        logits: Tensor = self.last(x.mean(dim=(2, 3)))
        return logits.float()

    def _run(self, images: Tensor, learning: bool) -> Iterator[tuple[Tensor, Tensor]]:
        x = self.basis.whiten(images)
        for stage in self.stages:
            x, normalized = stage(x, learning)
            yield x, normalized


class _Stage(nn.Module):
    """Two convolutions with batch norm, at one size."""

    def __init__(self, seen: int, maps: int, kernel: int, stride: int) -> None:
        super().__init__()
        padding = kernel // 2 if stride == 1 else 0
        self.first = nn.Conv2d(seen, maps, kernel, stride, padding, bias=False)
        self.second = nn.Conv2d(maps, maps, 3, padding=1, bias=False)
        self.first_norm, self.second_norm = nn.BatchNorm2d(maps), nn.BatchNorm2d(maps)
        self.shown_norm = nn.BatchNorm2d(maps, affine=False)

    def forward(self, x: Tensor, learning: bool) -> tuple[Tensor, Tensor]:
        """Returns the maps, and the same with zero mean and unit variance."""
        x = leaky_relu_(_batch_norm(self.first_norm, self.first(x), learning))
        x = leaky_relu_(_batch_norm(self.second_norm, self.second(x), learning))
        return x, _batch_norm(self.shown_norm, x, learning)


def _batch_norm(norm: nn.BatchNorm2d, x: Tensor, learning: bool) -> Tensor:
    """Normalizes by the batch while the classifier learns, by running statistics where D looks.

    Whether it learns is said by the caller, not by a mode that outlives the call.
    """
    momentum = 0.1 if norm.momentum is None else norm.momentum
    return F.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, learning, momentum, norm.eps
    )


def _shifted(images: Tensor) -> Tensor:
    """Moves all images by up to an eighth of their size, around the edges."""
    reach = (images.shape[-2] // 8, images.shape[-1] // 8)
    shifts = [int(torch.randint(-r, r + 1, ())) for r in reach]
    return images.roll(shifts, dims=(2, 3))
