"""The command that joins levels which were trained apart."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from lapgan.cli.options import console
from lapgan.errors import LapganError

if TYPE_CHECKING:
    from lapgan.weights import Weights

__all__ = ["assemble"]


def assemble(
    parts: Annotated[
        list[str],
        typer.Argument(
            metavar="PART...",
            help="Run folders or weights files; also URLs, such as s3://bucket/run (fsspec).",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Levels of later parts replace those of earlier ones; recipes need to agree in "
            "pyramid, noise and generators only.",
        ),
    ] = False,
) -> None:
    """Join levels that were trained apart into one model.

    Recipe, classes, normalization and training images of all parts have to agree, and without
    --replace each level may be there once.
    """
    from lapgan.weights import join_weights, write_weights

    if out.suffix != ".safetensors":
        raise LapganError(f"--out {out}: expected a name that ends in .safetensors.")
    weights = {place: read for part in parts for place, read in _read(part).items()}
    joined = join_weights(weights, replace_levels=replace)
    joined.check_complete(out)
    _check_data(joined)
    write_weights(out, joined)
    console.print(f"wrote {escape(str(out))}: levels {', '.join(joined.recipe.level_names)}")


def _read(part: str) -> "dict[Path, Weights]":
    """Reads the weights files of a part, by the names that messages call them."""
    from lapgan.run_folder import RunFolder
    from lapgan.weights import read_weights

    if "://" in part:
        return _read_url(part)
    path = Path(part)
    files = [*RunFolder(path).weights_files()] if path.is_dir() else []
    # Without files, reading the path itself says what is missing.
    return {file: read_weights(file) for file in files or [path]}


def _read_url(url: str) -> "dict[Path, Weights]":
    """Downloads the weights files below a URL, reads them, and removes the copies."""
    from lapgan.weights import read_weights

    weights = {}
    for name, content in _download(url):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "weights.safetensors"
            copy.write_bytes(content)
            weights[Path(name)] = read_weights(copy)
    return weights


def _download(url: str) -> list[tuple[str, bytes]]:
    """Returns name and content of the weights files below a URL."""
    try:
        import fsspec
    except ModuleNotFoundError:
        raise LapganError(
            f"{url}: reading URLs needs fsspec; install it with `pip install fsspec`."
        ) from None
    patterns = [url] if url.endswith(".safetensors") else [f"{url.rstrip('/')}/*/weights.*"]
    try:
        files = fsspec.open_files(patterns, "rb")
        found = [(file.full_name, file.fs.cat_file(file.path)) for file in files]
    except (OSError, ValueError, ImportError) as error:
        raise LapganError(
            f"{url}: cannot be read ({error}); expected a weights file or a run folder."
        ) from None
    if not found:
        raise LapganError(
            f"{url}: no level has weights there; expected {url}/level-*/weights.safetensors."
        )
    return found


def _check_data(weights: "Weights") -> None:
    """Raises a LapganError unless all levels were trained on the same images."""
    seen = {name: figures["data"] for name, figures in weights.training.items()}
    if not all(map(_are_same_images, seen.values(), [*seen.values()][1:])):
        data = ", ".join(f"{name}: {images}" for name, images in seen.items())
        raise LapganError(
            f"these levels were trained on different images ({data}), so that a level would be "
            "given images that it does not know; train them on the same data."
        )


def _are_same_images(one: object, other: object) -> bool:
    """Compares fingerprints of images; names, where one of them has no fingerprint."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        # Files of early versions have the name alone.
        return one == other
    key = "fingerprint" if "fingerprint" in one.keys() & other.keys() else "name"
    return bool(one.get(key) == other.get(key))
