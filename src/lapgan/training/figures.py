"""What a weights file records about the training of a part."""

from typing import Any

import torch

from lapgan.batches import TrainingSet
from lapgan.compute import Compute
from lapgan.training.state import TrainingState

__all__ = ["training_figures"]


def training_figures(
    state: TrainingState, seed: int, batches: TrainingSet, compute: Compute
) -> dict[str, Any]:
    """Returns images seen, seconds, seed, data and machine, as plain data."""
    return {
        "images_seen": state.images_seen,
        "seconds": round(state.seconds, 1),
        "seed": seed,
        "data": {"name": batches.name, "fingerprint": batches.fingerprint},
        "compute": str(compute),
        "torch": torch.__version__,
    }
