"""When a level is stopped, and what it has kept by then."""

from collections.abc import Callable

import safetensors.torch
from torch import Tensor

from lapgan.training.job import LevelTask


def state_of(job: LevelTask) -> dict[str, Tensor]:
    return safetensors.torch.load_file(job.folder / "state.safetensors")


def after(steps: int) -> Callable[[], bool]:
    """Says stop when asked for the time after `steps` steps; it is asked before each."""
    calls = iter(range(10_000))
    return lambda: next(calls) >= steps
