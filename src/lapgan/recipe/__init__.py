"""Recipes: everything that shapes the result of a training run, as a TOML file.

Unknown keys are errors. Levels are keyed by their size, finest first: `[levels.28]`, `[levels.14]`,
`[levels.8]`, or `[levels.48x64]` (height x width).
"""

from lapgan.recipe.reading import (
    change_sampling,
    check_recipe,
    read_recipe,
    recipe_names,
    recipe_text,
)
from lapgan.recipe.schema import LevelRecipe, Recipe, TrainingRecipe

__all__ = [
    "LevelRecipe",
    "Recipe",
    "TrainingRecipe",
    "change_sampling",
    "check_recipe",
    "read_recipe",
    "recipe_names",
    "recipe_text",
]
