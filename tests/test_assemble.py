"""`lapgan assemble`: levels that were trained apart become one model, or are refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from lapgan.cascade import Cascade
from lapgan.cli import app
from lapgan.errors import LapganError
from lapgan.recipe import check_recipe
from lapgan.weights import Weights, read_weights, write_weights

_DATA = {"data": {"name": "tiny", "fingerprint": "1"}}


@pytest.fixture
def parts(tmp_path: Path, cascade: Cascade) -> dict[str, Path]:
    """Returns a run folder for each level, as two machines would leave them."""
    cascade.save(tmp_path / "whole.safetensors")
    whole = read_weights(tmp_path / "whole.safetensors")
    folders = {}
    for level in whole.recipe.level_names:
        other = {name for name in whole.tensors if name.startswith("levels.")}
        other = {name for name in other if not name.startswith(f"levels.{level}.")}
        tensors = {name: t for name, t in whole.tensors.items() if name not in other}
        folders[level] = tmp_path / f"machine-{level}"
        part = replace(whole, tensors=tensors, training={level: _DATA})
        write_weights(folders[level] / f"level-{level}" / "weights.safetensors", part)
    return folders


def _assemble(*arguments: object) -> BaseException | None:
    result = CliRunner().invoke(app, ["assemble", *map(str, arguments)])
    return result.exception


def _change(folder: Path, **changes: object) -> None:
    (file,) = folder.glob("*/weights.safetensors")
    write_weights(file, replace(read_weights(file), **changes))


@pytest.mark.parametrize("form", ["folders", "urls"])
def test_two_folders_become_the_model(form: str, tmp_path: Path, parts: dict[str, Path]) -> None:
    out = tmp_path / "joined.safetensors"
    prefix = "file://" if form == "urls" else ""
    assert _assemble(*(f"{prefix}{path}" for path in parts.values()), "--out", out) is None
    joined, whole = read_weights(out), read_weights(tmp_path / "whole.safetensors")
    assert joined.tensors.keys() == whole.tensors.keys()
    assert all(torch.equal(joined.tensors[name], t) for name, t in whole.tensors.items())


def _other_normalization(folder: Path) -> None:
    (file,) = folder.glob("*/weights.safetensors")
    tensors = dict(read_weights(file).tensors)
    tensors["normalisation.mean"] = tensors["normalisation.mean"] + 1
    _change(folder, tensors=tensors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_normalization, "not of the same normalization"),
        (lambda folder: _change(folder, class_names=("a", "b")), "not of the same class names"),
        (
            lambda folder: _change(
                folder, training={"6x8": {"data": {"name": "x", "fingerprint": "2"}}}
            ),
            "trained on different images",
        ),
    ],
)
def test_levels_of_different_models_are_refused(
    change: object, message: str, tmp_path: Path, parts: dict[str, Path]
) -> None:
    change(parts["6x8"])  # type: ignore[operator]
    error = _assemble(*parts.values(), "--out", tmp_path / "joined.safetensors")
    assert isinstance(error, LapganError)
    assert message in str(error)
    assert not (tmp_path / "joined.safetensors").exists()


def test_a_level_that_is_missing_or_there_twice_is_named(
    tmp_path: Path, parts: dict[str, Path]
) -> None:
    out = tmp_path / "joined.safetensors"
    assert "6x8 have no weights yet" in str(_assemble(parts["12"], "--out", out))
    copy = tmp_path / "copy"
    parts["12"].rename(copy)
    (copy / "level-12" / "weights.safetensors").rename(tmp_path / "again.safetensors")
    twice = (tmp_path / "again.safetensors", parts["6x8"], tmp_path / "whole.safetensors")
    assert "name each level once" in str(_assemble(*twice, "--out", out))


def _write_other_level(folder: Path, path: Path, changes: dict[str, Any]) -> Weights:
    """Other weights of the level of a folder, by a recipe that differs in more than its nets."""
    (file,) = folder.glob("*/weights.safetensors")
    part = read_weights(file)
    content = part.recipe.model_dump(mode="json")
    content["training"]["batch"] *= 2
    content["levels"]["12"] |= {"augment": True, **changes}
    tensors = {k: t + 1 if k.startswith("levels.") else t for k, t in part.tensors.items()}
    other = replace(part, tensors=tensors, recipe=check_recipe(content, "other"))
    write_weights(path, other)
    return other


def test_a_level_of_a_later_part_replaces_that_of_an_earlier_one(
    tmp_path: Path, parts: dict[str, Path]
) -> None:
    whole, later, out = (tmp_path / f"{n}.safetensors" for n in ("old", "later", "joined"))
    assert _assemble(*parts.values(), "--out", whole) is None
    other = _write_other_level(parts["12"], later, {})
    assert "not of the same recipe" in str(_assemble(whole, later, "--out", out))
    assert _assemble(whole, later, "--replace", "--out", out) is None
    joined, before = read_weights(out), read_weights(whole)
    for name, tensor in joined.tensors.items():
        source = other if name.startswith("levels.12.") else before
        assert torch.equal(tensor, source.tensors[name]), name
    assert joined.recipe.level("12") == other.recipe.level("12")
    assert joined.recipe.level("6x8") == before.recipe.level("6x8")
    assert joined.recipe.training == before.recipe.training


def test_a_level_of_another_generator_replaces_none(tmp_path: Path, parts: dict[str, Path]) -> None:
    whole, later, out = (tmp_path / f"{n}.safetensors" for n in ("old", "later", "joined"))
    assert _assemble(*parts.values(), "--out", whole) is None
    _write_other_level(parts["12"], later, {"generator": {"kind": "paper-conv", "maps": 5}})
    error = _assemble(whole, later, "--replace", "--out", out)
    assert "not of the same pyramid, noise and generators" in str(error)


def test_images_without_a_fingerprint_are_compared_by_name(
    tmp_path: Path, parts: dict[str, Path]
) -> None:
    out = tmp_path / "joined.safetensors"
    _change(parts["6x8"], training={"6x8": {"data": {"name": "tiny"}}})
    assert _assemble(*parts.values(), "--out", out) is None
    _change(parts["6x8"], training={"6x8": {"data": {"name": "other"}}})
    assert "trained on different images" in str(_assemble(*parts.values(), "--out", out))
    # A model need not say on what it was trained.
    for name in parts:
        _change(parts[name], training={})
    assert _assemble(*parts.values(), "--out", out) is None


def test_a_url_with_nothing_below_it_is_refused(tmp_path: Path) -> None:
    error = _assemble(f"file://{tmp_path}/none", "--out", tmp_path / "joined.safetensors")
    assert "no level has weights there" in str(error)
