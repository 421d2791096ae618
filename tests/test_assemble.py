"""`lapgan assemble`: levels that were trained apart become one model, or are refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from lapgan.cascade import Cascade
from lapgan.cli import app
from lapgan.errors import LapganError
from lapgan.weights import read_weights, write_weights

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


def test_a_url_with_nothing_below_it_is_refused(tmp_path: Path) -> None:
    error = _assemble(f"file://{tmp_path}/none", "--out", tmp_path / "joined.safetensors")
    assert "no level has weights there" in str(error)
