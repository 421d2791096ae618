"""The Inception net of FID, by torch-fidelity; its weights are checked and never unpickled."""

import hashlib
import io
import pickle
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import torch
from torch import nn
from torch_fidelity import FeatureExtractorInceptionV3
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

from lapgan.errors import LapganError

__all__ = ["DIGEST", "LAYERS", "NAME", "load_inception"]

NAME = "inception-v3-compat"
LAYERS = ["2048", "logits_unbiased"]
_FILE = URL_INCEPTION_V3.rpartition("/")[2]
# PyTorch's file names end in the first digits of the content's SHA-256.
DIGEST = Path(_FILE).stem.rpartition("-")[2]
_SECONDS = 10.0


def load_inception(weights: Path | None = None) -> nn.Module:
    """Builds torch-fidelity's Inception-v3 with the weights that FID is defined by.

    Args:
        weights: the weights' file; by default from PyTorch's cache of downloads, or fetched there.

    Raises:
        LapganError: the file is missing, is not the expected one, or cannot be downloaded.
    """
    path = _download() if weights is None else weights
    # torch-fidelity unpickles its file, so it gets one with tensors only, which we wrote.
    file = io.BytesIO()
    torch.save(_read_state(path), file)
    file.seek(0)
    net: nn.Module = FeatureExtractorInceptionV3(NAME, LAYERS, feature_extractor_weights_path=file)
    return net


def _read_state(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LapganError(
            f"{path}: the Inception weights cannot be read ({error.strerror or error}). {_ADVICE}"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if not digest.startswith(DIGEST):
        raise LapganError(
            f"{path}: not the Inception weights of FID: its SHA-256 begins with {digest[:8]}, "
            f"expected {DIGEST}. {_ADVICE}"
        )
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise LapganError(f"{path}: holds more than tensors; it was not loaded.") from error
    return state


def _download() -> Path:
    path: Path = Path(torch.hub.get_dir()) / "checkpoints" / _FILE
    if path.is_file():
        return path
    try:
        # The download itself has no time limit, so an unreachable host is detected first.
        urlopen(Request(URL_INCEPTION_V3, method="HEAD"), timeout=_SECONDS).close()
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), DIGEST, progress=False)
    except (URLError, HTTPException, OSError, RuntimeError) as error:
        raise LapganError(
            f"The Inception weights cannot be fetched from {URL_INCEPTION_V3} ({error}). {_ADVICE}"
        ) from error
    return path


_ADVICE = (
    f"Fetch {URL_INCEPTION_V3} on a machine with internet and pass it by --inception-weights PATH, "
    "or use the offline scores (fd-lite0, kid-lite0), which need no download."
)
