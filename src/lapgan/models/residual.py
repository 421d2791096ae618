"""Residual nets for machines with matrix units: about 5 to 8 million weights per net and level.

A block of G normalizes its maps by groups, and the style w modulates them:

    h = conv(silu(GN(x))),    y = skip(x) + conv_0(silu((1 + a) GN(h) + b)),    (a, b) = W w
    w = silu(B silu(A [z_v, e_c, 10 sigma]))

z_v is the noise vector, e_c the embedding of the class, and sigma the standard deviation of the
conditioning noise. conv_0 starts at zero, so that a block starts as its skip.

References:
    He et al. (2016), "Identity mappings in deep residual networks"; Wu and He (2018), "Group
    normalization"; Dhariwal and Nichol (2021), section 3, for the modulation after the second
    normalization; Ho et al. (2022), "Cascaded diffusion models", section 4, for sigma.
"""

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from lapgan.errors import LapganError
from lapgan.models.contracts import DataInitialized
from lapgan.models.group_norm import normalize_groups, normalize_groups_fused
from lapgan.models.heads import he_normal_
from lapgan.models.noise_planes import count_values, fits_any_size, make_planes
from lapgan.noise import PLANE_NOISES, AnyNoise, MixedNoise, VectorNoise
from lapgan.section import Count, Section
from lapgan.sizes import Size, size_text

__all__ = [
    "GENERATORS",
    "ResidualGenerator",
    "ResidualGeneratorSection",
    "ResidualVectorGenerator",
    "ResidualVectorGeneratorSection",
    "check_grids",
    "conv",
    "cut_patches",
    "halve",
]

Grid = Literal["same", "up", "down"]
# Length of a class's embedding where there is no noise vector.
_EMBEDDING = 64
Maps = Annotated[tuple[Count, ...], Field(min_length=1)]


class Style(nn.Module):
    """w = silu(B silu(A [z, e_c, ...])), what modulates the blocks of a generator.

    Args:
        noise: length of the noise vector, and of the embedding of a class (64 without a vector).
        units: length of w.
        num_classes: how many classes condition it; 0 for none.
        figures: how many further numbers enter.
    """

    def __init__(self, noise: int, units: int, num_classes: int, figures: int = 0) -> None:
        super().__init__()
        embedding = noise or _EMBEDDING
        self.embedding = nn.Embedding(num_classes, embedding) if num_classes else None
        self.first = nn.Linear(noise + embedding * bool(num_classes) + figures, units)
        self.second = nn.Linear(units, units)

    def join(self, z: Tensor, label: Tensor | None) -> Tensor:
        """Returns [z, e_c], or z without classes."""
        return z if self.embedding is None else torch.cat((z, self.embedding(label)), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Turns what enters (B, inputs) into w (B, units)."""
        w: Tensor = F.silu(self.second(F.silu(self.first(x))))
        return w


class GeneratorBlock(nn.Module):
    """Two convolutions with group normalization, the second one modulated; see the module.

    Args:
        inputs: maps of x.
        outputs: maps of y.
        style: length of w.
        groups: of the normalization; divides `inputs` and `outputs`.
        grid: `up` doubles the grid (nearest) and `down` halves it (2x2 mean), within and on the
            skip.
    """

    def __init__(
        self, inputs: int, outputs: int, style: int, groups: int, grid: Grid = "same"
    ) -> None:
        super().__init__()
        self.grid = grid
        self.norm1 = nn.GroupNorm(groups, inputs)
        self.conv1 = conv(inputs, outputs)
        self.norm2 = nn.GroupNorm(groups, outputs, affine=False)
        self.modulation = nn.Linear(style, 2 * outputs)
        he_normal_(self.modulation, 0.5)
        self.conv2 = conv(outputs, outputs, gain=0.0)
        self.skip = nn.Identity() if inputs == outputs else conv(inputs, outputs, kernel=1)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Turns maps (B, inputs, h, w) into (B, outputs, H, W)."""
        h = self.conv1(_change_grid(F.silu(_normalize(self.norm1, x)), self.grid))
        a, b = self.modulation(w).chunk(2, dim=1)
        h = self.conv2(F.silu(_modulate(self.norm2, h, 1 + a, b)))
        y: Tensor = self.skip(_change_grid(x, self.grid)) + h
        return y


class ResidualVectorGenerator(nn.Module):
    """G_K: a noise vector through a dense layer to half the grid, and residual blocks.

        image = conv(silu(GN(x))),    x = five blocks of V [z, e_c]

    The first block works on half the grid, the second one doubles it.

    Args:
        size: height and width of the image, in pixels; even.
        noise: length of the noise vector.
        maps: maps of every block.
        style: length of w.
        num_classes: how many classes condition the image; 0 for none.
        groups: of the normalization; divides `maps`.
        gain: multiplies the noise, to give it variance 1.

    Raises:
        LapganError: the size is odd, or the groups do not divide the maps.
    """

    def __init__(
        self,
        size: Size,
        noise: int = 128,
        maps: int = 256,
        style: int = 256,
        num_classes: int = 0,
        groups: int = 16,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        check_grids(size, 2)
        _check_groups(size, [maps], groups)
        self.gain, self.start = gain, (maps, size[0] // 2, size[1] // 2)
        self.style = Style(noise, style, num_classes)
        self.project = nn.Linear(noise * (1 + bool(num_classes)), math.prod(self.start))
        grids: list[Grid] = ["same", "up", "same", "same", "same"]
        self.blocks = nn.ModuleList(GeneratorBlock(maps, maps, style, groups, g) for g in grids)
        self.norm = nn.GroupNorm(groups, maps)
        self.out = conv(maps, 3, gain=0.5)

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        """Generates images (B, 3, *size) from noise (B, noise)."""
        joint = self.style.join(self.gain * z.flatten(1), label)
        w = self.style(joint)
        x = self.project(joint).view(z.shape[0], *self.start)
        for block in self.blocks:
            x = block(x, w)
        image: Tensor = self.out(F.silu(_normalize(self.norm, x)))
        return image


class ResidualGenerator(nn.Module, DataInitialized):
    """G_k: the low-pass image and planes of noise through a U-Net of residual blocks.

        h = s_h conv(silu(GN(U([2 l, z_p], w))))

    s_h is the standard deviation of real residuals per color. Two blocks per grid go down and two
    go up, and the maps of each grid are joined to those that come up to it.

    Args:
        size: height and width of the level, in pixels; divisible by patch 2^(grids - 1).
        maps: maps on each grid, finest first.
        noise: length of the noise vector, and number of noise planes; either may be 0.
        style: length of w.
        num_classes: how many classes condition the residual; 0 for none.
        groups: of the normalization; divides every number of maps.
        gain: multiplies the noise, to give it variance 1.
        patch: the finest grid has one place per patch of so many pixels squared. Larger patches
            make fewer and larger products, which suits a CPU.

    Raises:
        LapganError: the size cannot be halved that often, or the groups do not divide the maps.

    References:
        Ronneberger et al. (2015), "U-Net".
    """

    residual_std: Tensor

    def __init__(
        self,
        size: Size,
        maps: Sequence[int] = (128, 256),
        noise: tuple[int, int] = (64, 4),
        style: int = 256,
        num_classes: int = 0,
        groups: int = 16,
        gain: float = 1.0,
        patch: int = 1,
    ) -> None:
        super().__init__()
        check_grids(size, len(maps), patch)
        _check_groups(size, maps, groups)
        self.noise, self.gain, self.patch = noise, gain, patch
        # Turns noise that is something else into planes.
        self.to_planes: nn.Module = nn.Identity()
        self.style = Style(noise[0], style, num_classes, figures=1)
        self.register_buffer("residual_std", torch.ones(1, 3, 1, 1))
        self.into = conv((3 + noise[1]) * patch**2, maps[0])
        down, up, current = [], [], maps[0]
        for grid, count in enumerate(maps):
            down.append(GeneratorBlock(current, count, style, groups, "down" if grid else "same"))
            down.append(GeneratorBlock(count, count, style, groups))
            current = count
        for count in reversed(maps[:-1]):
            up.append(GeneratorBlock(current, count, style, groups, "up"))
            up.append(GeneratorBlock(2 * count, count, style, groups))
            current = count
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)
        self.norm = nn.GroupNorm(groups, current)
        self.out = conv(current, 3 * patch**2, gain=0.3)

    def initialize_from(self, high: Tensor, low: Tensor | None) -> None:
        """Sets s_h from real residuals (n, 3, h, w)."""
        self.residual_std.copy_(high.std((0, 2, 3), keepdim=True))

    def forward(
        self, low: Tensor | None, z: Tensor, label: Tensor | None, sigma: Tensor | None = None
    ) -> Tensor:
        """Generates residuals (B, 3, *size) for low-pass images (B, 3, *size).

        Args:
            low: l_k.
            z: noise (B, dimension + planes h w), the vector first; or planes (B, planes, h, w).
            label: class indices (B,), or None without classes.
            sigma: standard deviation (B, 1) of the conditioning noise that l_k has; None for 0.
        """
        assert low is not None, "a conditional level needs a low-pass image"
        dimension, planes = self.noise
        z = self.gain * self.to_planes(z).flatten(1)
        sigma = z.new_zeros(z.shape[0], 1) if sigma is None else sigma
        joint = self.style.join(z[:, :dimension], label)
        w = self.style(torch.cat((joint, 10 * sigma), dim=1))
        z_p = z[:, dimension:].reshape(z.shape[0], planes, *low.shape[2:])
        x = cut_patches(torch.cat((2 * low, z_p), dim=1), self.patch)
        x = self._through_grids(self.into(x), w)
        h = _join_patches(self.out(F.silu(_normalize(self.norm, x))), self.patch)
        residual: Tensor = self.residual_std * h
        return residual

    def _through_grids(self, x: Tensor, w: Tensor) -> Tensor:
        skips = []
        for first, second in zip(self.down[::2], self.down[1::2], strict=True):
            x = second(first(x, w), w)
            skips.append(x)
        # The maps of the coarsest grid go up as they are.
        skips.pop()
        for first, second in zip(self.up[::2], self.up[1::2], strict=True):
            x = second(torch.cat((first(x, w), skips.pop()), dim=1), w)
        return x


def _normalize(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """Computes norm(x)."""
    if torch.compiler.is_dynamo_compiling():
        return normalize_groups_fused(x, norm.num_groups, norm.weight, norm.bias)
    if _trains_on_cpu(x):
        return normalize_groups(x, norm.num_groups, norm.weight, norm.bias)
    y: Tensor = norm(x)
    return y


def _modulate(norm: nn.GroupNorm, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Computes scale norm(x) + shift for a norm without weights; scale and shift are (B, c)."""
    if torch.compiler.is_dynamo_compiling():
        return normalize_groups_fused(x, norm.num_groups, scale, shift)
    if _trains_on_cpu(x):
        return normalize_groups(x, norm.num_groups, scale, shift)
    y: Tensor = scale[..., None, None] * norm(x) + shift[..., None, None]
    return y


def _trains_on_cpu(x: Tensor) -> bool:
    """Whether gradients are wanted on a CPU, where PyTorch's normalization is slow."""
    return x.device.type == "cpu" and x.requires_grad


def conv(inputs: int, outputs: int, kernel: int = 3, gain: float = 1.0) -> nn.Conv2d:
    """Makes a convolution that keeps the size: weights of variance gain^2 / fan-in."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    he_normal_(layer, gain)
    return layer


def halve(x: Tensor) -> Tensor:
    """Returns the means of 2x2 places."""
    if torch.compiler.is_dynamo_compiling():
        n, c, h, w = x.shape
        return x.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))
    return F.avg_pool2d(x, 2)


def _double(x: Tensor) -> Tensor:
    """Returns every place as 2x2 places.

    Here and in `halve`, `torch.compile` makes slow kernels of the gradients of PyTorch's functions,
    or none, and fuses those of views. An export has PyTorch's functions.
    """
    if torch.compiler.is_dynamo_compiling():
        n, c, h, w = x.shape
        return x[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)
    return F.interpolate(x, scale_factor=2, mode="nearest")


def cut_patches(x: Tensor, patch: int) -> Tensor:
    """Turns (B, c, h, w) into (B, c patch^2, h / patch, w / patch), also where B is 0."""
    if patch == 1:
        return x
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // patch, patch, w // patch, patch).permute(0, 1, 3, 5, 2, 4)
    return parts.reshape(n, c * patch**2, h // patch, w // patch)


def _join_patches(x: Tensor, patch: int) -> Tensor:
    """Turns (B, c patch^2, h, w) into (B, c, h patch, w patch); the inverse of `cut_patches`."""
    if patch == 1:
        return x
    n, maps, h, w = x.shape
    c = maps // patch**2
    parts = x.reshape(n, c, patch, patch, h, w).permute(0, 1, 4, 2, 5, 3)
    return parts.reshape(n, c, h * patch, w * patch)


def check_grids(size: Size, grids: int, patch: int = 1) -> None:
    """Raises a LapganError unless images can be cut into patches, and halved to so many grids."""
    factor = patch * 2 ** (grids - 1)
    if size[0] % factor or size[1] % factor:
        patches = f"cut its images into patches of {patch}x{patch}, and then " if patch > 1 else ""
        raise LapganError(
            f"level {size_text(size)}: residual nets on {grids} grids {patches}halve its images "
            f"{grids - 1} times, so that both sides must be divisible by {factor}; choose another "
            "size, or `maps` with fewer numbers."
        )


def _check_groups(size: Size, maps: Sequence[int], groups: int) -> None:
    for count in maps:
        if count % groups:
            raise LapganError(
                f"level {size_text(size)}: {count} maps cannot be normalized in {groups} groups; "
                f"choose `maps` divisible by {groups}, or other `groups`."
            )


def _change_grid(x: Tensor, grid: Grid) -> Tensor:
    if grid == "up":
        return _double(x)
    return halve(x) if grid == "down" else x


class ResidualVectorGeneratorSection(Section):
    """A G_K of residual blocks; see `ResidualVectorGenerator`."""

    kind: Literal["residual-coarsest"] = "residual-coarsest"
    maps: Count = 256
    style: Count = 256
    groups: Count = 16
    takes_low: ClassVar[bool] = False
    takes_sigma: ClassVar[bool] = False
    takes_noise: ClassVar[tuple[type[AnyNoise], ...]] = (VectorNoise, *PLANE_NOISES)

    def build(self, size: Size, noise: AnyNoise, num_classes: int) -> nn.Module:
        """Builds the net."""
        return ResidualVectorGenerator(
            size, count_values(noise, size), self.maps, self.style, num_classes, self.groups,
            noise.variance**-0.5,
        )  # fmt: skip

    def fits_any_size(self, noise: AnyNoise, num_classes: int) -> bool:
        """Returns False: its layers are dense."""
        return False


class ResidualGeneratorSection(Section):
    """A G_k that is a U-Net of residual blocks; see `ResidualGenerator`."""

    kind: Literal["residual"] = "residual"
    maps: Maps = (128, 256)
    patch: Count = 1
    style: Count = 256
    groups: Count = 16
    takes_low: ClassVar[bool] = True
    takes_sigma: ClassVar[bool] = True
    takes_noise: ClassVar[tuple[type[AnyNoise], ...]] = (MixedNoise, VectorNoise, *PLANE_NOISES)

    def build(self, size: Size, noise: AnyNoise, num_classes: int) -> nn.Module:
        """Builds the net."""
        vector = noise.dimension if isinstance(noise, VectorNoise | MixedNoise) else 0
        planes = 0 if isinstance(noise, VectorNoise) else noise.planes
        net = ResidualGenerator(
            size, self.maps, (vector, planes), self.style, num_classes, self.groups,
            noise.variance**-0.5, self.patch,
        )  # fmt: skip
        # A vector modulates the blocks; that of a learned factor becomes planes.
        net.to_planes = nn.Identity() if vector else make_planes(noise, size)
        return net

    def fits_any_size(self, noise: AnyNoise, num_classes: int) -> bool:
        """Returns whether the net works at any size: that its grids divide."""
        return isinstance(noise, VectorNoise) or fits_any_size(noise)


GENERATORS = (ResidualVectorGeneratorSection, ResidualGeneratorSection)
