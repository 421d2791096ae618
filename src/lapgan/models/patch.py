"""Small networks for an ordinary CPU, which start from the second-order statistics of the data.

Generators and discriminators work on patches in a whitened basis (`lapgan.models.whitening`), on a
grid of half or a quarter of the image's size, without normalization layers. `initialize_from` is
called once before training: a generator is then the best linear model of its level, and training
adds what a linear model cannot do.
"""

import math
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lapgan.models.contracts import DataInitialized, FeatureMaps, SupportsDistance
from lapgan.models.heads import ProjectionHead, activate_flat, he_normal_, leaky_relu_
from lapgan.models.noise_planes import count_planes, count_values, fits_any_size, make_planes
from lapgan.models.whitening import PatchWhitening
from lapgan.noise import PLANE_NOISES, AnyNoise, VectorNoise
from lapgan.pyramid import image_of
from lapgan.section import Count, Section
from lapgan.sizes import Size

__all__ = [
    "DISCRIMINATORS",
    "GENERATORS",
    "PatchDiscriminator",
    "PatchDiscriminatorSection",
    "PatchGenerator",
    "PatchGeneratorSection",
    "VectorGenerator",
    "VectorGeneratorSection",
]

# The standard deviation of uniform noise in [-1, 1] is 3^(-1/2); nets take noise of variance 1.
_NOISE_GAIN = math.sqrt(3)


class VectorGenerator(nn.Module, DataInitialized):
    """G_K: noise through dense residual layers to the principal components of an image.

        y = f(z, c) + g(z, c) z,    image = mean + V diag(s) y

    f starts at about 0 and g at 1, so that the untrained G draws images with the mean and the
    covariance of the real ones. g > 0 makes a scale mixture of what passes through.

    Args:
        size: height and width of the image, in pixels.
        noise: length of the noise vector, of which no more than 3 h w values pass through.
        units: units in each hidden layer.
        blocks: residual layers.
        num_classes: how many classes condition the image; 0 for none.

    References:
        Wainwright and Simoncelli (2000) for scale mixtures as a model of images' components.
    """

    def __init__(
        self, size: Size, noise: int = 192, units: int = 384, blocks: int = 2, num_classes: int = 0
    ) -> None:
        super().__init__()
        self.basis = PatchWhitening(size, size)
        self.embedding = nn.Embedding(num_classes, 32) if num_classes else None
        self.first = nn.Linear(noise + 32 * bool(num_classes), units)
        self.blocks = nn.ModuleList(_DenseBlock(units) for _ in range(blocks))
        self.last = nn.Linear(units, 2 * self.basis.components)
        he_normal_(self.first, 1.0)
        he_normal_(self.last, 0.3)

    def initialize_from(self, high: Tensor, low: Tensor | None) -> None:
        """Sets the basis from real images (n, 3, h, w)."""
        self.basis.fit(high)

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        """Generates images (B, 3, *size) from noise (B, noise)."""
        z = z.flatten(1) * _NOISE_GAIN
        x = z if self.embedding is None else torch.cat((z, self.embedding(label)), dim=1)
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        y, gate = self.last(leaky_relu_(x)).chunk(2, dim=1)
        y = y + F.softplus(gate + _OPEN_GATE) * _first_values(z, y.shape[1])
        image: Tensor = self.basis.unwhiten(y[..., None, None])
        return image


class PatchGenerator(nn.Module, DataInitialized, SupportsDistance):
    """G_k: the low-pass image and noise through residual blocks on a grid of patches.

        y = A * l + f(l, z, c),    h = V diag(s) y

    l are the components of the low-pass image's patches, and A * l is the best linear prediction of
    the residual's components from 3x3 patches, fitted before training. f starts at about 0: the
    untrained G is the linear prediction. Noise enters f alone, not y as in `VectorGenerator`.

    Where it takes sigma, the standard deviation of conditioning noise, f has it as a bias of its
    first maps that is 0 before training.

    Args:
        size: height and width of the level, in pixels.
        patch: side of a patch, in pixels; divides both sides.
        maps: maps on the grid.
        blocks: residual blocks.
        planes: planes of noise.
        num_classes: how many classes condition the residual; 0 for none.
        to_planes: turns the noise into these planes, if it is something else.
        gain: multiplies the noise, to give it variance 1.
        takes_sigma: whether there is conditioning noise.
    """

    linear: Tensor

    def __init__(
        self,
        size: Size,
        patch: int = 4,
        maps: int = 96,
        blocks: int = 2,
        planes: int = 3,
        num_classes: int = 0,
        to_planes: nn.Module | None = None,
        gain: float = _NOISE_GAIN,
        takes_sigma: bool = False,
    ) -> None:
        super().__init__()
        self.to_planes, self.gain = to_planes or nn.Identity(), gain
        self.low_basis = PatchWhitening(size, (patch, patch))
        self.high_basis = PatchWhitening(size, (patch, patch), centered=False)
        components = self.high_basis.components
        self.first = nn.Conv2d(components + planes * patch * patch, maps, 3, padding=1)
        self.blocks = nn.ModuleList(_PatchBlock(maps, num_classes) for _ in range(blocks))
        self.last = nn.Conv2d(maps, components, 1)
        he_normal_(self.first, 1.0)
        he_normal_(self.last, 0.1)
        self.sigma = nn.Linear(1, maps, bias=False) if takes_sigma else None
        if self.sigma is not None:
            nn.init.zeros_(self.sigma.weight)
        self.register_buffer("linear", torch.zeros(components, components, 3, 3))

    def initialize_from(self, high: Tensor, low: Tensor | None) -> None:
        """Sets the bases and the linear prediction from real examples (n, 3, h, w)."""
        assert low is not None, "a conditional level needs a low-pass image"
        self.low_basis.fit(low)
        self.high_basis.fit(high)
        self.linear.copy_(
            _linear_prediction(self.low_basis.whiten(low), self.high_basis.whiten(high))
        )

    def forward(
        self, low: Tensor | None, z: Tensor, label: Tensor | None, sigma: Tensor | None = None
    ) -> Tensor:
        """Generates residuals (B, 3, *size) for low-pass images (B, 3, *size).

        Args:
            low: l_k.
            z: planes of noise.
            label: class indices (B,), or None without classes.
            sigma: standard deviation (B, 1) of the conditioning noise that l_k has; None for 0.
        """
        assert low is not None, "a conditional level needs a low-pass image"
        components = self.low_basis.whiten(low)  # (B, components, *grid)
        noise = self.gain * self.low_basis.patchify(self.to_planes(z))  # (B, planes patch^2, *grid)
        x = self.first(torch.cat((components, noise), dim=1))
        if self.sigma is not None:
            sigma = z.new_zeros(z.shape[0], 1) if sigma is None else sigma
            x = x + self.sigma(10 * sigma)[..., None, None]
        for block in self.blocks:
            x = block(x, label)
        y = self.last(leaky_relu_(x)) + F.conv2d(_pad_edges(components), self.linear)
        residual: Tensor = self.high_basis.unwhiten_difference(y)
        return residual

    def deviations(self, high: Tensor, other: Tensor) -> Tensor:
        """Computes how far residuals (B, 3, *size) are from others, in whitened components.

            |diag(s)^-1 V^T (h - h')|,    0 if equal, of the order of 1 if not related

        References:
            Isola et al. (2017), pix2pix, equation 3, for the L1 distance beside an adversarial
            loss; here of whitened components, since the largest would dominate it otherwise.
        """
        return self.high_basis.whiten(high - other).abs()


class PatchDiscriminator(nn.Module, DataInitialized):
    """D: an image's whitened patches through convolutions and dense layers to a logit.

    As in the authors' code, D sees the image l + h alone.

    Class conditioning and the minibatch statistic are those of `ProjectionHead`.

    Args:
        size: height and width of the level, in pixels.
        patch: side of a patch, in pixels; divides both sides.
        maps: maps on the grid of patches; twice as many after each halving of the grid, which ends
            at 4 places per side.
        units: units in the dense layers.
        num_classes: how many classes condition the examples; 0 for none.
    """

    def __init__(
        self, size: Size, patch: int = 4, maps: int = 64, units: int = 256, num_classes: int = 0
    ) -> None:
        super().__init__()
        self.basis = PatchWhitening(size, (patch, patch))
        height, width = self.basis.grid
        convs = [nn.Conv2d(self.basis.components, maps, 3, padding=1)]
        while min(height, width) >= 8:
            convs.append(nn.Conv2d(maps, 2 * maps, 2, stride=2))
            maps, height, width = 2 * maps, height // 2, width // 2
        for conv in convs:
            he_normal_(conv)
        self.convs = nn.ModuleList(convs)
        self.verdict = ProjectionHead(maps * height * width, units, num_classes)

    def initialize_from(self, high: Tensor, low: Tensor | None) -> None:
        """Sets the basis from real examples (n, 3, h, w)."""
        self.basis.fit(image_of(high, low))

    def forward(self, high: Tensor, low: Tensor | None, label: Tensor | None) -> Tensor:
        """Computes logits (B,) of residuals (B, 3, *size) on their low-pass images."""
        return self.head(self.features(high, low), label)

    def features(self, high: Tensor, low: Tensor | None) -> FeatureMaps:
        """Returns the image's whitened components, (B, components, *grid)."""
        return (self.basis.whiten(image_of(high, low)),)

    def head(self, maps: FeatureMaps, label: Tensor | None) -> Tensor:
        """Returns logits (B,)."""
        (x,) = maps
        first, *others = self.convs
        x = first(x).permute(0, 2, 3, 1)
        for conv in others:
            # Not in place: x may be a view, whose gradient would be copied.
            x = _conv2x2(F.leaky_relu(x, 0.2), cast(nn.Conv2d, conv))
        logits: Tensor = self.verdict(activate_flat(x.permute(0, 3, 1, 2), 0.2), label)
        return logits


def _conv2x2(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Computes a 2x2 convolution of maps (B, h, w, c) with stride 2.

    As a matrix product, which a CPU computes about twice as fast with its gradients.
    """
    b, h, w, c = x.shape
    x = x[:, : h - h % 2, : w - w % 2]
    places = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(2, 3)
    weight = conv.weight.permute(0, 2, 3, 1).flatten(1)
    return F.linear(places.reshape(b, h // 2, w // 2, 4 * c), weight, conv.bias)


class _DenseBlock(nn.Module):
    """x + W2 act(W1 x), with W2 = 0 before training."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.first = nn.Linear(units, units)
        self.second = nn.Linear(units, units, bias=False)
        he_normal_(self.first)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.second(leaky_relu_(self.first(x)))
        return y


class _PatchBlock(nn.Module):
    """x + W2 act(depthwise(act(W1 x + e_c))), with W2 = 0 before training."""

    def __init__(self, maps: int, num_classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(maps, maps, 1)
        self.depthwise = nn.Conv2d(maps, maps, 3, padding=1, groups=maps)
        self.second = nn.Conv2d(maps, maps, 1, bias=False)
        self.embedding = nn.Embedding(num_classes, maps) if num_classes else None
        for layer in (self.first, self.depthwise):
            he_normal_(layer)
        nn.init.zeros_(self.second.weight)
        if self.embedding is not None:
            nn.init.zeros_(self.embedding.weight)

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        y = self.first(x)
        if self.embedding is not None:
            y += self.embedding(label)[..., None, None]
        out: Tensor = self.second(leaky_relu_(self.depthwise(leaky_relu_(y))))
        return out.add_(x)


# softplus(_OPEN_GATE) = 1.
_OPEN_GATE = math.log(math.e - 1)


def _first_values(x: Tensor, count: int) -> Tensor:
    """Returns the first `count` values of each row, or adds zeros where there are fewer."""
    return F.pad(x, (0, count - x.shape[1]))


def _pad_edges(x: Tensor) -> Tensor:
    """Repeats the outermost places once beyond the edge."""
    return F.pad(x, (1, 1, 1, 1), mode="replicate")


def _linear_prediction(inputs: Tensor, targets: Tensor) -> Tensor:
    """Fits a 3x3 convolution by ridge regression and returns its kernel (d, c, 3, 3).

    Args:
        inputs: maps (n, c, h, w).
        targets: maps (n, d, h, w).
    """
    c, d = inputs.shape[1], targets.shape[1]
    x = F.unfold(_pad_edges(inputs), 3).transpose(1, 2).reshape(-1, 9 * c).double()
    y = targets.flatten(2).transpose(1, 2).reshape(-1, d).double()
    ridge = 0.01 * len(x) * torch.eye(9 * c, dtype=x.dtype, device=x.device)
    weight = torch.linalg.solve(x.T @ x + ridge, x.T @ y)
    kernel: Tensor = weight.T.reshape(d, c, 3, 3).to(inputs)
    return kernel


class VectorGeneratorSection(Section):
    """A dense G_K on principal components; see `VectorGenerator`."""

    kind: Literal["modern-dense"] = "modern-dense"
    units: Count = 384
    blocks: Count = 2
    takes_low: ClassVar[bool] = False
    takes_sigma: ClassVar[bool] = False
    takes_noise: ClassVar[tuple[type[AnyNoise], ...]] = (VectorNoise, *PLANE_NOISES)

    def build(self, size: Size, noise: AnyNoise, num_classes: int) -> nn.Module:
        """Builds the net."""
        return VectorGenerator(
            size, count_values(noise, size), self.units, self.blocks, num_classes
        )

    def fits_any_size(self, noise: AnyNoise, num_classes: int) -> bool:
        """Returns False: its layers are dense."""
        return False


class PatchGeneratorSection(Section):
    """A G_k on a grid of patches; see `PatchGenerator`."""

    kind: Literal["modern-patch"] = "modern-patch"
    patch: Count = 4
    maps: Count = 96
    blocks: Count = 2
    takes_sigma: bool = False
    takes_low: ClassVar[bool] = True
    takes_noise: ClassVar[tuple[type[AnyNoise], ...]] = (*PLANE_NOISES, VectorNoise)

    def build(self, size: Size, noise: AnyNoise, num_classes: int) -> nn.Module:
        """Builds the net."""
        return PatchGenerator(
            size, self.patch, self.maps, self.blocks, count_planes(noise), num_classes,
            make_planes(noise, size), noise.variance**-0.5, self.takes_sigma,
        )  # fmt: skip

    def fits_any_size(self, noise: AnyNoise, num_classes: int) -> bool:
        """Returns whether the net works at any size: with a multiple of its patches."""
        return fits_any_size(noise)


class PatchDiscriminatorSection(Section):
    """A D on a grid of patches, for any level; see `PatchDiscriminator`."""

    kind: Literal["modern-patch"] = "modern-patch"
    patch: Count = 4
    maps: Count = 64
    units: Count = 256

    def build(self, size: Size, num_classes: int) -> nn.Module:
        """Builds the net."""
        return PatchDiscriminator(size, self.patch, self.maps, self.units, num_classes)


GENERATORS = (VectorGeneratorSection, PatchGeneratorSection)
DISCRIMINATORS = (PatchDiscriminatorSection,)
