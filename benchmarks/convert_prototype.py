"""Makes the packaged model `cifar10-cc` from the three files of the prototype of its recipe.

    python benchmarks/convert_prototype.py FOLDER --out cifar10-cc.safetensors

FOLDER holds level8.safetensors, level16.safetensors and level32.safetensors: averaged generators,
with large weights in int8 and one float32 scale per output channel, named `<tensor>:scale`. The
tensors have the names that they have in `lapgan.models.residual`.
"""

from pathlib import Path
from typing import Annotated, Any

import safetensors.torch
import typer
from safetensors import SafetensorError
from torch import Tensor

from lapgan.cascade.levels import build_level
from lapgan.errors import LapganError
from lapgan.normalization import symmetric_normalization
from lapgan.recipe import Recipe, read_recipe
from lapgan.weights import Weights, normalization_tensors, quantize, write_weights

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
# Level 8 was trained beside two others, levels 16 and 32 beside each other, on one card.
IMAGES_AND_SECONDS = {"8": (3_900_000, 310.0), "16": (4_200_000, 440.0), "32": (1_900_000, 440.0)}


def main(
    folder: Annotated[Path, typer.Argument(help="With level8, level16, level32.safetensors.")],
    out: Annotated[Path, typer.Option()] = Path("cifar10-cc.safetensors"),
) -> None:
    weights = convert(folder, read_recipe("cifar10-cc"))
    write_weights(out, quantize(weights))
    print(f"wrote {out}, {out.stat().st_size / 2**20:.1f} MiB")


def convert(folder: Path, recipe: Recipe) -> Weights:
    """Returns the weights of the prototype's generators as those of a recipe.

    Raises:
        LapganError: a file is missing or damaged, or does not fit the recipe's nets.
    """
    tensors = normalization_tensors(symmetric_normalization(recipe.sizes[0]))
    for name in recipe.level_names:
        level = read_level(folder / f"level{name}.safetensors")
        tensors |= {f"levels.{name}.generator.{key}": tensor for key, tensor in level.items()}
    training = {name: training_figures(name) for name in recipe.level_names}
    weights = Weights(tensors, recipe, CLASSES, training)
    for level_recipe in recipe.levels:
        build_level(folder, weights, level_recipe)
    return weights


def read_level(path: Path) -> dict[str, Tensor]:
    """Reads one level's file: int8 tensors times their scales, and the others as they are."""
    try:
        stored = safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise LapganError(
            f"{path}: cannot be read ({error}); name the folder with the prototype's three files."
        ) from None
    return {
        name: tensor * stored[f"{name}:scale"].view(-1, *[1] * (tensor.dim() - 1))
        if f"{name}:scale" in stored
        else tensor.float()
        for name, tensor in stored.items()
        if not name.endswith(":scale")
    }


def training_figures(level: str) -> dict[str, Any]:
    images, seconds = IMAGES_AND_SECONDS[level]
    return {
        "images_seen": images,
        "seconds": seconds,
        "seed": "not fixed",
        "data": {"name": "cifar10"},
        "compute": "cuda, bfloat16 (one NVIDIA H200; a prototype of the recipe)",
    }


if __name__ == "__main__":
    typer.run(main)
