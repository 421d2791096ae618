"""The networks of Denton et al. (2015) for CIFAR-10 and STL-10, and the plain GAN beside them.

Sizes and layers follow section 4.1 of the paper and, where it is silent, the code its authors
released: 7x7, 7x7 and 5x5 kernels in G_k, two 5x5 kernels in D_k, and a class that enters as one
rectified plane beside the input of the first convolution (dense nets: as a one-hot vector beside
the first input). Logits are returned instead of the paper's sigmoid.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lapgan.models.fourier import fourier_conv2d
from lapgan.pyramid import image_of
from lapgan.sizes import Size

__all__ = ["ConvDiscriminator", "ConvGenerator", "DenseDiscriminator", "DenseGenerator"]


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
        """Generates images (B, 3, *size) from noise (B, noise)."""
        x = _with_one_hot(z, label, self.num_classes)
        return self.layers(x).view(-1, 3, *self.size)  # type: ignore[no-any-return]


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
        """Judges images (B, 3, *size) and returns logits (B,)."""
        image = image_of(high, low)
        x = _with_one_hot(image.flatten(1), label, self.num_classes)
        return self.layers(x).squeeze(1)  # type: ignore[no-any-return]


class ConvGenerator(nn.Module):
    """G_k: the low-pass image and a noise plane through three convolutions to the residual.

    Args:
        size: height and width of the level, in pixels.
        maps: maps in each hidden layer.
        planes: planes of noise.
        num_classes: how many classes condition the residual; 0 for none.
    """

    def __init__(self, size: Size, maps: int = 64, planes: int = 1, num_classes: int = 0) -> None:
        super().__init__()
        self.class_plane = _ClassPlane(size, num_classes) if num_classes else None
        self.conv1 = nn.Conv2d(3 + planes + bool(num_classes), maps, 7, padding=3)
        self.conv2 = _LargeConv2d(maps, maps, 7, padding=3)
        self.conv3 = nn.Conv2d(maps, 3, 5, padding=2)

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        """Generates residuals (B, 3, *size) for low-pass images (B, 3, *size)."""
        assert low is not None, "a conditional level needs a low-pass image"
        x = _with_plane(torch.cat((low, z), dim=1), label, self.class_plane)
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
        self.class_plane = _ClassPlane(size, num_classes) if num_classes else None
        self.conv1 = nn.Conv2d(3 + bool(num_classes), maps, 5)
        self.conv2 = nn.Conv2d(maps, maps, 5, stride=2)
        self.dropout = nn.Dropout(dropout)
        height, width = ((side - 4 - 5) // 2 + 1 for side in size)
        self.linear = nn.Linear(maps * height * width, 1)

    def forward(self, high: Tensor, low: Tensor | None, label: Tensor | None) -> Tensor:
        """Judges residuals (B, 3, *size) on their low-pass images and returns logits (B,)."""
        image = image_of(high, low)
        x = F.relu(self.conv1(_with_plane(image, label, self.class_plane)))  # (B, maps, H-4, W-4)
        x = F.relu(self.conv2(x))  # (B, maps, (H-7)//2, (W-7)//2)
        return self.linear(self.dropout(x.flatten(1))).squeeze(1)  # type: ignore[no-any-return]


class _ClassPlane(nn.Module):
    """A class as one rectified plane: one-hot -> linear -> ReLU -> (B, 1, *size)."""

    def __init__(self, size: Size, num_classes: int) -> None:
        super().__init__()
        self.size, self.num_classes = size, num_classes
        self.linear = nn.Linear(num_classes, size[0] * size[1])

    def forward(self, label: Tensor) -> Tensor:
        one_hot = F.one_hot(label, self.num_classes).to(self.linear.weight.dtype)
        return F.relu(self.linear(one_hot)).view(-1, 1, *self.size)


class _LargeConv2d(nn.Conv2d):
    """A same-size convolution that takes the faster road: Fourier in float32 on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        assert self.bias is not None
        return fourier_conv2d(x, self.weight) + self.bias.view(-1, 1, 1)


def _with_one_hot(x: Tensor, label: Tensor | None, num_classes: int) -> Tensor:
    if label is None or num_classes == 0:
        return x
    return torch.cat((x, F.one_hot(label, num_classes).to(x.dtype)), dim=1)


def _with_plane(x: Tensor, label: Tensor | None, plane: _ClassPlane | None) -> Tensor:
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
