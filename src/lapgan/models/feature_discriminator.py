"""A discriminator on the feature maps of a net that others trained on ImageNet.

Such a D tells from the first step what takes a D on pixels many images to learn: whether there are
legs below a body, or wheels below a car. It is best beside a D on the image itself, which minds the
pixels (`lapgan.models.joint_discriminator`).

References:
    Sauer et al. (2021), "Projected GANs converge faster"; Kumari et al. (2022), "Ensembling
    off-the-shelf models for GAN training", for a second D beside the usual one.
"""

from collections.abc import Callable
from itertools import islice
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from lapgan.models.contracts import DataInitialized, FeatureMaps
from lapgan.models.efficientnet import (
    CHANNELS,
    EfficientNetName,
    feature_maps,
    load_efficientnet,
)
from lapgan.models.heads import ProjectionHead, activate_flat, he_normal_
from lapgan.pyramid import image_of
from lapgan.section import Count, Section
from lapgan.sizes import Size

__all__ = ["DISCRIMINATORS", "FeatureDiscriminator", "FeatureDiscriminatorSection"]

# The net halves its grid five times.
_STRIDE = 32
# Grids with more places are left out: their maps are many, and say little that pixels do not.
_LARGEST_GRID, _SMALLEST_GRID = 16, 2
# Convolutions halve a grid until its shorter side is this.
_HEAD_GRID = 4


class FeatureDiscriminator(nn.Module, DataInitialized):
    """D: feature maps of the image, each grid of them with a head and a logit of its own.

        x_i = (f_i(resize(l + h)) - m_i) / s_i,    logit_i = head_i(x_i, c)

    The maps f_i have 16 to 2 places per side; m_i and s_i are mean and standard deviation of each
    channel over real images. f is neither trained nor saved with the weights of D. The class enters
    each head by projection. The low-pass image counts as a part of the image alone.

    Args:
        size: height and width of the level, in pixels.
        backbone: f, by name.
        side: the image is resized so that its shorter side is this long, in pixels, and the other
            a multiple of 32.
        maps: of the first layer of each head; twice as many after its grid is halved.
        units: of the dense layers of each head.
        num_classes: how many classes condition the examples; 0 for none.

    Raises:
        LapganError: the weights of f are missing, or others.

    References:
        Sauer et al. (2021), section 3; Miyato and Koyama (2018), equation 3, for the projection.
    """

    def __init__(
        self,
        size: Size,
        backbone: EfficientNetName = "efficientnet-lite1",
        side: int = 32,
        maps: int = 64,
        units: int = 128,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        self.size = _resized(size, side)
        # In a tuple, so that it is no part of this module: see `_apply`.
        self._backbone = (load_efficientnet(backbone, side),)
        grids = _grids(self.size)
        self.used = [
            i for i, grid in enumerate(grids) if _SMALLEST_GRID <= min(grid) <= _LARGEST_GRID
        ]
        for i in self.used:
            self.register_buffer(f"mean_{i}", torch.zeros(1, CHANNELS[i], 1, 1))
            self.register_buffer(f"std_{i}", torch.ones(1, CHANNELS[i], 1, 1))
        self.heads = nn.ModuleList(
            _FeatureHead(CHANNELS[i], grids[i], maps, units, num_classes) for i in self.used
        )

    def initialize_from(self, high: Tensor, low: Tensor | None) -> None:
        """Sets the means and standard deviations from real examples (n, 3, h, w)."""
        for i, x in zip(self.used, self._maps(image_of(high, low)), strict=True):
            x = x.float()
            self.get_buffer(f"mean_{i}").copy_(x.mean((0, 2, 3), keepdim=True))
            self.get_buffer(f"std_{i}").copy_(x.std((0, 2, 3), keepdim=True).clamp(min=1e-3))

    def forward(self, high: Tensor, low: Tensor | None, label: Tensor | None) -> Tensor:
        """Computes logits (B, heads) of residuals (B, 3, *size) on their low-pass images."""
        return self.head(self.features(high, low), label)

    def features(self, high: Tensor, low: Tensor | None) -> FeatureMaps:
        """Returns the normalized maps, (B, channels, height, width) each, finest first."""
        maps = self._maps(image_of(high, low))
        return tuple(
            (x - self.get_buffer(f"mean_{i}")) / self.get_buffer(f"std_{i}")
            for i, x in zip(self.used, maps, strict=True)
        )

    def head(self, maps: FeatureMaps, label: Tensor | None) -> Tensor:
        """Returns logits (B, heads)."""
        logits = [head(x, label) for head, x in zip(self.heads, maps, strict=True)]
        return torch.stack(logits, dim=1)

    def _maps(self, image: Tensor) -> list[Tensor]:
        shrinks = image.shape[-1] > self.size[1]
        x = F.interpolate(image.float(), self.size, mode="bilinear", antialias=shrinks)
        # The scale of the net's own preprocessing, (pixel - 127) / 128, from [-1, 1].
        x = x.contiguous(memory_format=torch.channels_last) * (127.5 / 128)
        found = list(islice(feature_maps(self._backbone[0], x), self.used[-1] + 1))
        return [found[i] for i in self.used]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Moves the net along with this module, of whose state and parameters it is no part."""
        self._backbone[0]._apply(fn)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


class _FeatureHead(nn.Module):
    """Convolutions to a grid of 4 places per side, then dense layers to a logit."""

    def __init__(self, channels: int, grid: Size, maps: int, units: int, num_classes: int) -> None:
        super().__init__()
        height, width = grid
        convs = [nn.Conv2d(channels, maps, 3, padding=1)]
        widest = 2 * maps
        while min(height, width) > _HEAD_GRID:
            convs.append(nn.Conv2d(maps, widest, 2, stride=2))
            maps, height, width = widest, height // 2, width // 2
        for conv in convs:
            he_normal_(conv)
        self.convs = nn.ModuleList(convs)
        self.verdict = ProjectionHead(maps * height * width, units, num_classes)

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        first, *others = self.convs
        x = first(x)
        for conv in others:
            x = conv(F.leaky_relu(x, 0.2))
        logits: Tensor = self.verdict(activate_flat(x, 0.2), label)
        return logits


def _resized(size: Size, side: int) -> Size:
    """Returns a size whose shorter side is `side` pixels, the other a multiple of 32."""
    shorter = min(size)
    height, width = (
        side if length == shorter else _STRIDE * round(length * side / shorter / _STRIDE)
        for length in size
    )
    return height, width


def _grids(size: Size) -> list[Size]:
    """Returns the grids of the net's maps, finest first."""
    height, width = size
    return [(height >> i, width >> i) for i in range(1, len(CHANNELS) + 1)]


class FeatureDiscriminatorSection(Section):
    """A D on the feature maps of a pretrained net; see `FeatureDiscriminator`."""

    kind: Literal["features"] = "features"
    backbone: EfficientNetName = "efficientnet-lite1"
    side: Annotated[int, Field(ge=_STRIDE, multiple_of=_STRIDE)] = 32
    maps: Count = 64
    units: Count = 128

    def build(self, size: Size, num_classes: int) -> FeatureDiscriminator:
        """Builds the net."""
        return FeatureDiscriminator(
            size, self.backbone, self.side, self.maps, self.units, num_classes
        )


DISCRIMINATORS = (FeatureDiscriminatorSection,)
