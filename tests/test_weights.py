import json
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from lapgan.cascade import Cascade
from lapgan.errors import LapganError
from lapgan.recipe import Recipe
from lapgan.weights import (
    FORMAT,
    Weights,
    halve_precision,
    pretrained_names,
    quantize,
    read_weights,
    write_weights,
)


@pytest.fixture
def weights(tiny: Recipe) -> Weights:
    tensors = {
        "levels.12.generator.a": torch.randn(3, 4, 5, 5).to(memory_format=torch.channels_last),
        "levels.6x8.generator.b": torch.tensor(2.0),
        "normalisation.mean": torch.zeros(0, 2),
    }
    return Weights(tensors, tiny, ("cat", "Größe"), {"12": {"seconds": 1.5}})


@pytest.fixture
def path(tmp_path: Path, weights: Weights) -> Path:
    write_weights(tmp_path / "w.safetensors", weights)
    return tmp_path / "w.safetensors"


def test_everything_is_read_back(path: Path, weights: Weights):
    copy = read_weights(path)
    assert replace(copy, tensors={}) == replace(weights, tensors={})
    assert copy.tensors.keys() == weights.tensors.keys()
    assert all(torch.equal(copy.tensors[name], t) for name, t in weights.tensors.items())
    assert copy.missing == []


def test_a_file_is_as_readable_as_any_other(path: Path):
    (path.parent / "plain").touch()
    assert path.stat().st_mode == (path.parent / "plain").stat().st_mode


def test_a_truncated_file_is_refused_wherever_it_ends(path: Path):
    content = path.read_bytes()
    for length in (0, 4, 20, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(LapganError, match="not a whole safetensors file"):
            read_weights(path)


def test_any_flipped_byte_is_noticed(path: Path):
    content = path.read_bytes()
    for position in range(8, len(content), 97):
        changed = bytearray(content)
        changed[position] ^= 0x20
        path.write_bytes(changed)
        with pytest.raises(LapganError, match=r"w\.safetensors"):
            read_weights(path)


def test_changed_metadata_is_noticed(path: Path):
    tensors = safetensors.torch.load_file(path)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    content = json.loads(metadata["content"])
    content["class_names"] = ["dog", "Größe"]
    safetensors.torch.save_file(tensors, path, metadata | {"content": json.dumps(content)})
    with pytest.raises(LapganError, match="does not match its SHA-256 digest"):
        read_weights(path)


def test_newer_and_foreign_files_are_told_apart(path: Path):
    tensors = {"a": torch.zeros(1)}
    safetensors.torch.save_file(tensors, path, {"format": f"lapgan {FORMAT + 1}"})
    with pytest.raises(LapganError, match=rf"format {FORMAT + 1} is newer .* upgrade lapgan"):
        read_weights(path)
    for metadata in ({}, {"format": "pt"}, {"format": "lapgan x"}):
        safetensors.torch.save_file(tensors, path, metadata)
        with pytest.raises(LapganError, match="not one that lapgan wrote"):
            read_weights(path)


def test_a_pickle_is_never_loaded(path: Path):
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(LapganError, match="not a whole safetensors file"):
        read_weights(path)


def test_a_run_folder_is_joined_from_its_levels(tmp_path: Path, weights: Weights, tiny: Recipe):
    a, b = (
        {n: t for n, t in weights.tensors.items() if n.startswith(p)}
        for p in ("levels.12", "levels.6x8")
    )
    write_weights(tmp_path / "level-12" / "weights.safetensors", replace(weights, tensors=a))
    assert read_weights(tmp_path).missing == ["6x8"]
    other = replace(weights, tensors=b, training={"6x8": {}})
    write_weights(tmp_path / "level-6x8" / "weights.safetensors", other)
    joined = read_weights(tmp_path)
    assert joined.missing == []
    assert joined.training.keys() == {"12", "6x8"}
    foreign = replace(other, recipe=tiny.model_copy(update={"name": "other"}))
    write_weights(tmp_path / "level-6x8" / "weights.safetensors", foreign)
    with pytest.raises(LapganError, match="not of the same recipe"):
        read_weights(tmp_path)


def test_nothing_to_read_is_explained(tmp_path: Path):
    with pytest.raises(LapganError, match="no such file or folder"):
        read_weights(tmp_path / "none")
    with pytest.raises(LapganError, match="no level has weights yet"):
        read_weights(tmp_path)


def test_tensors_that_do_not_fit_the_recipe_are_refused(tmp_path: Path, weights: Weights):
    tensors = weights.tensors | {"normalisation.std": torch.ones(1)}
    write_weights(tmp_path / "w.safetensors", replace(weights, tensors=tensors))
    with pytest.raises(LapganError, match="level 12 does not fit its recipe"):
        Cascade.load(tmp_path / "w.safetensors")


def test_half_precision_keeps_eleven_bits_and_the_whole_normalization(
    tmp_path: Path, cascade_with_classes: Cascade
):
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    cascade_with_classes.save(whole)
    write_weights(half, halve_precision(read_weights(whole)))
    tensors = read_weights(half).tensors
    for name, tensor in read_weights(whole).tensors.items():
        if name.startswith("normalisation."):
            assert torch.equal(tensors[name], tensor)
        else:
            assert tensors[name].dtype == torch.float16
            assert torch.allclose(tensors[name].float(), tensor, rtol=2**-11, atol=2**-25)
    images, exact = (Cascade.load(path).sample(8).float() for path in (half, whole))
    assert (images - exact).abs().max() <= 2


@pytest.fixture
def large(weights: Weights) -> Weights:
    """Weights with a large tensor whose channels differ in scale by orders of magnitude."""
    scale = 10.0 ** torch.arange(-6, 2)[:, None, None, None]
    tensors = {
        "levels.12.generator.conv.weight": torch.randn(8, 64, 3, 3) * scale,
        "levels.12.generator.empty.weight": torch.zeros(8, 1024),
        "levels.12.generator.basis": torch.randn(64, 64),
        "levels.12.generator.small.weight": torch.randn(3, 4),
    }
    return replace(weights, tensors=weights.tensors | tensors)


def test_int8_keeps_each_channel_to_a_254th_of_its_largest_weight(tmp_path: Path, large: Weights):
    path = tmp_path / "w.safetensors"
    write_weights(path, quantize(large))
    stored, read = safetensors.torch.load_file(path), read_weights(path).tensors
    assert read.keys() == large.tensors.keys()
    name = "levels.12.generator.conv.weight"
    assert {n for n, t in stored.items() if t.dtype == torch.int8} == {
        name, "levels.12.generator.empty.weight",
    }  # fmt: skip
    exact = large.tensors[name]
    bound = exact.abs().amax((1, 2, 3), keepdim=True) / 254
    assert ((read[name] - exact).abs() <= bound * 1.001).all()
    assert (read[name] - exact).abs().max() > 0
    for other in large.tensors.keys() - {name}:
        assert torch.equal(read[other], large.tensors[other])
    # What has been rounded once stays as it is.
    write_weights(path, quantize(read_weights(path)))
    assert torch.allclose(read_weights(path).tensors[name], read[name], rtol=1e-6, atol=0)


def format_of(path: Path) -> str:
    with safetensors.safe_open(path, framework="pt") as file:
        return str(file.metadata()["format"])


def test_only_int8_needs_the_newer_format(tmp_path: Path, large: Weights):
    path = tmp_path / "w.safetensors"
    for weights, number in ((large, 1), (halve_precision(large), 1), (quantize(large), 2)):
        write_weights(path, weights)
        assert format_of(path) == f"lapgan {number}"


def test_a_changed_scale_is_noticed(tmp_path: Path, large: Weights):
    path = tmp_path / "w.safetensors"
    write_weights(path, quantize(large))
    tensors = safetensors.torch.load_file(path)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors["levels.12.generator.conv.weight:scale"][3] *= 2
    safetensors.torch.save_file(tensors, path, metadata)
    with pytest.raises(LapganError, match="does not match its SHA-256 digest"):
        read_weights(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("levels.12.generator.conv.weight:scale"), "with no scale"),
        (
            lambda t: t.update({"levels.12.generator.conv.weight:scale": torch.ones(7)}),
            r"with \(7,\)",
        ),
        (lambda t: t.update({"levels.12.generator.basis:scale": torch.ones(64)}), "float32 with"),
    ],
)
def test_int8_without_a_fitting_scale_is_refused(
    tmp_path: Path, large: Weights, change: Callable[[dict[str, Tensor]], None], message: str
):
    quantized = quantize(large)
    change(quantized.tensors)
    write_weights(tmp_path / "w.safetensors", quantized)
    with pytest.raises(LapganError, match=rf"w\.safetensors: levels\.12.*{message}"):
        read_weights(tmp_path / "w.safetensors")


def test_models_of_the_package_are_read_by_name_unless_a_path_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipes = {
        "cifar10-cc": "cifar10-cc",
        "cifar10-cc-medium": "cifar10-cc-medium",
        # As it was called when this model was trained.
        "cifar10-cc-small": "cifar10-cc",
        "cifar10-medium": "cifar10-medium",
        "cifar10-uncond": "cifar10",
        "scenes64": "photos64",
        "scenes64-small": "photos64",
    }
    assert set(pretrained_names()) == set(recipes)
    for name in pretrained_names():
        weights = read_weights(Path(name))
        assert weights.missing == []
        assert weights.recipe.name == recipes[name]
    monkeypatch.chdir(tmp_path)
    Path("cifar10-cc").mkdir()
    with pytest.raises(LapganError, match="no level has weights yet"):
        read_weights(Path("cifar10-cc"))
    with pytest.raises(LapganError, match=r"cifar-10: .*a model of the package .*cifar10-cc"):
        read_weights(Path("cifar-10"))


def test_models_of_the_package_are_small():
    folder = resources.files("lapgan.pretrained")
    for name in pretrained_names():
        assert len((folder / f"{name}.safetensors").read_bytes()) < 24 * 2**20
