"""The demo's folder: the page, ONNX Runtime Web, and the levels of a cascade as graphs."""

import shutil
from importlib import resources
from pathlib import Path
from typing import Any

from lapgan.cascade import Cascade
from lapgan.data import Images
from lapgan.demo.neighbors import DEFAULT_COUNT, NeighborSearch
from lapgan.errors import LapganError
from lapgan.export import Form, export_onnx
from lapgan.export.forms import choose_form
from lapgan.export.manifest import describe_noise
from lapgan.files import atomic_folder, write_json

__all__ = ["write_site"]

# What the page downloads of ONNX Runtime Web: with WebGPU, and without.
_BUILDS = {"jspi": "ort-wasm-simd-threaded.jspi", "wasm": "ort-wasm-simd-threaded"}


def write_site(
    cascade: Cascade,
    folder: Path,
    model: str,
    form: Form | None = None,
    training: Images | None = None,
    count: int = DEFAULT_COUNT,
) -> int:
    """Writes the demo of a cascade, for any web server.

    Args:
        cascade: on the CPU.
        folder: a new folder; it appears whole or not at all.
        model: the name of the model, for people.
        form: how the weights are stored, and so how large the download is; by default int8 where
            that rounds nothing, else float16.
        training: images in which the page searches those nearest to a sample. They become part of
            the folder, so give only what may be passed on.
        count: of so many of them, evenly spaced.

    Returns:
        How many bytes a browser without WebGPU downloads, before it searches training images or
        chooses among candidates.

    Raises:
        LapganError: the browser cannot draw the model's noise, the training images are none of the
            model's, or as for `export_onnx`.
    """
    _check_noise(cascade)
    recipe = cascade.recipe
    search = None if training is None else NeighborSearch.of_recipe(recipe, training, count)
    form = form or choose_form(level.generator for level in cascade.levels)
    with atomic_folder(folder) as new:
        shutil.copytree(_static(), new, dirs_exist_ok=True)
        manifest = export_onnx(cascade, new / "model", model, [form], whole=False)
        runtime = {
            build: (new / "ort" / f"{name}.wasm.gz").stat().st_size
            for build, name in _BUILDS.items()
        }
        neighbors = None if search is None else search.write(new / "neighbors")
        manifest |= {"runtime": runtime, "neighbors": neighbors}
        write_json(new / "model" / "manifest.json", manifest)
    return runtime["wasm"] + _sum_sizes(manifest)


def _static() -> Path:
    path = Path(str(resources.files("lapgan.demo") / "static"))
    if not path.is_dir():
        raise LapganError(
            f"{path}: the page is missing; install lapgan as a folder, not as an archive."
        )
    return path


def _check_noise(cascade: Cascade) -> None:
    for level in cascade.recipe.levels:
        if describe_noise(level.noise, level.size)["distribution"] is None:
            raise LapganError(
                f"level {level.name}: the page cannot draw noise of the kind {level.noise.kind!r}, "
                "whose values depend on each other. Use `lapgan export` and draw it yourself."
            )


def _sum_sizes(manifest: dict[str, Any]) -> int:
    graphs = (entry for entry in manifest["graphs"] if entry["graph"] != "classifier")
    return sum(int(entry["bytes"]) for entry in graphs)
