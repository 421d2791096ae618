"""The state of a part in training: saved whole, read back exactly."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import safetensors
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from lapgan.distributed import current_ranks
from lapgan.errors import LapganError
from lapgan.weights import drop_retired, write_tensors

__all__ = [
    "NotFiniteError",
    "TrainingState",
    "load_state",
    "read_module",
    "save_state",
    "saved_images",
]


class NotFiniteError(LapganError):
    """A weight or a figure has become infinite or not a number."""


class TrainingState(Protocol):
    """Everything that a step changes.

    Random numbers have no state of their own: each step draws from the seed and `images_seen`.
    """

    images_seen: int
    seconds: float
    rollbacks: int

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The nets, by their names in the file."""

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """The optimizers, by their names in the file."""


def save_state(path: Path, state: TrainingState) -> None:
    """Writes a state, whole or not at all; of several ranks, the first does.

    Raises:
        NotFiniteError: a weight is infinite or not a number; nothing is written. All ranks raise
            it, since they have the same weights.
        LapganError: the file cannot be written.
    """
    tensors = {
        f"{part}.{name}": tensor.detach().cpu().contiguous()
        for part, module in state.modules.items()
        for name, tensor in module.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise NotFiniteError(f"{name} has become infinite or not a number.")
    if not current_ranks().is_main:
        return
    for part, optimizer in state.optimizers.items():
        tensors |= _flatten(part, optimizer)
    metadata = {"images_seen": str(state.images_seen), "seconds": json.dumps(state.seconds)}
    if state.rollbacks:
        metadata["rollbacks"] = str(state.rollbacks)
    write_tensors(path, tensors, metadata)


def load_state(path: Path, state: TrainingState) -> None:
    """Reads a state that `save_state` wrote, into this one.

    Raises:
        LapganError: the file is damaged or of other nets.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        for part, module in state.modules.items():
            module.load_state_dict(_within(part, tensors))
        for part, optimizer in state.optimizers.items():
            _restore(optimizer, _within(part, tensors))
        state.images_seen, state.seconds = (
            int(metadata["images_seen"]),
            float(metadata["seconds"]),
        )
        state.rollbacks = int(metadata.get("rollbacks", "0"))
    except (SafetensorError, OSError, RuntimeError, KeyError) as error:
        raise LapganError(
            f"{path}: cannot be used to resume ({error}). Delete it to train this part anew."
        ) from None


def read_module(path: Path, part: str) -> dict[str, Tensor]:
    """Reads the tensors of one net of a state, by its name in the file.

    Raises:
        LapganError: the file is damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(f"{part}.")]  # noqa: SIM118
            return _within(part, {name: file.get_tensor(name) for name in names})
    except (SafetensorError, OSError) as error:
        raise LapganError(f"{path}: cannot be read ({error}).") from None


def saved_images(path: Path) -> int:
    """Returns after how many images a state was saved.

    Raises:
        LapganError: the file is damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return int(file.metadata()["images_seen"])
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        raise LapganError(
            f"{path}: cannot be used to go back to ({error}). Delete it to go on without it."
        ) from None


def _within(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{part}."
    kept = drop_retired(tensors)
    return {k.removeprefix(prefix): v for k, v in kept.items() if k.startswith(prefix)}


def _flatten(part: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{part}.{index}.{name}": value.detach().cpu().contiguous()
        for index, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
        if value is not None
    }


def _restore(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = _match_layout(parameters[int(index)], tensor)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _match_layout(parameter: Tensor, tensor: Tensor) -> Tensor:
    """Gives a buffer the memory format of its parameter, so that it is updated the same way."""
    if tensor.shape != parameter.shape:
        return tensor
    return torch.empty_like(parameter, requires_grad=False).copy_(tensor)
