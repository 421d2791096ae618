"""Patches in the basis of their principal components: the scale in which nets see images.

The covariance of natural images is far from white: at 8x8 pixels the largest variance is some
60,000 times the smallest, and a discriminator on pixels is very late to learn the fine detail. In a
whitened basis every direction has the same scale from the first step. The basis is computed from
real images before training and never trained.

References:
    LeCun et al. (1998), "Efficient BackProp", section 4.3, for preconditioning by whitening.
"""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lapgan.errors import LapganError
from lapgan.sizes import Size, size_text

__all__ = ["PatchWhitening"]


class PatchWhitening(nn.Module):
    """Whitened principal components of the p x q patches of an image, and the way back.

        whiten(x) = diag(s)^-1 V^T (patch - m),    unwhiten(y) = V diag(s) y + m
        C = V diag(v) V^T,    s = sqrt(v + floor^2)

    m and C are mean and covariance of the patches that `fit` was given. Components come in the
    order of falling variance.

    Args:
        size: height and width of the images, in pixels.
        patch: height and width of a patch, in pixels; divides `size`.
        centered: subtract the mean, as for images; the mean of residuals is about 0.
        floor: directions with a smaller standard deviation than this are not scaled up to 1; in the
            scale of the images.

    Raises:
        LapganError: patches do not fill the images.
    """

    mean: Tensor
    down: Tensor
    up: Tensor

    def __init__(self, size: Size, patch: Size, centered: bool = True, floor: float = 0.01) -> None:
        super().__init__()
        if size[0] % patch[0] or size[1] % patch[1]:
            raise LapganError(
                f"patches of {size_text(patch)} do not fill images of {size_text(size)}; use a "
                "patch that divides both sides."
            )
        self.patch, self.centered, self.floor = patch, centered, floor
        self.grid = (size[0] // patch[0], size[1] // patch[1])
        self.components = 3 * patch[0] * patch[1]
        self.register_buffer("mean", torch.zeros(self.components))
        self.register_buffer("down", torch.eye(self.components))
        self.register_buffer("up", torch.eye(self.components))

    def fit(self, images: Float[Tensor, "n 3 h w"]) -> None:
        """Sets the basis from images."""
        patches = self.patchify(images).permute(0, 2, 3, 1).reshape(-1, self.components)
        # On the CPU, whose eigenvectors are the same everywhere and which has float64.
        patches = patches.cpu().double()
        if self.centered:
            self.mean.copy_(patches.mean(0))
        deviations = (patches - patches.mean(0)).T
        variances, vectors = torch.linalg.eigh(deviations @ deviations.T / len(patches))
        variances, vectors = variances.flip(0).clamp(min=0), vectors.flip(1)
        scale = (variances + self.floor**2).sqrt()
        self.down.copy_((vectors / scale).T)
        self.up.copy_(vectors * scale)

    def whiten(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c gh gw"]:
        """Turns images into maps of components, one place per patch."""
        return _exactly(self.patchify(images) - _maps(self.mean), self.down)

    def unwhiten(self, components: Float[Tensor, "b c gh gw"]) -> Float[Tensor, "b 3 h w"]:
        """Turns maps of components into images: the inverse of `whiten`."""
        return self._unpatchify(_exactly(components, self.up) + _maps(self.mean))

    def unwhiten_difference(
        self, components: Float[Tensor, "b c gh gw"]
    ) -> Float[Tensor, "b 3 h w"]:
        """Turns differences of components into differences of images: no mean is added."""
        return self._unpatchify(_exactly(components, self.up))

    def patchify(self, x: Tensor) -> Tensor:
        """Turns (B, C, H, W) into (B, C p q, H/p, W/q)."""
        (b, c, h, w), (p, q) = x.shape, self.patch
        gh, gw = h // p, w // q
        x = x.reshape(b, c, gh, p, gw, q).permute(0, 2, 4, 1, 3, 5).reshape(b, gh, gw, c * p * q)
        # Laid out with channels last, in which a CPU's convolutions are fastest.
        return x.permute(0, 3, 1, 2)

    def _unpatchify(self, x: Tensor) -> Tensor:
        """Turns (B, C p q, H/p, W/q) into (B, C, H, W): the inverse of `patchify`."""
        (gh, gw), (p, q) = x.shape[2:], self.patch
        channels = x.shape[1] // (p * q)
        x = x.permute(0, 2, 3, 1).reshape(x.shape[0], gh, gw, channels, p, q)
        return x.permute(0, 3, 1, 4, 2, 5).reshape(x.shape[0], channels, gh * p, gw * q)


def _exactly(x: Tensor, matrix: Tensor) -> Tensor:
    """Multiplies each place by a matrix in float32: whitening amplifies rounding errors."""
    kind = x.device.type
    amp = torch.amp.is_autocast_available(kind)
    # CUDA convolves float32 in TF32 by default. A compiler cannot trace the switch.
    switch = kind == "cuda" and not torch.compiler.is_compiling()
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if switch else nullcontext()
    with torch.autocast(kind, enabled=False) if amp else nullcontext(), exact:
        return F.conv2d(x.float(), _maps(matrix))


def _maps(tensor: Tensor) -> Tensor:
    """Adds the axes of height and width."""
    return tensor[..., None, None]
