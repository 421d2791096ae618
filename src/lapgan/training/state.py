"""The state of a level in training: saved whole, read back exactly."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from lapgan.errors import LapganError
from lapgan.weights import write_tensors

__all__ = ["LevelState", "NotFiniteError", "load_state", "save_state"]


class NotFiniteError(LapganError):
    """A weight has become infinite or not a number."""


@dataclass
class LevelState:
    """Everything that a step changes.

    Random numbers have no state of their own: each step draws from the seed and `images_seen`.

    Args:
        generator: G.
        discriminator: D.
        average: G with averaged weights.
        generator_optimizer: of G.
        discriminator_optimizer: of D.
        images_seen: how many examples were seen.
        seconds: time spent in training.
    """

    generator: nn.Module
    discriminator: nn.Module
    average: nn.Module
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    images_seen: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Writes the state, whole or not at all.

        Raises:
            NotFiniteError: a weight is infinite or not a number; nothing is written.
            LapganError: the file cannot be written.
        """
        save_state(path, self._modules(), self._optimizers(), (self.images_seen, self.seconds))

    def load(self, path: Path) -> None:
        """Reads a state that `save` wrote, into this one.

        Raises:
            LapganError: the file is damaged or of another recipe.
        """
        self.images_seen, self.seconds = load_state(path, self._modules(), self._optimizers())

    def _modules(self) -> dict[str, nn.Module]:
        return {"g": self.generator, "d": self.discriminator, "average": self.average}

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {
            "g_optimiser": self.generator_optimizer,
            "d_optimiser": self.discriminator_optimizer,
        }


def save_state(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    spent: tuple[int, float],
) -> None:
    """Writes nets, their optimizers, and the images and seconds spent, whole or not at all.

    Raises:
        NotFiniteError: a weight is infinite or not a number; nothing is written.
        LapganError: the file cannot be written.
    """
    tensors = {
        f"{part}.{name}": tensor.detach().cpu().contiguous()
        for part, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise NotFiniteError(f"{name} has become infinite or not a number.")
    for part, optimizer in optimizers.items():
        tensors |= _flattened(part, optimizer)
    images_seen, seconds = spent
    write_tensors(path, tensors, {"images_seen": str(images_seen), "seconds": json.dumps(seconds)})


def load_state(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> tuple[int, float]:
    """Reads what `save_state` wrote, into these; returns the images and seconds spent.

    Raises:
        LapganError: the file is damaged or of other nets.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        for part, module in modules.items():
            module.load_state_dict(_within(part, tensors))
        for part, optimizer in optimizers.items():
            _restore(optimizer, _within(part, tensors))
        return int(metadata["images_seen"]), float(metadata["seconds"])
    except (SafetensorError, OSError, RuntimeError, KeyError) as error:
        raise LapganError(
            f"{path}: cannot be used to resume ({error}). Delete it to train this part anew."
        ) from None


def _within(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{part}."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _flattened(part: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
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
        state.setdefault(int(index), {})[name] = _laid_out_like(parameters[int(index)], tensor)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _laid_out_like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """Gives a buffer the memory format of its parameter, so that it is updated the same way."""
    if tensor.shape != parameter.shape:
        return tensor
    return torch.empty_like(parameter, requires_grad=False).copy_(tensor)
