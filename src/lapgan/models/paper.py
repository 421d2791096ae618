"""The networks of Denton et al. (2015) for CIFAR-10 and STL-10, and the plain GAN beside them.

Sizes and layers follow section 4.1 of the paper and, where it is silent, the code its authors
released: 7x7, 7x7 and 5x5 kernels in G_k, two 5x5 kernels in D_k, and a class that enters as one
rectified plane beside the input of the first convolution (dense nets: as a one-hot vector beside
the first input). Logits are returned instead of the paper's sigmoid.
"""

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lapgan.errors import LapganError
from lapgan.models.contracts import FeatureMaps
from lapgan.models.fourier import fourier_conv2d
from lapgan.models.heads import activate_flat
from lapgan.models.noise_planes import count_planes, count_values, fits_any_size, make_planes
from lapgan.noise import PLANE_NOISES, AnyNoise, VectorNoise
from lapgan.pyramid import image_of
from lapgan.section import Count, Fraction, Positive, Section
from lapgan.sizes import Size, size_text

__all__ = [
    "DISCRIMINATORS",
    "GENERATORS",
    "ClassPlane",
    "ConvDiscriminator",
    "ConvDiscriminatorSection",
    "ConvGenerator",
    "ConvGeneratorSection",
    "DenseDiscriminator",
    "DenseDiscriminatorSection",
    "DenseGenerator",
    "DenseGeneratorSection",
    "append_class_plane",
]


class DenseGenerator(nn.Module):
    """G_K: noise through two hidden layers to an image.

    Args:
        size: height and width of the image, in pixels.
        noise: length of the noise vector.
        units: units in each hidden layer.
        num_classes: how many classes condition the image; 0 for none.
        second: the second activation (the authors' plain GAN has a sigmoid there).
        init_std: the standard deviation of the initial weights, with zero biases; None keeps
            PyTorch's uniform scheme, which is also Torch7's.
    """

    def __init__(
        self,
        size: Size,
        noise: int = 100,
        units: int = 1200,
        num_classes: int = 0,
        second: Callable[[], nn.Module] = nn.ReLU,
        init_std: float | None = None,
    ) -> None:
        super().__init__()
        self.size, self.num_classes = size, num_classes
        self.layers = nn.Sequential(
            nn.Linear(noise + num_classes, units),
            nn.ReLU(),
            nn.Linear(units, units),
            second(),
            nn.Linear(units, 3 * size[0] * size[1]),
        )
        _initialize(self, init_std)

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        """Generates images (B, 3, *size) from noise (B, noise), or planes of as many values."""
        x = _with_one_hot(z.flatten(1), label, self.num_classes)
        return self.layers(x).view(x.shape[0], 3, *self.size)  # type: ignore[no-any-return]


class DenseDiscriminator(nn.Module):
    """D_K: an image through two hidden layers with Dropout to a logit.

    Args:
        size: height and width of the image, in pixels.
        units: units in each hidden layer.
        dropout: probability that a hidden unit is dropped, from 0 to 1.
        num_classes: how many classes condition the image; 0 for none.
        init_std: as in `DenseGenerator`.
    """

    def __init__(
        self,
        size: Size,
        units: int = 600,
        dropout: float = 0.5,
        num_classes: int = 0,
        init_std: float | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.layers = nn.Sequential(
            nn.Linear(3 * size[0] * size[1] + num_classes, units),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(units, units),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(units, 1),
        )
        _initialize(self, init_std)

    def forward(self, high: Tensor, low: Tensor | None, label: Tensor | None) -> Tensor:
        """Computes logits (B,) of residuals (B, 3, *size) on their low-pass images."""
        return self.head(self.features(high, low), label)

    def features(self, high: Tensor, low: Tensor | None) -> FeatureMaps:
        """Returns the image l + h, (B, 3, *size)."""
        return (image_of(high, low),)

    def head(self, maps: FeatureMaps, label: Tensor | None) -> Tensor:
        """Returns logits (B,)."""
        (image,) = maps
        x = _with_one_hot(image.flatten(1), label, self.num_classes)
        return self.layers(x).squeeze(1)  # type: ignore[no-any-return]


class ConvGenerator(nn.Module):
    """G_k: the low-pass image and a noise plane through three convolutions to the residual.

    Args:
        size: height and width of the level, in pixels.
        maps: maps in each hidden layer.
        planes: planes of noise.
        num_classes: how many classes condition the residual; 0 for none.
        to_planes: turns the noise into these planes, if it is something else.
    """

    def __init__(
        self,
        size: Size,
        maps: int = 64,
        planes: int = 1,
        num_classes: int = 0,
        to_planes: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.to_planes = to_planes or nn.Identity()
        self.class_plane = ClassPlane(size, num_classes) if num_classes else None
        self.conv1 = nn.Conv2d(3 + planes + bool(num_classes), maps, 7, padding=3)
        self.conv2 = _LargeConv2d(maps, maps, 7, padding=3)
        self.conv3 = nn.Conv2d(maps, 3, 5, padding=2)

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        """Generates residuals (B, 3, *size) for low-pass images (B, 3, *size)."""
        assert low is not None, "a conditional level needs a low-pass image"
        x = append_class_plane(torch.cat((low, self.to_planes(z)), dim=1), label, self.class_plane)
        x = F.relu(self.conv1(x))  # (B, maps, H, W)
        x = F.relu(self.conv2(x))  # (B, maps, H, W)
        return self.conv3(x)  # type: ignore[no-any-return]


class ConvDiscriminator(nn.Module):
    """D_k: residual plus low-pass image through two convolutions and Dropout to a logit.

    Args:
        size: height and width of the level, in pixels, at least 9.
        maps: maps in each hidden layer.
        dropout: probability that a value before the last layer is dropped, from 0 to 1.
        num_classes: how many classes condition the residual; 0 for none.
    """

    def __init__(
        self, size: Size, maps: int = 64, dropout: float = 0.5, num_classes: int = 0
    ) -> None:
        super().__init__()
        self.class_plane = ClassPlane(size, num_classes) if num_classes else None
        self.conv1 = nn.Conv2d(3 + bool(num_classes), maps, 5)
        self.conv2 = nn.Conv2d(maps, maps, 5, stride=2)
        self.dropout = nn.Dropout(dropout)
        height, width = ((side - 4 - 5) // 2 + 1 for side in size)
        self.linear = nn.Linear(maps * height * width, 1)

    def forward(self, high: Tensor, low: Tensor | None, label: Tensor | None) -> Tensor:
        """Computes logits (B,) of residuals (B, 3, *size) on their low-pass images."""
        return self.head(self.features(high, low), label)

    def features(self, high: Tensor, low: Tensor | None) -> FeatureMaps:
        """Returns the image l + h, (B, 3, *size)."""
        return (image_of(high, low),)

    def head(self, maps: FeatureMaps, label: Tensor | None) -> Tensor:
        """Returns logits (B,)."""
        (image,) = maps
        x = F.relu(
            self.conv1(append_class_plane(image, label, self.class_plane))
        )  # (B, maps, H-4, W-4)
        x = activate_flat(self.conv2(x), 0.0)  # (B, maps (H-7)//2 (W-7)//2)
        return self.linear(self.dropout(x)).squeeze(1)  # type: ignore[no-any-return]


class ClassPlane(nn.Module):
    """A class as one rectified plane: one-hot -> linear -> ReLU -> (B, 1, *size)."""

    def __init__(self, size: Size, num_classes: int) -> None:
        super().__init__()
        self.size, self.num_classes = size, num_classes
        self.linear = nn.Linear(num_classes, size[0] * size[1])

    def forward(self, label: Tensor) -> Tensor:
        """Returns one plane per label, (B, 1, *size)."""
        one_hot = F.one_hot(label, self.num_classes).to(self.linear.weight.dtype)
        return F.relu(self.linear(one_hot)).view(label.shape[0], 1, *self.size)


class _LargeConv2d(nn.Conv2d):
    """A same-size convolution by the faster way: by Fourier transforms in float32 on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        # Other runtimes, for which a graph is exported, have fast convolutions of their own.
        exported = torch.compiler.is_compiling()
        if exported or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        assert self.bias is not None
        return fourier_conv2d(x, self.weight) + self.bias.view(-1, 1, 1)


def _with_one_hot(x: Tensor, label: Tensor | None, num_classes: int) -> Tensor:
    if label is None or num_classes == 0:
        return x
    return torch.cat((x, F.one_hot(label, num_classes).to(x.dtype)), dim=1)


def append_class_plane(x: Tensor, label: Tensor | None, plane: ClassPlane | None) -> Tensor:
    """Appends the plane of the class to maps (B, C, H, W), if there are classes."""
    if label is None or plane is None:
        return x
    return torch.cat((x, plane(label)), dim=1)


def _initialize(net: nn.Module, std: float | None) -> None:
    if std is None:
        return
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)


class DenseGeneratorSection(Section):
    """The dense G_K of the paper; see `DenseGenerator`."""

    kind: Literal["paper-dense"] = "paper-dense"
    units: Count = 1200
    second: Literal["relu", "sigmoid"] = "relu"
    init_std: Positive | None = None
    takes_low: ClassVar[bool] = False
    takes_sigma: ClassVar[bool] = False
    takes_noise: ClassVar[tuple[type[AnyNoise], ...]] = (VectorNoise, *PLANE_NOISES)

    def build(self, size: Size, noise: AnyNoise, num_classes: int) -> nn.Module:
        """Builds the net."""
        second = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}[self.second]
        return DenseGenerator(
            size, count_values(noise, size), self.units, num_classes, second, self.init_std
        )

    def fits_any_size(self, noise: AnyNoise, num_classes: int) -> bool:
        """Returns False: its layers are dense."""
        return False


class ConvGeneratorSection(Section):
    """The convolutional G_k of the paper; see `ConvGenerator`."""

    kind: Literal["paper-conv"] = "paper-conv"
    maps: Count = 64
    takes_low: ClassVar[bool] = True
    takes_sigma: ClassVar[bool] = False
    takes_noise: ClassVar[tuple[type[AnyNoise], ...]] = (*PLANE_NOISES, VectorNoise)

    def build(self, size: Size, noise: AnyNoise, num_classes: int) -> nn.Module:
        """Builds the net."""
        planes = make_planes(noise, size)
        return ConvGenerator(size, self.maps, count_planes(noise), num_classes, planes)

    def fits_any_size(self, noise: AnyNoise, num_classes: int) -> bool:
        """Returns whether the net works at any size: the plane of a class has one."""
        return not num_classes and fits_any_size(noise)


class DenseDiscriminatorSection(Section):
    """The dense D_K of the paper; see `DenseDiscriminator`."""

    kind: Literal["paper-dense"] = "paper-dense"
    units: Count = 600
    dropout: Fraction = 0.5
    init_std: Positive | None = None

    def build(self, size: Size, num_classes: int) -> nn.Module:
        """Builds the net."""
        return DenseDiscriminator(size, self.units, self.dropout, num_classes, self.init_std)


class ConvDiscriminatorSection(Section):
    """The convolutional D_k of the paper; see `ConvDiscriminator`."""

    kind: Literal["paper-conv"] = "paper-conv"
    maps: Count = 64
    dropout: Fraction = 0.5

    def build(self, size: Size, num_classes: int) -> nn.Module:
        """Builds the net."""
        if min(size) < 9:
            raise LapganError(
                f"levels.{size_text(size)}.discriminator: paper-conv needs at least 9 pixels per "
                "side; use paper-dense at this size."
            )
        return ConvDiscriminator(size, self.maps, self.dropout, num_classes)


GENERATORS = (DenseGeneratorSection, ConvGeneratorSection)
DISCRIMINATORS = (DenseDiscriminatorSection, ConvDiscriminatorSection)
