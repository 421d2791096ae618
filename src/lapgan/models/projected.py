"""A discriminator that judges by what a classifier of the training images sees.

A classifier learns within the same run, before the adversarial game, from real images alone. Small
judges on its maps then tell real from generated. So D minds the shapes by which classes differ, not
what is easiest to tell, and G hears of them from the first minutes.

Source: Sauer et al. (2021), "Projected GANs converge faster", section 3, for judges on the maps of
a net that the adversarial game does not train. Theirs had seen other images, and more.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lapgan.models.layers import Verdict, leaky, normal_
from lapgan.models.modern import Views
from lapgan.models.patches import PatchBasis
from lapgan.pyramid import Size, image_of

__all__ = ["ImageClassifier", "Learnt", "ProjectedDiscriminator"]

# Patches of 2x2, so that the first maps have half of the image's size.
_PATCH = 2
# Maps are halved for as long as each side keeps this many places.
_SMALLEST = 4
_SMOOTHING = 0.1
_TURNS = 4


@dataclass(frozen=True)
class Learnt:
    """How a classifier did on a minibatch.

    Args:
        loss: cross-entropy, with smoothed labels.
        accuracy: share of examples that it classified right.
    """

    loss: Tensor
    accuracy: Tensor


class ProjectedDiscriminator(nn.Module):
    """D: one judge for the maps of each size of a classifier.

    The classifier is not trained by the adversarial game, but by `study`.

    Args:
        size: height and width of the level, in pixels; even.
        features: maps of the classifier on its first grid; twice as many after each halving.
        maps: maps of each judge.
        units: units in each judge's dense layers.
        num_classes: how many classes condition the examples; 0 for none.
    """

    def __init__(
        self,
        size: Size,
        features: int = 32,
        maps: int = 32,
        units: int = 128,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        self.classifier = ImageClassifier(size, features, num_classes or _TURNS)
        self.judges = nn.ModuleList(
            _Judge(count, grid, maps, units, num_classes) for count, grid in self.classifier.shapes
        )

    def fit(self, high: Tensor, low: Tensor | None) -> None:
        """Sets the basis from real examples (n, 3, h, w)."""
        self.classifier.basis.fit(image_of(high, low))

    def study(self, high: Tensor, low: Tensor | None, label: Tensor | None) -> Learnt:
        """Computes the classifier's loss on real examples, and keeps count of its maps' scale.

        Without classes it learns by which quarter of a turn an image was rotated.

        Source: Szegedy et al. (2016), section 7, for smoothed labels; Gidaris et al. (2018) for
        rotations.
        """
        image = image_of(high, low)
        shown, target = _turned(image) if label is None else (image, label)
        logits = self.classifier(_shifted(shown)).float()
        return Learnt(
            loss=F.cross_entropy(logits, target, label_smoothing=_SMOOTHING),
            accuracy=(logits.detach().argmax(dim=1) == target).float().mean(),
        )

    def look(self, high: Tensor, low: Tensor | None) -> Views:
        """Returns the classifier's maps of an image, of each size, finest first."""
        return self.classifier.maps(image_of(high, low))

    def judge(self, views: Views, label: Tensor | None) -> Tensor:
        """Returns one logit a judge, (B, judges)."""
        return torch.stack(
            [judge(x, label) for judge, x in zip(self.judges, views, strict=True)], dim=1
        )

    def forward(self, high: Tensor, low: Tensor | None, label: Tensor | None) -> Tensor:
        """Judges residuals (B, 3, *size) on their low-pass images: logits (B, judges)."""
        return self.judge(self.look(high, low), label)


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
        self.basis = PatchBasis(size, (_PATCH, _PATCH))
        rows, columns = self.basis.grid
        count = width
        stages = [_Stage(self.basis.components, count, kernel=3, stride=1)]
        self.shapes = [(count, (rows, columns))]
        while min(rows, columns) >= 2 * _SMALLEST:
            rows, columns, count = rows // 2, columns // 2, 2 * count
            stages.append(_Stage(count // 2, count, kernel=2, stride=2))
            self.shapes.append((count, (rows, columns)))
        self.stages = nn.ModuleList(stages)
        self.last = nn.Linear(count, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits of classes (B, num_classes), and updates all statistics of batches."""
        *_, (x, _) = self._run(images, learning=True)
        logits: Tensor = self.last(x.mean(dim=(2, 3)))
        return logits

    def maps(self, images: Tensor) -> Views:
        """Returns the maps of each size, finest first, of zero mean and unit variance."""
        return tuple(normalised for _, normalised in self._run(images, learning=False))

    def _run(self, images: Tensor, learning: bool) -> Iterator[tuple[Tensor, Tensor]]:
        x = self.basis.whiten(images)
        for stage in self.stages:
            x, normalised = stage(x, learning)
            yield x, normalised


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
        x = leaky(_batch_norm(self.first_norm, self.first(x), learning))
        x = leaky(_batch_norm(self.second_norm, self.second(x), learning))
        return x, _batch_norm(self.shown_norm, x, learning)


class _Judge(nn.Module):
    """Maps through convolutions down to about 4 places a side, and dense layers to a logit."""

    def __init__(self, seen: int, grid: Size, maps: int, units: int, num_classes: int) -> None:
        super().__init__()
        height, width = grid
        convs = [nn.Conv2d(seen, maps, 1)]
        while min(height, width) >= 2 * _SMALLEST:
            convs.append(nn.Conv2d(maps, maps, 2, stride=2))
            height, width = height // 2, width // 2
        convs.append(nn.Conv2d(maps, maps, 3, padding=1))
        for conv in convs:
            normal_(conv)
        self.convs = nn.ModuleList(convs)
        self.verdict = Verdict(maps * height * width, units, num_classes)

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        for conv in self.convs:
            x = leaky(conv(x))
        logits: Tensor = self.verdict(x.flatten(1), label)
        return logits


def _batch_norm(norm: nn.BatchNorm2d, x: Tensor, learning: bool) -> Tensor:
    """Normalises by the batch while the classifier learns, by running statistics where D looks.

    Whether it learns is said by the caller, not by a mode that outlives the call.
    """
    momentum = 0.1 if norm.momentum is None else norm.momentum
    return F.batch_norm(
        x, norm.running_mean, norm.running_var, norm.weight, norm.bias, learning, momentum, norm.eps
    )


def _turned(images: Tensor) -> tuple[Tensor, Tensor]:
    """Rotates each image by one of the quarters of a turn that keep its size, all as often."""
    quarters = torch.arange(len(images), device=images.device) % _TURNS
    halves_only = images.shape[-2] != images.shape[-1]
    turns = 2 * (quarters % 2) if halves_only else quarters
    turned = torch.empty_like(images)
    for turn in set(turns.tolist()):
        chosen = turns == turn
        turned[chosen] = images[chosen].rot90(turn, dims=(2, 3))
    return turned, turns


def _shifted(images: Tensor) -> Tensor:
    """Moves all images by up to an eighth of their size, around the edges."""
    reach = (images.shape[-2] // 8, images.shape[-1] // 8)
    shifts = [int(torch.randint(-r, r + 1, ())) for r in reach]
    return images.roll(shifts, dims=(2, 3))
