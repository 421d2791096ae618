"""The discriminator beside the residual nets: residual blocks on views of an example.

    views: (I - m) / s_I,   h / s_h,   (l - m) / s_l

Each view has unit variance, so that the head sees fine detail from the first step. D judges (l_k,
h_k) and not the image alone: the real and the generated example of a pair share l_k, which ties a
level to the one below.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lapgan.models.contracts import DataInitialized, FeatureMaps, SupportsPairs
from lapgan.models.heads import activate_flat, he_normal_, leaky_relu_, minibatch_std
from lapgan.models.residual import Maps, check_grids, conv, cut_patches, halve
from lapgan.penalty import SelectsPenalized
from lapgan.pyramid import image_of, size_of
from lapgan.section import Count, Section
from lapgan.sizes import Size

__all__ = ["DISCRIMINATORS", "ResidualDiscriminator", "ResidualDiscriminatorSection"]

# The gain of He et al. (2015) for activations that let through half of the variance.
_GAIN = 1.4


class ResidualDiscriminator(nn.Module, DataInitialized, SelectsPenalized, SupportsPairs):
    """D: image, residual and low-pass image side by side through residual blocks to a logit.

    Where there is no low-pass image, at the coarsest level, the image's own takes its place: its
    2x2 means, enlarged bilinearly. The class enters by projection, and a map with the standard
    deviation within groups of 8 examples goes to the last convolution.

    Args:
        size: height and width of the level, in pixels; divisible by patch 2^(grids - 1).
        maps: maps on each grid, finest first; two blocks per grid.
        units: of the dense layer.
        num_classes: how many classes condition the examples; 0 for none.
        patch: the finest grid has one place per patch of so many pixels squared; see
            `lapgan.models.residual.ResidualGenerator`.

    Raises:
        LapganError: the size cannot be halved that often.

    References:
        Huang et al. (2024), "The GAN is dead; long live the GAN!", for blocks without
        normalization; Miyato and Koyama (2018), equation 3, for the projection; Karras et al.
        (2018), section 3, for the statistic of the minibatch.
    """

    mean: Tensor
    image_std: Tensor
    residual_std: Tensor
    low_std: Tensor

    def __init__(
        self,
        size: Size,
        maps: Sequence[int] = (128, 256, 256),
        units: int = 512,
        num_classes: int = 0,
        patch: int = 1,
    ) -> None:
        super().__init__()
        check_grids(size, len(maps), patch)
        factor = patch * 2 ** (len(maps) - 1)
        self.patch = patch
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))
        for name in ("image_std", "residual_std", "low_std"):
            self.register_buffer(name, torch.ones(1, 3, 1, 1))
        self.into = conv(9 * patch**2, maps[0], gain=_GAIN)
        depth = 2 * len(maps)
        blocks = []
        for grid, count in enumerate(maps):
            last = grid == len(maps) - 1
            after = count if last else maps[grid + 1]
            blocks.append(_DiscriminatorBlock(count, count, depth, halves=False))
            blocks.append(_DiscriminatorBlock(count, after, depth, halves=not last))
        self.blocks = nn.ModuleList(blocks)
        self.last = conv(maps[-1] + 1, maps[-1], gain=_GAIN)
        self.hidden = nn.Linear(maps[-1] * (size[0] // factor) * (size[1] // factor), units)
        he_normal_(self.hidden, _GAIN)
        self.out = nn.Linear(units, 1)
        self.embedding = nn.Embedding(num_classes, units) if num_classes else None

    def initialize_from(self, high: Tensor, low: Tensor | None) -> None:
        """Sets the means and standard deviations of the views from real examples (n, 3, h, w)."""
        image, residual, low = _views(high, low)
        self.mean.copy_(image.mean((0, 2, 3), keepdim=True))
        for std, view in (
            (self.image_std, image), (self.residual_std, residual), (self.low_std, low),
        ):  # fmt: skip
            std.copy_(view.std((0, 2, 3), keepdim=True))

    def forward(self, high: Tensor, low: Tensor | None, label: Tensor | None) -> Tensor:
        """Computes logits (B,) of residuals (B, 3, *size) on their low-pass images."""
        return self.head(self.features(high, low), label)

    def features(self, high: Tensor, low: Tensor | None) -> FeatureMaps:
        """Returns the views of image, residual and low-pass image, side by side, (B, 9, *size)."""
        image, residual, low = _views(high, low)
        views = (
            (image - self.mean) / self.image_std,
            residual / self.residual_std,
            (low - self.mean) / self.low_std,
        )
        return (torch.cat(views, dim=1),)

    def pair_features(self, image: Tensor, low: Tensor) -> FeatureMaps:
        """Returns the views of images and their low-pass images (B, 3, *size)."""
        return self.features(image - low, low)

    def head(self, maps: FeatureMaps, label: Tensor | None) -> Tensor:
        """Returns logits (B,)."""
        (x,) = maps
        x = self.into(cut_patches(x, self.patch))
        for block in self.blocks:
            x = block(x)
        x = F.leaky_relu(x, 0.2)
        # A mean over maps and places in any order; in this one it needs no copy.
        spread = minibatch_std(x.float().permute(0, 2, 3, 1).flatten(1))
        spread = spread[..., None, None].expand(-1, 1, *size_of(x)).to(x.dtype)
        x = activate_flat(self.last(torch.cat((x, spread), dim=1)), 0.2)
        h = leaky_relu_(self.hidden(x))
        logits: Tensor = self.out(h).squeeze(1)
        if self.embedding is None:
            return logits
        match: Tensor = (h * self.embedding(label)).sum(1) / math.sqrt(h.shape[1])
        return logits + match

    def select_penalized(self, maps: FeatureMaps) -> FeatureMaps:
        """Returns the views of image and residual: a pair shares its low-pass image."""
        (x,) = maps
        return (x[:, :6],)


class _DiscriminatorBlock(nn.Module):
    """skip(x) + conv_0(lrelu(conv(lrelu(x)))), then half the grid if asked; conv_0 starts at 0."""

    def __init__(self, inputs: int, outputs: int, depth: int, halves: bool) -> None:
        super().__init__()
        self.halves = halves
        self.conv1 = conv(inputs, inputs, gain=_GAIN * depth**-0.25)
        self.conv2 = conv(inputs, outputs, gain=0.0)
        self.skip = nn.Identity() if inputs == outputs else conv(inputs, outputs, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.skip(x) + self.conv2(leaky_relu_(self.conv1(F.leaky_relu(x, 0.2))))
        return halve(y) if self.halves else y


def _views(high: Tensor, low: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Returns image, residual and low-pass image in the scale of the nets, float32."""
    image = image_of(high, low).float()
    if low is None:
        coarse = F.avg_pool2d(image, 2, ceil_mode=True)
        low = F.interpolate(coarse, size_of(image), mode="bilinear", align_corners=False)
        return image, image - low, low
    return image, high.float(), low


class ResidualDiscriminatorSection(Section):
    """A D of residual blocks, for any level; see `ResidualDiscriminator`."""

    kind: Literal["residual"] = "residual"
    maps: Maps = (128, 256, 256)
    units: Count = 512
    patch: Count = 1

    def build(self, size: Size, num_classes: int) -> nn.Module:
        """Builds the net."""
        return ResidualDiscriminator(size, self.maps, self.units, num_classes, self.patch)


DISCRIMINATORS = (ResidualDiscriminatorSection,)
