"""Commands about models and recipes: describe, pack, list."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from lapgan.cli.options import Json, ModelPath, complete_recipe, console, print_json
from lapgan.errors import LapganError

if TYPE_CHECKING:
    from lapgan.weights import Weights

__all__ = ["info", "pack", "recipes"]


def info(model: ModelPath, json: Json = False) -> None:
    """Describe a trained model."""
    from lapgan.weights import read_weights

    weights = read_weights(model)
    if json:
        print_json(_describe(weights))
    else:
        _print_info(weights)


def _print_info(weights: "Weights") -> None:
    from lapgan.run_folder import CLASSIFIER

    recipe, counts = weights.recipe, _count_parameters(weights)
    console.print(f"{recipe.name}: {escape(recipe.description)}")
    console.print(f"operator {recipe.pyramid.operator}, data {recipe.data.normalisation}")
    console.print(f"classes: {', '.join(map(escape, weights.class_names)) or 'none'}")
    for name in recipe.level_names:
        figures = weights.training.get(name)
        history = "no weights yet" if figures is None else _describe_training(figures)
        console.print(f"level {name}: {counts[name]:,} parameters in G, {history}")
    if weights.classifier is not None:
        history = _describe_training(weights.training[CLASSIFIER])
        console.print(f"classifier of level {weights.classifier.level}: {history}")


def pack(
    model: ModelPath,
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Store large weights in 8 bits, with one scale per output channel."
        ),
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change levels.SIZE.conditioning_noise.sample; repeatable.",
        ),
    ] = None,
) -> None:
    """Write a trained model as one small file, in half precision or 8 bits."""
    from lapgan.recipe import change_sampling
    from lapgan.weights import halve_precision, quantize, read_weights, write_weights

    if out.suffix != ".safetensors":
        raise LapganError(f"--out {out}: expected a name that ends in .safetensors.")
    weights = read_weights(model)
    weights.check_complete(model)
    weights = replace(weights, recipe=change_sampling(weights.recipe, set_ or ()))
    write_weights(out, quantize(weights) if int8 else halve_precision(weights))
    console.print(f"wrote {escape(str(out))}, {out.stat().st_size / 2**20:.1f} MiB")


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="Print this one instead.", autocompletion=complete_recipe
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List the recipes of the package, or print one."""
    from lapgan.recipe import read_recipe, recipe_names, recipe_text

    if json:
        recipes = [name] if name is not None else recipe_names()
        print_json([read_recipe(recipe).model_dump(mode="json") for recipe in recipes])
        return
    if name is not None:
        typer.echo(recipe_text(name))
        return
    for recipe in recipe_names():
        console.print(f"{recipe:18} {escape(read_recipe(recipe).description)}")


def _describe(weights: "Weights") -> dict[str, Any]:
    """Returns what a weights file holds as plain data."""
    counts = _count_parameters(weights)
    return {
        "recipe": weights.recipe.model_dump(mode="json"),
        "class_names": weights.class_names,
        "levels": [
            {"name": name, "parameters": counts[name], "training": weights.training.get(name)}
            for name in weights.recipe.level_names
        ],
        "missing": weights.missing,
        "classifier": weights.classifier and weights.classifier.model_dump(mode="json"),
    }


def _count_parameters(weights: "Weights") -> dict[str, int]:
    """Returns how many parameters the generator of each level has."""
    from lapgan.weights import generator_state

    return {
        name: sum(t.numel() for t in generator_state(name, weights.tensors).values())
        for name in weights.recipe.level_names
    }


def _describe_training(figures: "dict[str, object]") -> str:
    data = figures["data"]
    name = data["name"] if isinstance(data, dict) else data
    selection = figures.get("selection")
    selected = f", selected by {selection['by']}" if isinstance(selection, dict) else ""
    start = figures.get("start_from")
    started = f", from {start['model']}" if isinstance(start, dict) else ""
    return (
        f"{figures['images_seen']:,} images in {figures['seconds']} s on {name}{started}, "
        f"seed {figures['seed']}, {figures['compute']}{selected}"
    )
