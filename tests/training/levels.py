"""Levels in tests: another recipe for one, when it is stopped, what it has saved, a model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from lapgan.normalization import symmetric_normalization
from lapgan.recipe import Recipe, check_recipe
from lapgan.training.level import LevelTask
from lapgan.weights import Weights, generator_tensors, normalization_tensors, write_weights


def content_of(task: LevelTask) -> dict[str, Any]:
    """The recipe of a task as plain data, to be changed."""
    return task.recipe.model_dump(mode="json")


def revise(task: LevelTask, content: dict[str, Any], level: str) -> LevelTask:
    """The same task for a level of another recipe."""
    recipe = check_recipe(content, "tiny")
    return replace(task, recipe=recipe, level=recipe.level(level))


def state_of(task: LevelTask) -> dict[str, Tensor]:
    return safetensors.torch.load_file(task.folder.state)


def after(steps: int) -> Callable[[], bool]:
    """Says stop after `steps` steps; the loop asks before each."""
    calls = iter(range(10_000))
    return lambda: next(calls) >= steps


def write_model(path: Path, recipe: Recipe, class_names: tuple[str, ...] = ()) -> Path:
    """A model with random numbers in every tensor of its generators."""
    tensors: dict[str, Tensor] = {}
    for level in recipe.levels:
        tensors |= generator_tensors(level.name, level.build_generator(len(class_names)))
    drawn = {
        name: torch.randn(t.shape) if t.is_floating_point() else t for name, t in tensors.items()
    }
    drawn |= normalization_tensors(symmetric_normalization(recipe.sizes[0]))
    write_weights(path, Weights(drawn, recipe, class_names, {}))
    return path
