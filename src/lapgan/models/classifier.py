"""A small classifier of images, made of convolutions on whitened patches."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from lapgan.models.heads import leaky_relu_
from lapgan.models.whitening import PatchWhitening
from lapgan.section import Count, Section
from lapgan.sizes import Size, parse_size

__all__ = ["ClassifierLoss", "ClassifierSection", "ImageClassifier"]

# Patches of 2x2, so that the first maps have half of the image's size.
_PATCH = 2
# Maps are halved for as long as each side keeps this many places.
_SMALLEST = 4
_SMOOTHING = 0.1


@dataclass(frozen=True)
class ClassifierLoss:
    """The result of a classifier on a minibatch.

    Args:
        loss: cross-entropy, with smoothed labels.
        accuracy: fraction of examples that were classified correctly.
    """

    loss: Tensor
    accuracy: Tensor


class ImageClassifier(nn.Module):
    """A small convolutional net on whitened patches of 2x2.

    Args:
        size: height and width of the images, in pixels; even.
        width: maps on the first grid, of half of the size; twice as many after each halving of the
            grid, which ends at about 4 places per side.
        num_classes: how many classes it tells apart.
    """

    def __init__(self, size: Size, width: int, num_classes: int) -> None:
        super().__init__()
        self.basis = PatchWhitening(size, (_PATCH, _PATCH))
        rows, columns = self.basis.grid
        stages = [_Stage(self.basis.components, width, kernel=3, stride=1)]
        while min(rows, columns) >= 2 * _SMALLEST:
            rows, columns, width = rows // 2, columns // 2, 2 * width
            stages.append(_Stage(width // 2, width, kernel=2, stride=2))
        self.stages = nn.ModuleList(stages)
        self.last = nn.Linear(width, num_classes)

    def training_loss(
        self, images: Float[Tensor, "b 3 h w"], target: Int64[Tensor, " b"]
    ) -> ClassifierLoss:
        """Computes the loss on shifted images, and updates the running statistics of the maps.

        References:
            Szegedy et al. (2016), section 7, for smoothed labels.
        """
        logits = self._logits(_shift(images), training=True)
        return ClassifierLoss(
            loss=F.cross_entropy(logits, target, label_smoothing=_SMOOTHING),
            accuracy=(logits.detach().argmax(dim=1) == target).float().mean(),
        )

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c"]:
        """Returns log p(c | x) of every class, float32."""
        return self._logits(images, training=False).log_softmax(dim=1)

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Returns the last maps, averaged over the image."""
        return self._features(images, training=False)

    def _logits(self, images: Tensor, training: bool) -> Tensor:
        logits: Tensor = self.last(self._features(images, training))
        return logits.float()

    def _features(self, images: Tensor, training: bool) -> Tensor:
        x = self.basis.whiten(images)
        for stage in self.stages:
            x = stage(x, training)
        return x.mean(dim=(2, 3))


class _Stage(nn.Module):
    """Two convolutions with batch norm, at one size."""

    def __init__(self, inputs: int, maps: int, kernel: int, stride: int) -> None:
        super().__init__()
        padding = kernel // 2 if stride == 1 else 0
        self.first = nn.Conv2d(inputs, maps, kernel, stride, padding, bias=False)
        self.second = nn.Conv2d(maps, maps, 3, padding=1, bias=False)
        self.first_norm, self.second_norm = nn.BatchNorm2d(maps), nn.BatchNorm2d(maps)

    def forward(self, x: Tensor, training: bool) -> Tensor:
        x = leaky_relu_(_batch_norm(self.first_norm, self.first(x), training))
        return leaky_relu_(_batch_norm(self.second_norm, self.second(x), training))


def _batch_norm(norm: nn.BatchNorm2d, x: Tensor, training: bool) -> Tensor:
    """Normalizes by the batch in training, by running statistics otherwise.

    The caller says which, so that no mode outlives the call.
    """
    momentum = 0.1 if norm.momentum is None else norm.momentum
    return F.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, training, momentum, norm.eps
    )


def _shift(images: Tensor) -> Tensor:
    """Moves all images by up to an eighth of their size, around the edges."""
    reach = (images.shape[-2] // 8, images.shape[-1] // 8)
    shifts = [int(torch.randint(-r, r + 1, ())) for r in reach]
    return images.roll(shifts, dims=(2, 3))


class ClassifierSection(Section):
    """The classifier that chooses among candidates; see `lapgan.cascade.best_of`.

    It is not part of a recipe: it can be added to any class-conditional run, and is kept with the
    weights.

    Args:
        level: the size of the images that it classifies, one of the recipe's.
        maps: maps on its first grid.
    """

    level: str
    maps: Count = 64

    def build(self, num_classes: int) -> ImageClassifier:
        """Builds the net."""
        return ImageClassifier(parse_size(self.level), self.maps, num_classes)
