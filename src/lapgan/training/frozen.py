"""Frozen levels: a run takes them from the model that it starts from, and does not train them.

Their weights become the run's own before anything is trained, so that the run is a whole model.
"""

from collections.abc import Sequence
from pathlib import Path

from lapgan.errors import LapganError
from lapgan.recipe import LevelRecipe, Recipe
from lapgan.run_folder import RunFolder
from lapgan.training.starting import StartingModel
from lapgan.weights import Weights, write_weights

__all__ = ["check_frozen_levels", "copy_frozen_levels"]


def check_frozen_levels(
    out: Path, start: StartingModel | None, recipe: Recipe, class_names: Sequence[str]
) -> None:
    """Raises what `copy_frozen_levels` would raise."""
    for level in _levels_to_copy(out, recipe):
        _take_level(start, recipe, level, class_names)


def copy_frozen_levels(
    out: Path, start: StartingModel | None, recipe: Recipe, class_names: Sequence[str]
) -> None:
    """Writes the weights of frozen levels into the folder of a run, where they are not there yet.

    Args:
        out: the run's folder.
        start: the trained model that has them; None where the run has them.
        recipe: of the run.
        class_names: of the run; empty without classes.

    Raises:
        LapganError: there is no such model, its level is another one, or a file cannot be written.
    """
    for level in _levels_to_copy(out, recipe):
        path = RunFolder(out).part(level.name).weights
        path.parent.mkdir(parents=True, exist_ok=True)
        write_weights(path, _take_level(start, recipe, level, class_names))


def _levels_to_copy(out: Path, recipe: Recipe) -> list[LevelRecipe]:
    folder = RunFolder(out)
    return [x for x in recipe.levels if x.frozen and folder.part(x.name).chosen is None]


def _take_level(
    start: StartingModel | None, recipe: Recipe, level: LevelRecipe, class_names: Sequence[str]
) -> Weights:
    if start is None:
        raise LapganError(
            f"levels.{level.name}.frozen: this level is not trained, and needs the model that it "
            "is taken from: --start-from MODEL; or set it to false."
        )
    return start.take_level(level, recipe, class_names)
