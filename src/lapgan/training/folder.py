"""The folder of a run: which run it holds, who works in it, and the cascade that comes of it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lapgan.cascade import Cascade
from lapgan.compute import Compute
from lapgan.data import Images, ImageStream
from lapgan.errors import LapganError
from lapgan.files import write_json
from lapgan.recipe import Recipe, check_recipe
from lapgan.run_folder import PartFolder, RunFolder
from lapgan.training.starting import StartingModel
from lapgan.weights import drop_classifier, join_weights, read_weights

__all__ = [
    "RunIdentity",
    "assemble",
    "check_images",
    "claim",
    "lock",
    "read_recipe_of",
    "recorded_compile",
    "recorded_precision",
    "starting_model",
]


@dataclass(frozen=True)
class RunIdentity:
    """What may not change while a run is continued.

    Args:
        recipe: of the cascade.
        seed: of everything random.
        images: the training images.
        compute: precision of the nets, and whether they are compiled. The device may change.
        start: the trained model that every level starts with, if there is one.
    """

    recipe: Recipe
    seed: int
    images: Images | ImageStream
    compute: Compute
    start: StartingModel | None = None

    def content(self) -> dict[str, Any]:
        """Returns the identity as plain data."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "seed": self.seed,
            "data": {
                "name": self.images.name,
                "fingerprint": self.images.fingerprint,
                "content": self.images.content,
            },
            "precision": self.compute.precision,
            "tf32": self.compute.tf32,
            "compile": self.compute.compiled,
            "start_from": self.start and self.start.content,
        }

    def check(self, out: Path) -> None:
        """Raises a LapganError unless a run folder is new, or of this very run."""
        folder = RunFolder(out)
        if not folder.identity.exists():
            if out.exists() and not out.is_dir():
                raise LapganError(f"--out {out}: this is a file; name a folder for the run.")
            return
        recorded, recipe = _read(folder)
        # Keys that a later version added have their defaults in an older run.
        recorded["recipe"] = recipe.model_dump(mode="json")
        recorded.setdefault("precision", self.compute.precision)
        recorded.setdefault("compile", False)
        # This follows from the device.
        recorded["tf32"] = self.compute.tf32
        expected = self.content()
        if _are_same(recorded["data"], self.images):
            # Under another name, or found by other options: the images are what counts.
            recorded["data"] = expected["data"]
        start = _recorded_start(recorded)
        if start and self.start and start.has_same_weights(self.start):
            # Under another name, the weights are what counts.
            recorded["start_from"] = expected["start_from"]
        differences = list(_differences(recorded, expected))
        if differences:
            changed = any(difference.startswith("recipe.") for difference in differences)
            raise LapganError(
                f"--out {out}: this folder holds another run. It differs in "
                + "; ".join(differences)
                + ". Use another folder, or the options of that run"
                + (" (--set KEY=VALUE for those of its recipe)." if changed else ".")
            )


def claim(out: Path, identity: RunIdentity) -> None:
    """Makes a folder this run's own, and records what a run of an earlier version does not have.

    Raises:
        LapganError: see `RunIdentity.check`.
    """
    identity.check(out)
    folder = RunFolder(out)
    if not folder.identity.exists() or not {"precision", "compile"} <= _read(folder)[0].keys():
        write_json(folder.identity, identity.content())


def recorded_precision(out: Path, precision: str) -> str:
    """Returns the precision that a run was begun with where `auto` is asked for."""
    folder = RunFolder(out)
    if precision != "auto" or not folder.identity.exists():
        return precision
    return str(_read(folder)[0].get("precision", precision))


def recorded_compile(out: Path, compile_: bool | None) -> bool | None:
    """Returns whether a run was begun with compiled nets, where that is left open."""
    folder = RunFolder(out)
    if compile_ is not None or not folder.identity.exists():
        return compile_
    return bool(_read(folder)[0].get("compile", False))


def starting_model(out: Path, start_from: Path | None) -> StartingModel | None:
    """Returns the given model, or else the one that a run was begun with, without its weights.

    Raises:
        LapganError: the model or the run cannot be read.
    """
    if start_from is not None:
        return StartingModel.read(start_from)
    folder = RunFolder(out)
    return _recorded_start(_read(folder)[0]) if folder.identity.exists() else None


def read_recipe_of(out: Path) -> Recipe:
    """Returns the recipe of a run; a LapganError if there is none."""
    folder = RunFolder(out)
    if not folder.identity.exists():
        raise LapganError(
            f"{out}: this is no run folder (no {folder.identity.name}). Name the folder of a "
            "`lapgan train`; or, for a trained model, say with --out in which folder its "
            "classifier is to be trained."
        )
    return _read(folder)[1]


def check_images(out: Path, images: Images) -> None:
    """Raises a LapganError if a run is trained on other images than these."""
    data = _read(RunFolder(out))[0]["data"]
    if not _are_same(data, images):
        raise LapganError(
            f"--data {images.name}: the run in {out} is trained on other images ({data['name']}); "
            "name those."
        )


@contextmanager
def lock(folder: PartFolder) -> Iterator[None]:
    """Keeps other processes out of a part's folder, which is made if need be."""
    folder.path.mkdir(parents=True, exist_ok=True)
    try:
        # `lapgan runs` and `lapgan watch` hold it for a moment to see whether it is free.
        with FileLock(folder.lock, timeout=0.5):
            yield
    except Timeout:
        raise LapganError(
            f"{folder.path}: another process is training this part; wait for it, or use another "
            "--out."
        ) from None


def assemble(out: Path, model: Path | None = None) -> Cascade | None:
    """Writes all levels' weights as one file; returns the cascade, None while a level has none.

    Args:
        out: the run's folder.
        model: where the levels are, if not in `out`: another model, of the same recipe, whose
            classifier is replaced by that of the run.
    """
    folder = RunFolder(out)
    if not any(folder.weights_files()):
        return None
    weights = read_weights(out)
    if model is not None:
        weights = join_weights({model: drop_classifier(read_weights(model)), out: weights})
    if weights.missing:
        return None
    cascade = Cascade.from_weights(weights, out)
    cascade.save(folder.cascade)
    return cascade


def _read(folder: RunFolder) -> tuple[dict[str, Any], Recipe]:
    path = folder.identity
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        recipe = check_recipe(recorded["recipe"], f"in {path}")
        str(recorded["data"]["name"] + recorded["data"]["fingerprint"])
        _recorded_start(recorded)
    except (ValueError, AttributeError, KeyError, TypeError, LapganError) as error:
        raise LapganError(f"{path}: cannot be read ({error}); use another --out folder.") from None
    return recorded, recipe


def _recorded_start(recorded: Mapping[str, Any]) -> StartingModel | None:
    start = recorded.get("start_from")
    return None if start is None else StartingModel.from_content(start)


def _are_same(recorded: Mapping[str, Any], images: Images | ImageStream) -> bool:
    if recorded["fingerprint"] == images.fingerprint:
        return True
    return bool(images.content) and recorded.get("content") == images.content


def _differences(recorded: Any, expected: Any, path: str = "") -> Iterator[str]:
    if isinstance(recorded, dict) and isinstance(expected, dict):
        for key in sorted(recorded.keys() | expected.keys()):
            value = recorded.get(key), expected.get(key)
            yield from _differences(*value, f"{path}.{key}".strip("."))
    elif recorded != expected:
        yield f"{path} (there {recorded!r}, here {expected!r})"
