"""The generator of Denton et al. (2015) for LSUN: five convolutions with batch norm and dropout.

Section 4.1 gives 64, 368, 128 and 224 maps, 7x7 kernels and a linear output, the same at every
level. The class enters as in `lapgan.models.paper`.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from lapgan.models.noise_planes import count_planes, fits_any_size, make_planes
from lapgan.models.paper import ClassPlane, append_class_plane
from lapgan.noise import PLANE_NOISES, AnyNoise, VectorNoise
from lapgan.section import Count, Fraction, Section
from lapgan.sizes import Size

__all__ = ["GENERATORS", "LsunGenerator", "LsunGeneratorSection"]


class LsunGenerator(nn.Module):
    """G_k: the low-pass image and a noise plane through five convolutions to the residual.

    Args:
        size: height and width of the level, in pixels.
        maps: maps of the hidden layers.
        dropout: probability that a value of a hidden layer is dropped in training, from 0 to 1.
        planes: planes of noise.
        num_classes: how many classes condition the residual; 0 for none.
        to_planes: turns the noise into these planes, if it is something else.
    """

    def __init__(
        self,
        size: Size,
        maps: tuple[int, ...] = (64, 368, 128, 224),
        dropout: float = 0.5,
        planes: int = 1,
        num_classes: int = 0,
        to_planes: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.to_planes = to_planes or nn.Identity()
        self.class_plane = ClassPlane(size, num_classes) if num_classes else None
        inputs = (3 + planes + bool(num_classes), *maps)
        hidden = [
            layer
            for before, after in zip(inputs, maps, strict=False)
            for layer in _hidden_layer(before, after, dropout)
        ]
        self.layers = nn.Sequential(*hidden, nn.Conv2d(maps[-1], 3, 7, padding=3))

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        """Generates residuals (B, 3, *size) for low-pass images (B, 3, *size)."""
        assert low is not None, "a conditional level needs a low-pass image"
        x = append_class_plane(torch.cat((low, self.to_planes(z)), dim=1), label, self.class_plane)
        high: Tensor = self.layers(x)
        return high


def _hidden_layer(inputs: int, maps: int, dropout: float) -> tuple[nn.Module, ...]:
    # The normalization has a shift of its own, so the convolution needs no bias.
    convolution = nn.Conv2d(inputs, maps, 7, padding=3, bias=False)
    return convolution, nn.BatchNorm2d(maps), nn.ReLU(), nn.Dropout(dropout)


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


GENERATORS = (LsunGeneratorSection,)
