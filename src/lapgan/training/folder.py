"""The folder of a run: what it is, and who works in it.

run.json             what the run is: recipe, data, seed
level-28/            a level: state.safetensors, weights.safetensors, log.jsonl, samples/
classifier/          the same of the classifier, if the run was given one
cascade.safetensors  all averaged weights, written when every level has some
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lapgan.cascade import Cascade
from lapgan.data import Images
from lapgan.errors import LapganError
from lapgan.files import write_json
from lapgan.recipe import Recipe, check_recipe
from lapgan.weights import LEVEL_FILE, read_weights

__all__ = [
    "CASCADE_FILE",
    "LOG_FILE",
    "STATE_FILE",
    "assemble",
    "check_images",
    "check_run",
    "claim",
    "locked",
    "recipe_of",
]

RUN_FILE = "run.json"
CASCADE_FILE = "cascade.safetensors"
LOCK_FILE = ".lock"
# In the folder of each level, and of the classifier.
STATE_FILE = "state.safetensors"
LOG_FILE = "log.jsonl"


def check_run(out: Path, recipe: Recipe, seed: int, images: Images) -> None:
    """Raises a LapganError unless a run folder is new, or of this very recipe, seed and data."""
    if not (out / RUN_FILE).exists():
        if out.exists() and not out.is_dir():
            raise LapganError(f"--out {out}: this is a file; name a folder for the run.")
        return
    found, known = _read(out)
    # Keys that a later version added have their defaults in an older run.
    found["recipe"] = known.model_dump(mode="json")
    differences = list(_differences(found, _identity(recipe, seed, images)))
    if differences:
        raise LapganError(
            f"--out {out}: this folder holds another run. It differs in "
            + "; ".join(differences)
            + ". Use another folder, or the options it was begun with."
        )


def recipe_of(out: Path) -> Recipe:
    """Returns the recipe of a run that was begun; a LapganError if there is none."""
    if not (out / RUN_FILE).exists():
        raise LapganError(
            f"{out}: this is no run folder (no {RUN_FILE}); name the --out folder of a `lapgan "
            "train`."
        )
    return _read(out)[1]


def check_images(out: Path, images: Images) -> None:
    """Raises a LapganError if a run learns from other images than these."""
    data = _read(out)[0]["data"]
    if data["fingerprint"] != images.fingerprint:
        raise LapganError(
            f"--data {images.name}: the run in {out} learns from other images ({data['name']}); "
            "name those."
        )


def _read(out: Path) -> tuple[dict[str, Any], Recipe]:
    path = out / RUN_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        recipe = check_recipe(found["recipe"], f"in {path}")
        str(found["data"]["name"] + found["data"]["fingerprint"])
    except (ValueError, AttributeError, KeyError, TypeError, LapganError) as error:
        raise LapganError(f"{path}: cannot be read ({error}); use another --out folder.") from None
    return found, recipe


def _identity(recipe: Recipe, seed: int, images: Images) -> dict[str, Any]:
    data = {"name": images.name, "fingerprint": images.fingerprint}
    return {"recipe": recipe.model_dump(mode="json"), "seed": seed, "data": data}


def _differences(found: Any, expected: Any, path: str = "") -> Iterator[str]:
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys()):
            yield from _differences(found.get(key), expected.get(key), f"{path}.{key}".strip("."))
    elif found != expected:
        yield f"{path} (there {found!r}, here {expected!r})"


def claim(out: Path, recipe: Recipe, seed: int, images: Images) -> None:
    """Makes a new folder this run's own; raises what `check_run` raises."""
    check_run(out, recipe, seed, images)
    if not (out / RUN_FILE).exists():
        write_json(out / RUN_FILE, _identity(recipe, seed, images))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a part's folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK_FILE, timeout=0):
            yield
    except Timeout:
        raise LapganError(
            f"{folder}: another process is training this part; wait for it, or use another --out."
        ) from None


def assemble(out: Path) -> Cascade | None:
    """Writes all levels' weights as one file; returns the cascade, None while a level has none."""
    if not list(out.glob(f"level-*/{LEVEL_FILE}")):
        return None
    weights = read_weights(out)
    if weights.missing:
        return None
    cascade = Cascade.of_weights(weights, out)
    cascade.save(out / CASCADE_FILE)
    return cascade
