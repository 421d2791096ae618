"""Features of images by a pretrained net, from which scores of sets of images are computed."""

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import safetensors
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from lapgan.data import Images, default_cache
from lapgan.distributed import Ranks, decide_together, gather_rows, sharing_ranks
from lapgan.errors import LapganError, requires
from lapgan.evaluation.real import check_indices, read_crops
from lapgan.progress import tracked
from lapgan.sizes import Size, size_text
from lapgan.weights import tensors_digest, write_tensors

__all__ = [
    "DIMENSIONS",
    "Extractor",
    "ExtractorName",
    "Features",
    "check_images",
    "check_labels",
    "check_same_size",
    "extract_features",
    "load_extractor",
    "read_real_features",
]

ExtractorName = Literal["lite0", "inception"]
DIMENSIONS: dict[ExtractorName, int] = {"lite0": 1280, "inception": 2048}

# Raise this when the same key gives other features, or the files change their format.
_FORMAT = 1
# Small enough for the activations of a block to stay in a CPU's cache.
_BATCH = 16


@dataclass(frozen=True, eq=False)
class Extractor:
    """A pretrained net that turns images into features.

    Args:
        name: goes into the name of every score.
        version: what the features depend on: weights, layers, resizing.
        net: an extractor of torch-fidelity.
        device: where it runs.
    """

    name: ExtractorName
    version: str
    net: nn.Module = field(repr=False)
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)


@dataclass(frozen=True, eq=False)
class Features:
    """Features of n images.

    Args:
        values: float32 or float64 (n, d), all finite.
        extractor: the name of the net they come from.
        logits: the net's class scores without their bias (n, classes), for the Inception score.

    Raises:
        LapganError: they are no matrix, or not finite.
    """

    values: Tensor = field(repr=False)
    extractor: ExtractorName = "lite0"
    logits: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.values.dim() != 2 or not self.values.is_floating_point():
            raise LapganError(
                f"features: expected a matrix of floats (n, d), found {self.values.dtype} "
                f"{tuple(self.values.shape)}."
            )
        bad = (~self.values.isfinite()).any(dim=1).nonzero().flatten()
        if len(bad):
            raise LapganError(
                f"features: those of image {int(bad[0])} and {len(bad) - 1} others are not finite. "
                "Look for NaN in the images or in the net's weights."
            )

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Tensor) -> "Features":
        """Returns the features of some images, by indices or by a mask."""
        logits = None if self.logits is None else self.logits[rows]
        return Features(self.values[rows], self.extractor, logits)


def load_extractor(
    name: str = "lite0", *, weights: Path | None = None, device: torch.device | str = "cpu"
) -> Extractor:
    """Loads a pretrained net; its weights are checked before they are read.

    Args:
        name: `lite0` (EfficientNet-Lite0 at 128x128 pixels, 1280 features, needs no network) or
            `inception` (torch-fidelity's Inception-v3, 2048 features).
        weights: for `inception`, the weights' file; by default fetched once.
        device: where to run. Features are float32 everywhere.

    Raises:
        LapganError: no such name, the extra `eval` is not installed, or the weights are missing,
            cannot be downloaded, or are not the expected ones.
    """
    if name not in DIMENSIONS:
        raise LapganError(f"extractor {name!r}: expected one of {', '.join(DIMENSIONS)}.")
    place = torch.device(device)
    with requires("eval", f"the extractor {name}"):
        extractor = _load_lite0() if name == "lite0" else _load_inception(weights)
    return Extractor(extractor.name, extractor.version, extractor.net.to(place), place)


def _load_lite0() -> Extractor:
    from lapgan.evaluation.features.lite0 import DIGEST, NAME, Lite0

    version = f"{DIGEST}, {Lite0.INPUT_IMAGE_SIZE} pixels, bicubic"
    return Extractor("lite0", version, Lite0(NAME, ["1280"]).eval())


def _load_inception(weights: Path | None) -> Extractor:
    from lapgan.evaluation.features.inception import DIGEST, LAYERS, load_inception

    return Extractor("inception", f"{DIGEST}, {LAYERS}", load_inception(weights))


def check_images(images: Tensor, what: str) -> None:
    """Refuses images that are no uint8 (n, 3, h, w).

    Args:
        images: the images.
        what: their name in the message.

    Raises:
        LapganError: another type or shape, no images, or NaN where floats were given.
    """
    if images.is_floating_point() and images.dim() == 4 and images.numel():
        bad = images.isnan().flatten(1).any(dim=1).nonzero().flatten()
        if len(bad):
            raise LapganError(
                f"{what}: image {int(bad[0])} and {len(bad) - 1} others hold NaN. Fix the code "
                "that produced them, or retrain the model."
            )
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
        raise LapganError(
            f"{what}: expected pixels of 0 to 255, uint8 (n, 3, h, w); found {images.dtype} "
            f"{tuple(images.shape)}."
        )
    if not images.numel():
        raise LapganError(f"{what}: there are no images.")


def check_labels(what: str, features: Features, labels: Tensor) -> None:
    """Raises a LapganError, which names `what`, unless there is one label per image."""
    if labels.shape != (len(features),):
        raise LapganError(
            f"{what}: expected one for each of {len(features)} images, found {tuple(labels.shape)}."
        )


def check_same_size(real: Size, fake: Size) -> None:
    """Refuses to compare images of different sizes, a mistake that resizing would hide.

    Raises:
        LapganError: the sizes differ.
    """
    if tuple(real) != tuple(fake):
        raise LapganError(
            f"real images are {size_text(real)} and generated ones {size_text(fake)}; crop or "
            "resize one of them first (nothing is resized silently)."
        )


@torch.inference_mode()
def extract_features(
    images: UInt8[Tensor, "n 3 h w"], extractor: Extractor, what: str = "images"
) -> Features:
    """Computes the features of images.

    Within `lapgan.distributed.share_work` the images are divided over the ranks.

    Args:
        images: pixels of 0 to 255.
        extractor: the net.
        what: the images' name in messages and under the progress bar.

    Raises:
        LapganError: see `check_images`.
    """
    check_images(images, what)
    batches, ranks = torch.split(images, _BATCH), sharing_ranks()
    if len(batches) < ranks.size:
        ranks = Ranks()  # each computes all of them, so that none has nothing
    own = tracked(
        batches[ranks.share_of(len(batches))],
        f"{extractor.name} features of {what}",
        enabled=None if ranks.is_main else False,
    )
    with _exactly(extractor.device):
        outputs = [[x.cpu() for x in extractor.net(batch.to(extractor.device))] for batch in own]
    values, *logits = (
        torch.cat(gather_rows(torch.cat(output), ranks)) for output in zip(*outputs, strict=True)
    )
    return Features(values, extractor.name, *logits)


def _exactly(device: torch.device) -> AbstractContextManager[object]:
    """Keeps CUDA from convolving in TF32, as it does by default."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def read_real_features(
    images: Images,
    indices: Sequence[int] | NDArray[np.int64],
    extractor: Extractor,
    *,
    size: Size | None = None,
    cache: Path | None = None,
) -> Features:
    """Returns the features of `read_crops`, computed once and then read from the cache.

    A damaged entry is computed again. Ranks that share the work compute what one of them lacks, and
    the first writes it.

    Args:
        images: the data.
        indices: which of them.
        extractor: the net.
        size: height and width of the crops; by default the whole images.
        cache: the folder for features; beside the decoded images if None.

    Raises:
        LapganError: see `read_crops`; or the cache cannot be written.
    """
    chosen = check_indices(images, indices)
    size = size or images.size
    path = _cache_path(images, chosen, extractor, size, cache or default_cache())
    cached, ranks = _read(path, extractor.name), sharing_ranks()
    missing = cached is None or len(cached) != len(chosen)
    if cached is not None and not (decide_together(missing) if ranks.size > 1 else missing):
        return cached
    features = extract_features(read_crops(images, chosen, size), extractor, images.name)
    if ranks.is_main:
        _write(path, features)
    return features


def _cache_path(
    images: Images, indices: NDArray[np.int64], extractor: Extractor, size: Size, cache: Path
) -> Path:
    digest = hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest()
    key = repr((_FORMAT, images.fingerprint, digest, tuple(size), extractor.name,
                extractor.version))  # fmt: skip
    return cache / "features" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"


def _read(path: Path, extractor: ExtractorName) -> Features | None:
    """Reads an entry; None if it does not exist or is damaged."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        if metadata.get("sha256") != tensors_digest("", tensors):
            return None
        return Features(tensors["values"], extractor, tensors.get("logits"))
    except (OSError, SafetensorError, KeyError, LapganError):
        return None


def _write(path: Path, features: Features) -> None:
    tensors = {"values": features.values}
    if features.logits is not None:
        tensors["logits"] = features.logits
    write_tensors(path, tensors, {"sha256": tensors_digest("", tensors)})
