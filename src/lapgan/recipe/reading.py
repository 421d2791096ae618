"""The only reader of recipes: by name, from a TOML file, or from plain data."""

import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from lapgan.errors import LapganError
from lapgan.recipe.schema import Recipe
from lapgan.section import parse_toml, validate

__all__ = ["change_sampling", "check_recipe", "read_recipe", "recipe_names", "recipe_text"]


def recipe_names() -> list[str]:
    """Returns the names of the recipes that come with the package."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in resources.files("lapgan.recipes").iterdir()
        if entry.name.endswith(".toml")
    )


def read_recipe(source: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Reads a recipe by its name or from a TOML file.

    >>> lapgan.read_recipe("paper-cifar10").sizes
    [(28, 28), (14, 14), (8, 8)]
    >>> lapgan.read_recipe("paper-cifar10", ["training.batch=64"]).training.batch
    64

    Args:
        source: the name of a recipe of the package, or the path of a TOML file.
        overrides: changes as `key.key=value`, with values written as in TOML.

    Raises:
        LapganError: there is no such recipe, it is not TOML, or a key is unknown or wrong.
    """
    content = parse_toml(recipe_text(source), f"recipe {source}")
    for override in overrides:
        _override(content, override)
    return check_recipe(content, str(source))


def check_recipe(content: Mapping[str, Any], source: str) -> Recipe:
    """Makes a recipe of plain data; errors name `source` and the key.

    Raises:
        LapganError: a key is unknown, missing or wrong.
    """
    return validate(Recipe, _without_retired_keys(content, source), f"recipe {source}")


def change_sampling(recipe: Recipe, overrides: Iterable[str]) -> Recipe:
    """Changes what only sampling reads: `levels.SIZE.conditioning_noise.sample`.

    Args:
        recipe: of a trained model, for which all other keys are settled.
        overrides: changes as `levels.SIZE.conditioning_noise.sample=NUMBER`.

    Raises:
        LapganError: it is another key, the level has no conditioning noise, or the value is wrong.
    """
    keys = [
        f"levels.{level.name}.conditioning_noise.sample"
        for level in recipe.levels
        if level.conditioning_noise is not None
    ]
    content = recipe.model_dump(mode="json", by_alias=True)
    for override in overrides:
        if override.partition("=")[0].strip() not in keys:
            which = f"one of {', '.join(keys)}" if keys else "none, for want of conditioning noise"
            raise LapganError(
                f"--set {override}: a trained model has its other keys for good; expected {which}."
            )
        _override(content, override)
    return check_recipe(content, recipe.name)


def recipe_text(source: str | Path) -> str:
    """Returns the TOML of a recipe by its name, or of a file.

    Raises:
        LapganError: there is no such recipe, or it is not text.
    """
    name, path = str(source), Path(source)
    if name in recipe_names():
        return (resources.files("lapgan.recipes") / f"{name}.toml").read_text(encoding="utf-8")
    if not path.is_file():
        raise LapganError(
            f"recipe {name}: there is no such file, and no recipe of that name. The package has: "
            f"{', '.join(recipe_names())}."
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise LapganError(f"recipe {path}: this is not text: {error}.") from None


def _without_retired_keys(content: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """Drops what files of earlier versions have without effect; refuses what had an effect."""
    for name, level in _mapping(content.get("levels")).items():
        if _mapping(_mapping(level).get("discriminator")).get("kind") == "projected":
            raise LapganError(
                f"recipe {source}: levels.{name}.discriminator: the kind 'projected' was removed, "
                "so its runs cannot be continued; use 'modern-patch' in a new run."
            )
    training = _mapping(content.get("training"))
    if training.get("exposure"):
        raise LapganError(
            f"recipe {source}: training.exposure: it was removed, so its runs cannot be continued; "
            "delete the key and begin a new run (levels.SIZE.generated_low is its successor)."
        )
    if "exposure" not in training:
        return content
    remaining = {key: value for key, value in training.items() if key != "exposure"}
    return {**content, "training": remaining}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _override(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise LapganError(
            f"--set {override}: expected key=value, such as training.batch=64 or "
            "levels.28.generator.maps=32."
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    *parents, last = key.strip().split(".")
    node = content
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            raise LapganError(f"--set {override}: {parent} is a value and has no keys of its own.")
    node[last] = value
