"""Images drawn at random from any source: a run, which is sampled, or a source of `lapgan.data`."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from lapgan.data import open_images
from lapgan.errors import LapganError
from lapgan.files import resolve_data_path
from lapgan.run_folder import is_model_path

__all__ = ["Pixels", "draw_images"]

Pixels = npt.NDArray[np.uint8]

_SPLITS = ("train", "test", "val", "validation")


def draw_images(source: str, count: int, seed: Sequence[int], split: str) -> Pixels:
    """Draws images without replacement from any kind of source.

    Args:
        source: a lapgan run folder, `.safetensors` file or the name of a packaged model, which is
            sampled by `lapgan sample`; or any source of `lapgan.data.open_images`, such as a folder
            of images, an `.npz` file with `images` (N, H, W, 3) uint8, a parquet file, or the name
            of a data set.
        count: number of images.
        seed: of the draw.
        split: the split to draw from, where a source has several.

    Returns:
        (count, H, W, 3) uint8.

    Raises:
        LapganError: the source is missing, cannot be read, or has fewer than `count` images.
    """
    rng = np.random.default_rng(seed)
    path = resolve_data_path(source)
    if is_model_path(path) or (not path.exists() and _is_packaged(source)):
        return _sample_run(path, count, int(rng.integers(2**31)))
    return _pick(_open_pixels(source, split), count, source, rng)


def _is_packaged(name: str) -> bool:
    """Returns whether a model of this name comes with the package, as for `lapgan sample`."""
    return (resources.files("lapgan") / "pretrained" / f"{name}.safetensors").is_file()


def _open_pixels(source: str, split: str) -> Pixels:
    """Returns all images of a source, (N, 3, H, W)."""
    path = resolve_data_path(source)
    whole = path.is_file() or _is_unsplit_folder(path)
    return open_images(source, split="train" if whole else split).pixels


def _is_unsplit_folder(path: Path) -> bool:
    """Returns whether a path is a folder of image files without folders for splits.

    Such a folder is used whole: images of other people's models come without splits.
    """
    if not path.is_dir() or any((path / split).is_dir() for split in _SPLITS):
        return False
    suffixes = Image.registered_extensions()
    return any(file.suffix.lower() in suffixes for file in path.rglob("*"))


def _pick(pixels: Pixels, count: int, source: object, rng: np.random.Generator) -> Pixels:
    """Draws `count` of (N, 3, H, W) images without replacement; returns (count, H, W, 3)."""
    if len(pixels) < count:
        raise LapganError(
            f"{source}: {len(pixels)} images, expected at least {count}. Choose a larger source, "
            "or lower images_per_source in a study.toml (--recipe)."
        )
    indices = rng.permutation(len(pixels))[:count]
    return np.ascontiguousarray(pixels[indices].transpose(0, 2, 3, 1))


def _sample_run(path: Path, count: int, seed: int) -> Pixels:
    """Samples a run by the command line, because this package does not import torch."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "samples.npz"
        command = [sys.executable, "-m", "lapgan", "sample", str(path)]
        command += ["--n", str(count), "--seed", str(seed), "--out", str(out)]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        if process.returncode or not out.is_file():
            output = process.stderr or process.stdout
            last = output.strip().splitlines()[-1:] or ["no message"]
            raise LapganError(
                f"{path}: `lapgan sample` failed ({last[0]}). Give a trained run, an npz file or "
                "a folder of images."
            )
        # A cache of its own: nobody draws the same samples again.
        pixels = open_images(out, cache=Path(scratch) / "cache").pixels
        return _pick(pixels, count, path, np.random.default_rng(seed))
