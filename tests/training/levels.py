"""Levels in tests: another recipe for one, when it is stopped, and what it has saved by then."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import safetensors.torch
from torch import Tensor

from lapgan.recipe import check_recipe
from lapgan.training.level import LevelTask


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
