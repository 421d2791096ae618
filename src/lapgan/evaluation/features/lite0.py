"""EfficientNet-Lite0 as an extractor of torch-fidelity, with weights from a Python package.

Importing this module registers it there as `efficientnet-lite0`. Needs the extra `eval`; import it
by `lapgan.evaluation.features.extract.load_extractor`, which says what to install.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor
from torch_fidelity import FeatureExtractorBase, register_feature_extractor

from lapgan.models.efficientnet import DIGESTS, EfficientNetName, load_efficientnet

__all__ = ["DIGEST", "NAME", "Lite0"]

NAME: EfficientNetName = "efficientnet-lite0"
DIGEST = DIGESTS[NAME]
_LAYER = "1280"


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
        self.net = load_efficientnet(NAME, self.INPUT_IMAGE_SIZE)

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


register_feature_extractor(NAME, Lite0)
