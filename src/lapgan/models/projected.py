"""A discriminator that judges by what a classifier of the training images sees.

A classifier learns within the same run, before the adversarial game, from real images alone. Small
judges on its maps then tell real from generated. So D minds the shapes by which classes differ, not
what is easiest to tell, and G hears of them from the first minutes.

Source: Sauer et al. (2021), "Projected GANs converge faster", section 3, for judges on the maps of
a net that the adversarial game does not train. Theirs had seen other images, and more.
"""

import torch
from torch import Tensor, nn

from lapgan.models.classifier import SMALLEST, ImageClassifier, Learnt
from lapgan.models.heads import ProjectionHead, he_normal_, leaky_relu_
from lapgan.models.patch import Views
from lapgan.pyramid import image_of
from lapgan.sizes import Size

__all__ = ["ProjectedDiscriminator"]

_TURNS = 4


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

        Source: Gidaris et al. (2018) for rotations.
        """
        image = image_of(high, low)
        return self.classifier.study(*(_turned(image) if label is None else (image, label)))

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


class _Judge(nn.Module):
    """Maps through convolutions down to about 4 places a side, and dense layers to a logit."""

    def __init__(self, seen: int, grid: Size, maps: int, units: int, num_classes: int) -> None:
        super().__init__()
        height, width = grid
        convs = [nn.Conv2d(seen, maps, 1)]
        while min(height, width) >= 2 * SMALLEST:
            convs.append(nn.Conv2d(maps, maps, 2, stride=2))
            height, width = height // 2, width // 2
        convs.append(nn.Conv2d(maps, maps, 3, padding=1))
        for conv in convs:
            he_normal_(conv)
        self.convs = nn.ModuleList(convs)
        self.verdict = ProjectionHead(maps * height * width, units, num_classes)

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        for conv in self.convs:
            x = leaky_relu_(conv(x))
        logits: Tensor = self.verdict(x.flatten(1), label)
        return logits


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
