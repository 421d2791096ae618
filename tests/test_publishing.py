"""Models as folders to publish, and the way to the Hub and back over a stand-in on loopback."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml
from hub_server import HubServer, serving_hub
from typer.testing import CliRunner

from lapgan.cascade import Cascade
from lapgan.cli import app
from lapgan.errors import LapganError
from lapgan.files import write_json

ROW = {"unit": "", "extractor": None, "n": 24, "seed": 0, "error": None}
REPORT = {
    "settings": {"models": ["mine", "theirs"], "training_data": "Cats | dogs"},
    "measurements": [
        ROW | {"subject": "real held-out images", "metric": "fd", "value": 0.25},
        ROW
        | {"subject": "mine", "metric": "fd", "value": 12.5, "error": 0.5, "extractor": "lite0"},
        ROW | {"subject": "mine", "metric": "parzen", "value": None},
        ROW | {"subject": "theirs", "metric": "fd", "value": 99.0},
    ],
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setenv("HF_TOKEN", "a secret")
    with serving_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        yield server


@pytest.fixture
def model(cascade_with_classes: Cascade, tmp_path: Path) -> Path:
    path = tmp_path / "cascade.safetensors"
    figures = {
        "images_seen": 12_345,
        "seconds": 90.0,
        "seed": 7,
        "data": {"name": "my | cats"},
        "compute": "cpu",
    }
    cascade_with_classes.training = dict.fromkeys(cascade_with_classes.recipe.level_names, figures)
    cascade_with_classes.save(path)
    return path


def push(*arguments: str | Path, error: bool = False) -> str:
    result = CliRunner().invoke(app, ["push", *map(str, arguments)])
    if error:
        assert isinstance(result.exception, LapganError)
        return str(result.exception)
    if result.exception is not None:
        raise result.exception
    return result.output


def read_card(folder: Path) -> tuple[dict[str, object], str]:
    """The metadata of a card, read by another library than wrote it, and its text."""
    _, metadata, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(metadata), text


def test_a_published_folder_rebuilds_the_model(model: Path, tmp_path: Path):
    out = tmp_path / "published"
    assert "data named in it: my | cats" in push(model, "me/tiny", "--out", out)
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    expected = Cascade.load(model).sample(5, seed=3)
    assert torch.equal(Cascade.from_pretrained(out).sample(5, seed=3), expected)
    assert torch.equal(Cascade.load(str(out)).sample(5, seed=3), expected)
    config = json.loads((out / "config.json").read_text())
    assert config["class_names"] == ["cat", "dog", "7"]
    assert config["training"]["12"]["images_seen"] == 12_345
    assert "already exists" in push(model, "me/tiny", "--out", out, error=True)


def test_the_way_to_the_hub_and_back_keeps_every_weight(
    hub: HubServer, model: Path, tmp_path: Path
):
    output = push(model, "me/tiny", "--license", "mit", "--private")
    assert "next: lapgan sample hub:me/tiny" in output
    assert {*hub.repositories["me/tiny"]} == {"README.md", "config.json", "model.safetensors"}
    assert "Bearer a secret" in hub.tokens
    back = Cascade.from_pretrained("me/tiny")
    assert torch.equal(back.sample(5, seed=3), Cascade.load(model).sample(5, seed=3))
    # Once downloaded, only the file's hash is asked for.
    hub.requests.clear()
    Cascade.from_pretrained("me/tiny")
    assert [request for request in hub.requests if request.startswith("GET")] == []
    result = CliRunner().invoke(app, ["info", "hub:me/tiny@main"])
    assert "classes: cat, dog, 7" in result.output


def test_what_the_hub_lacks_is_said(hub: HubServer, tmp_path: Path):
    with pytest.raises(LapganError, match=r"me/none: cannot be downloaded.*Check the name"):
        Cascade.from_pretrained("me/none")
    hub.repositories["me/other"] = {"weights.bin": b"x"}
    with pytest.raises(LapganError, match=r"has the file model\.safetensors"):
        Cascade.from_pretrained("me/other", revision="v1")
    with pytest.raises(LapganError, match="expected the name of a model on the Hub"):
        Cascade.from_pretrained("me/../../etc")
    with pytest.raises(LapganError, match="a model of the package"):
        Cascade.from_pretrained("none")


def test_a_file_of_somebody_else_or_a_damaged_one_is_refused(hub: HubServer, model: Path):
    foreign = safetensors.torch.save({"w": torch.zeros(2)})
    hub.repositories["me/foreign"] = {"model.safetensors": foreign}
    with pytest.raises(LapganError, match="not one that lapgan wrote"):
        Cascade.from_pretrained("me/foreign")
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    hub.repositories["me/damaged"] = {"model.safetensors": bytes(content)}
    with pytest.raises(LapganError, match="SHA-256"):
        Cascade.from_pretrained("me/damaged")
    # A pickle of any kind is no safetensors file.
    hub.repositories["me/pickle"] = {"model.safetensors": b"\x80\x04cos\nsystem\n."}
    with pytest.raises(LapganError, match="not a whole safetensors file"):
        Cascade.from_pretrained("me/pickle")


def test_without_the_hub_nothing_is_uploaded(monkeypatch: pytest.MonkeyPatch, model: Path):
    pytest.importorskip("huggingface_hub")
    with serving_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", "a secret")
    output = push(model, "me/tiny", "--license", "mit", error=True)
    assert "me/tiny: cannot be uploaded to the Hub" in output
    assert "hf auth login" in output


@pytest.mark.parametrize("fixture", ["cascade", "cascade_with_classes"])
def test_the_code_of_a_card_runs(fixture: str, request: pytest.FixtureRequest, tmp_path: Path):
    cascade, out = request.getfixturevalue(fixture), tmp_path / "published"
    cascade.save(tmp_path / "model.safetensors")
    push(tmp_path / "model.safetensors", "me/tiny", "--out", out)
    _, text = read_card(out)
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    variables: dict[str, Any] = {}
    exec(code.replace("me/tiny", out.as_posix()), variables)
    assert tuple(variables["images"].shape) == (64, 3, *cascade.recipe.sizes[0])


def test_a_card_has_the_models_figures_beside_the_references(model: Path, tmp_path: Path):
    report, out = tmp_path / "report.json", tmp_path / "out"
    write_json(report, REPORT)
    push(model, "me/tiny", "--out", out, "--evaluation", report, "--subject", "mine",
         "--license", "mit", "--half")  # fmt: skip
    metadata, text = read_card(out)
    assert metadata["license"] == "mit"
    assert metadata["library_name"] == "lapgan"
    assert metadata["pipeline_tag"] == "unconditional-image-generation"
    [entry] = metadata["model-index"]
    [result] = entry["results"]
    assert result["dataset"] == {"name": "Cats | dogs", "type": "cats-dogs"}
    assert result["metrics"] == [{"name": "fd (lite0)", "type": "fd", "value": 12.5}]
    lines = text.splitlines()
    assert "| **this model** | fd (lite0) | 12.5 | 0.5 | 24 | 0 |" in lines
    assert "| real held-out images | fd | 0.25 |  | 24 | 0 |" in lines
    assert "theirs" not in text
    assert r"| 12345 | 1.5 | my \| cats | 7 | cpu |".replace("12345", "12,345") in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("me", "--out", "out"), "me: expected the name of a model on the Hub, OWNER/NAME"),
        (("me/tiny", "--subject", "mine"), "give the report with --evaluation"),
        (("me/tiny", "--evaluation", "none.json"), "none.json: cannot be read"),
        (("me/tiny", "--evaluation", "run.json"), "expected the report.json"),
        (("me/tiny", "--evaluation", "report.json"), "has the models mine, theirs; say which"),
    ],
)
def test_what_cannot_be_published_is_refused(
    arguments: tuple[str, ...],
    message: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    write_json(Path("report.json"), REPORT)
    write_json(Path("run.json"), {"settings": {"models": "x"}})
    before = sorted(tmp_path.iterdir())
    assert message in push(model, *arguments, error=True)
    assert sorted(tmp_path.iterdir()) == before
