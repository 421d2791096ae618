"""The nets of Denton et al. (2015) for LSUN, the same at every level.

Section 4.1 gives, for G, 64, 368, 128 and 224 maps, 7x7 kernels, batch norm, dropout and a linear
output; for D, three hidden layers of 48, 448 and 416 maps. The class enters as in
`lapgan.models.paper`. Logits are returned instead of the paper's sigmoid.
"""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lapgan.models.contracts import FeatureMaps
from lapgan.models.heads import activate_flat
from lapgan.models.noise_planes import count_planes, fits_any_size, make_planes
from lapgan.models.paper import ClassPlane, append_class_plane
from lapgan.noise import PLANE_NOISES, AnyNoise, VectorNoise
from lapgan.pyramid import image_of
from lapgan.section import Count, Fraction, Section
from lapgan.sizes import Size

__all__ = [
    "DISCRIMINATORS",
    "GENERATORS",
    "LsunCoarsestGeneratorSection",
    "LsunDiscriminator",
    "LsunDiscriminatorSection",
    "LsunGenerator",
    "LsunGeneratorSection",
]


class LsunGenerator(nn.Module):
    """G_k: the low-pass image and noise planes through five convolutions to the residual.

    At the coarsest level there is no low-pass image: noise planes go to the image.

    Args:
        size: height and width of the level, in pixels.
        maps: maps of the hidden layers.
        dropout: probability that a value of a hidden layer is dropped in training, from 0 to 1.
        planes: planes of noise.
        num_classes: how many classes condition the residual; 0 for none.
        to_planes: turns the noise into these planes, if it is something else.
        coarsest: whether there is no low-pass image.
    """

    def __init__(
        self,
        size: Size,
        maps: tuple[int, ...] = (64, 368, 128, 224),
        dropout: float = 0.5,
        planes: int = 1,
        num_classes: int = 0,
        to_planes: nn.Module | None = None,
        coarsest: bool = False,
    ) -> None:
        super().__init__()
        self.to_planes = to_planes or nn.Identity()
        self.class_plane = ClassPlane(size, num_classes) if num_classes else None
        inputs = (3 * (not coarsest) + planes + bool(num_classes), *maps)
        hidden = [
            layer
            for before, after in zip(inputs, maps, strict=False)
            for layer in _hidden_layer(before, after, dropout)
        ]
        self.layers = nn.Sequential(*hidden, nn.Conv2d(maps[-1], 3, 7, padding=3))

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        """Generates residuals (B, 3, *size) from low-pass images (B, 3, *size) and noise."""
        z = self.to_planes(z)
        x = z if low is None else torch.cat((low, z), dim=1)
        high: Tensor = self.layers(append_class_plane(x, label, self.class_plane))
        return high


def _hidden_layer(inputs: int, maps: int, dropout: float) -> tuple[nn.Module, ...]:
    # The normalization has a shift of its own, so the convolution needs no bias.
    convolution = nn.Conv2d(inputs, maps, 7, padding=3, bias=False)
    return convolution, nn.BatchNorm2d(maps), nn.ReLU(), nn.Dropout(dropout)


class LsunDiscriminator(nn.Module):
    """D_k: residual plus low-pass image through three convolutions and Dropout to a logit.

    The paper gives the maps alone. Kernels are 5x5 and Dropout stands before the last layer as in
    its nets for CIFAR-10; strides are 1, 2 and 2, with padding, so that 4x4 images can be judged.

    Args:
        size: height and width of the level, in pixels.
        maps: maps of the hidden layers.
        dropout: probability that a value before the last layer is dropped, from 0 to 1.
        num_classes: how many classes condition the residual; 0 for none.
    """

    def __init__(
        self,
        size: Size,
        maps: tuple[int, ...] = (48, 448, 416),
        dropout: float = 0.5,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        self.class_plane = ClassPlane(size, num_classes) if num_classes else None
        inputs = (3 + bool(num_classes), *maps)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 5, stride=2 if index else 1, padding=2)
            for index, (before, after) in enumerate(zip(inputs, maps, strict=False))
        )
        self.dropout = nn.Dropout(dropout)
        height, width = size
        for _ in maps[1:]:
            height, width = (height + 1) // 2, (width + 1) // 2
        self.linear = nn.Linear(maps[-1] * height * width, 1)

    def forward(self, high: Tensor, low: Tensor | None, label: Tensor | None) -> Tensor:
        """Computes logits (B,) of residuals (B, 3, *size) on their low-pass images."""
        return self.head(self.features(high, low), label)

    def features(self, high: Tensor, low: Tensor | None) -> FeatureMaps:
        """Returns the image l + h, (B, 3, *size)."""
        return (image_of(high, low),)

    def head(self, maps: FeatureMaps, label: Tensor | None) -> Tensor:
        """Returns logits (B,)."""
        (image,) = maps
        x = append_class_plane(image, label, self.class_plane)
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        x = activate_flat(self.layers[-1](x), 0.0)
        return self.linear(self.dropout(x)).squeeze(1)  # type: ignore[no-any-return]


class LsunGeneratorSection(Section):
    """The paper's generator for LSUN; see `LsunGenerator`."""

    kind: Literal["paper-lsun"] = "paper-lsun"
    maps: tuple[Count, ...] = (64, 368, 128, 224)
    dropout: Fraction = 0.5
    takes_low: ClassVar[bool] = True
    takes_sigma: ClassVar[bool] = False
    takes_noise: ClassVar[tuple[type[AnyNoise], ...]] = (*PLANE_NOISES, VectorNoise)

    def build(self, size: Size, noise: AnyNoise, num_classes: int) -> nn.Module:
        """Builds the net."""
        planes = make_planes(noise, size)
        return LsunGenerator(
            size, self.maps, self.dropout, count_planes(noise), num_classes, planes
        )

    def fits_any_size(self, noise: AnyNoise, num_classes: int) -> bool:
        """Returns whether the net works at any size: the plane of a class has one."""
        return not num_classes and fits_any_size(noise)


class LsunCoarsestGeneratorSection(Section):
    """The same net at the coarsest level, from noise planes alone; see `LsunGenerator`."""

    kind: Literal["paper-lsun-coarsest"] = "paper-lsun-coarsest"
    maps: tuple[Count, ...] = (64, 368, 128, 224)
    dropout: Fraction = 0.5
    takes_low: ClassVar[bool] = False
    takes_sigma: ClassVar[bool] = False
    takes_noise: ClassVar[tuple[type[AnyNoise], ...]] = (*PLANE_NOISES, VectorNoise)

    def build(self, size: Size, noise: AnyNoise, num_classes: int) -> nn.Module:
        """Builds the net."""
        planes = make_planes(noise, size)
        return LsunGenerator(
            size, self.maps, self.dropout, count_planes(noise), num_classes, planes, coarsest=True
        )

    def fits_any_size(self, noise: AnyNoise, num_classes: int) -> bool:
        """Returns whether the net works at any size: the plane of a class has one."""
        return not num_classes and fits_any_size(noise)


class LsunDiscriminatorSection(Section):
    """The paper's discriminator for LSUN; see `LsunDiscriminator`."""

    kind: Literal["paper-lsun"] = "paper-lsun"
    maps: tuple[Count, ...] = (48, 448, 416)
    dropout: Fraction = 0.5

    def build(self, size: Size, num_classes: int) -> nn.Module:
        """Builds the net."""
        return LsunDiscriminator(size, self.maps, self.dropout, num_classes)


GENERATORS = (LsunGeneratorSection, LsunCoarsestGeneratorSection)
DISCRIMINATORS = (LsunDiscriminatorSection,)
