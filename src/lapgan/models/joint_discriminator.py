"""A discriminator of any kind beside one on pretrained features.

References:
    Kumari et al. (2022), "Ensembling off-the-shelf models for GAN training", section 3.
"""

from typing import cast

import torch
from torch import Tensor, nn

from lapgan.models.contracts import DataInitialized, Discriminator, FeatureMaps, SupportsPairs
from lapgan.models.feature_discriminator import FeatureDiscriminator
from lapgan.penalty import SelectsPenalized

__all__ = ["JointDiscriminator"]


class JointDiscriminator(nn.Module, DataInitialized, SelectsPenalized, SupportsPairs):
    """D: two nets that see the same examples, with the logits of both.

        logits = (own(l, h), features(l + h))

    A loss is the mean over all logits, so each of them counts alike. The nets share nothing.

    Args:
        own: a `Discriminator` of any kind.
        on_features: the one on pretrained features.
    """

    def __init__(self, own: nn.Module, on_features: FeatureDiscriminator) -> None:
        super().__init__()
        self.own, self.on_features = own, on_features

    def initialize_from(self, high: Tensor, low: Tensor | None) -> None:
        """Sets those buffers of both nets that are statistics of the data."""
        if isinstance(self.own, DataInitialized):
            self.own.initialize_from(high, low)
        self.on_features.initialize_from(high, low)

    def forward(self, high: Tensor, low: Tensor | None, label: Tensor | None) -> Tensor:
        """Computes logits (B, k) of residuals (B, 3, *size) on their low-pass images."""
        return self.head(self.features(high, low), label)

    def features(self, high: Tensor, low: Tensor | None) -> FeatureMaps:
        """Returns the maps of both nets, one after the other."""
        own = cast(Discriminator, self.own).features(high, low)
        return (*own, *self.on_features.features(high, low))

    def pair_features(self, image: Tensor, low: Tensor) -> FeatureMaps:
        """Computes the maps of images; the net's own are beside `low` if it supports that."""
        if isinstance(self.own, SupportsPairs):
            own = self.own.pair_features(image, low)
        else:
            own = cast(Discriminator, self.own).features(image, None)
        return (*own, *self.on_features.features(image, None))

    def head(self, maps: FeatureMaps, label: Tensor | None) -> Tensor:
        """Returns logits (B, k)."""
        own, others = self._divide(maps)
        logits = cast(Discriminator, self.own).head(own, label)
        logits = logits[:, None] if logits.dim() == 1 else logits
        return torch.cat((logits, self.on_features.head(others, label)), dim=1)

    def select_penalized(self, maps: FeatureMaps) -> FeatureMaps:
        """Returns what the own net selects, and all maps of the other one."""
        own, others = self._divide(maps)
        if isinstance(self.own, SelectsPenalized):
            own = self.own.select_penalized(own)
        return (*own, *others)

    def _divide(self, maps: FeatureMaps) -> tuple[FeatureMaps, FeatureMaps]:
        count = len(maps) - len(self.on_features.heads)
        return maps[:count], maps[count:]
