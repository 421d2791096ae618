"""Graphs for other runtimes: the same images as PyTorch, in onnxruntime and from files."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx  # noqa: TID253
import onnxruntime  # noqa: TID253
import pytest
import torch
from torch import Tensor, nn

from lapgan.cascade import Cascade, Level
from lapgan.cascade.best_of import ClassifierGuide
from lapgan.cascade.blocks import BLOCK
from lapgan.compute import choose_compute
from lapgan.errors import LapganError
from lapgan.export import export_onnx, export_torch
from lapgan.export.checking import check_difference
from lapgan.export.forms import choose_form, store_as
from lapgan.export.graphs import Graph
from lapgan.models.classifier import ClassifierSection
from lapgan.normalization import symmetric_normalization
from lapgan.pyramid import downsample
from lapgan.recipe import check_recipe
from lapgan.seeds import seed_of

FLOAT32 = choose_compute("cpu", "float32")
SIGMA = 0.2
RECIPE: dict[str, Any] = {
    "name": "noisy",
    "data": {"classes": True},
    "pyramid": {"operator": "bilinear"},
    "levels": {
        "8": {
            "noise": {"kind": "mixed", "dimension": 6, "planes": 2},
            "conditioning_noise": {"sample": SIGMA},
            "generator": {"kind": "residual", "maps": [24], "groups": 4, "style": 8},
            "discriminator": {"kind": "residual", "maps": [8], "units": 8},
        },
        "4": {
            "noise": {"kind": "vector", "dimension": 6, "distribution": "normal"},
            "generator": {"kind": "residual-coarsest", "maps": 8, "groups": 4, "style": 8},
            "discriminator": {"kind": "residual", "maps": [8, 8], "units": 8},
        },
    },
}


def noisy_cascade() -> Cascade:
    """Two levels of residual nets, with classes and conditioning noise."""
    torch.manual_seed(1)
    recipe = check_recipe(RECIPE, "noisy")
    levels = [
        Level(level.size, level.noise, level.build_generator(2), sigma)
        for level, sigma in zip(recipe.levels, (SIGMA, None), strict=True)
    ]
    for level in levels:
        for parameter in level.generator.parameters():
            nn.init.normal_(parameter, std=0.15)
    normalization = symmetric_normalization((8, 8))
    return Cascade(recipe, levels, normalization, ("cat", "dog"), compute=FLOAT32)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    with torch.random.fork_rng(devices=[]):
        folder = tmp_path_factory.mktemp("export") / "onnx"
        return folder, export_onnx(noisy_cascade(), folder, "noisy", ["float32", "int8"])


def run(file: Path, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {name: x.numpy() for name, x in inputs.items()})
    return {name: torch.from_numpy(x) for name, x in zip(names, values, strict=True)}


def block_noise(cascade: Cascade, seed: int) -> dict[str, Tensor]:
    """The noise of the first block of a seed, drawn by hand."""
    values = {}
    for k, name in enumerate(("8", "4")):
        random = torch.Generator().manual_seed(seed_of(seed, 0, k))
        values[f"z_{name}"] = cascade.levels[k].noise.sample(BLOCK, cascade.sizes[k], random)
        if k == 0:
            values["epsilon_8"] = torch.randn((BLOCK, 3, 4, 4), generator=random)
    return values


def test_a_tiny_cascade_draws_in_onnxruntime_what_it_draws_in_pytorch(
    tmp_path: Path, cascade: Cascade
):
    cascade = Cascade(cascade.recipe, cascade.levels, cascade.normalization, compute=FLOAT32)
    manifest = export_onnx(cascade, tmp_path / "onnx", "tiny", whole=False)
    ((coarse, fine),) = cascade.stages(BLOCK, seed=3)
    z = [
        level.noise.sample(BLOCK, level.size, torch.Generator().manual_seed(seed_of(3, 0, k)))
        for k, level in enumerate(cascade.levels)
    ]
    folder = tmp_path / "onnx" / "float32"
    first = run(folder / "level-6x8.onnx", {"z": z[1]})
    torch.testing.assert_close(first["image"], coarse.image, atol=1e-5, rtol=0)
    second = run(folder / "level-12.onnx", {"z": z[0], "coarse": coarse.image})
    torch.testing.assert_close(second["high"], fine.high, atol=1e-5, rtol=0)
    torch.testing.assert_close(second["image"], fine.image, atol=1e-5, rtol=0)
    assert max(entry["largest_difference"] for entry in manifest["graphs"]) < 1e-5


def test_the_classifier_judges_images_as_in_pytorch(tmp_path: Path, cascade_with_classes: Cascade):
    plain = cascade_with_classes
    section = ClassifierSection(level="6x8", maps=4)
    guide = ClassifierGuide(section, section.build(len(plain.class_names)))
    guide.prepare(FLOAT32)
    recipe, levels, names = plain.recipe, plain.levels, plain.class_names
    cascade = Cascade(recipe, levels, plain.normalization, names, guide=guide, compute=FLOAT32)
    manifest = export_onnx(cascade, tmp_path / "onnx", "tiny", whole=False)
    assert manifest["classifier"] == {"level": "6x8"}
    images = torch.randn(7, 3, 6, 8)
    found = run(tmp_path / "onnx" / "float32" / "classifier.onnx", {"image": images})
    found = found["log_probabilities"]
    torch.testing.assert_close(found.exp().sum(1), torch.ones(7), atol=1e-5, rtol=0)
    label = torch.arange(7) % len(names)
    expected = guide.score(images, label, FLOAT32)
    torch.testing.assert_close(found[torch.arange(7), label], expected, atol=1e-5, rtol=0)
    without = export_onnx(plain, tmp_path / "without", "tiny", whole=False)
    assert without["classifier"] is None
    assert "classifier" not in [entry["graph"] for entry in without["graphs"]]


@pytest.mark.slow
def test_the_graphs_draw_what_the_cascade_draws_from_the_same_noise(
    exported: tuple[Path, dict[str, Any]],
):
    folder, cascade = exported[0] / "float32", noisy_cascade()
    label, noise = torch.arange(BLOCK) % 2, block_noise(cascade, 3)
    ((coarse, fine),) = cascade.stages(BLOCK, seed=3, labels=label)
    first = run(folder / "level-4.onnx", {"z": noise["z_4"], "label": label})
    torch.testing.assert_close(first["image"], coarse.image, atol=1e-5, rtol=0)
    inputs = {"z": noise["z_8"], "label": label, "coarse": coarse.image}
    second = run(folder / "level-8.onnx", {**inputs, "epsilon": noise["epsilon_8"]})
    for name, expected in fine._asdict().items():
        torch.testing.assert_close(second[name], expected, atol=1e-5, rtol=0)
    whole = {**noise, "label": label, "start": torch.zeros(BLOCK, 3, 4, 4)}
    drawn = run(folder / "cascade.onnx", {**whole, "given": torch.zeros(BLOCK, dtype=torch.bool)})
    torch.testing.assert_close(drawn["image"], fine.image, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_the_whole_graph_begins_with_a_given_image_where_one_is_given(
    exported: tuple[Path, dict[str, Any]],
):
    file, cascade = exported[0] / "float32" / "cascade.onnx", noisy_cascade()
    noise = {name: x[:5] for name, x in block_noise(cascade, 0).items()}
    given = torch.tensor([True, False, True, False, False])
    starts = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)
    label = torch.zeros(5, dtype=torch.long)
    inputs = {**noise, "label": label, "start": starts / 127.5 - 1, "given": given}
    image = run(file, inputs)["image"]
    (drawn,) = cascade.stages(5, labels=label)
    (refined,) = cascade.stages(5, labels=label, start=starts)
    expected = torch.where(given[:, None, None, None], refined[-1].image, drawn[-1].image)
    torch.testing.assert_close(image, expected, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_the_pyramid_graph_reduces_images(exported: tuple[Path, dict[str, Any]]):
    image = torch.rand(2, 3, 8, 8)
    reduced = run(exported[0] / "float32" / "pyramid.onnx", {"image": image})["image_4"]
    torch.testing.assert_close(reduced, downsample(image, (4, 4), "bilinear"))


@pytest.mark.slow
def test_the_manifest_describes_the_files(exported: tuple[Path, dict[str, Any]]):
    folder, manifest = exported
    assert json.loads((folder / "manifest.json").read_text()) == manifest
    assert manifest["classes"] == ["cat", "dog"]
    assert manifest["operator"] == "bilinear"
    coarse, fine = manifest["levels"]
    assert coarse["size"] == [4, 4]
    assert coarse["noise"] == {"kind": "vector", "shape": [6], "distribution": "normal"}
    assert fine["noise"] == {"kind": "mixed", "shape": [6 + 2 * 64], "distribution": "normal"}
    assert (coarse["sigma"], fine["sigma"]) == (None, SIGMA)
    assert (fine["mean"], fine["std"]) == (127.5, 127.5)
    files = {str(file.relative_to(folder)) for file in folder.rglob("*.onnx")}
    assert files == {entry["file"] for entry in manifest["graphs"]}
    for entry in manifest["graphs"]:
        content = (folder / entry["file"]).read_bytes()
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        if entry["form"] == "float32":
            assert entry["largest_difference"] < 1e-4
    (whole,) = [e for e in manifest["graphs"] if e["file"] == "float32/cascade.onnx"]
    assert whole["inputs"]["z_8"] == [-1, 134]
    assert whole["inputs"]["label"] == [-1]
    assert whole["outputs"] == {"image": [-1, 3, 8, 8]}


@pytest.mark.slow
def test_the_8_bit_form_is_the_cascade_with_rounded_weights(
    exported: tuple[Path, dict[str, Any]],
):
    cascade = noisy_cascade()
    with torch.no_grad():
        for name, w in cascade.levels[0].generator.named_parameters():
            if name.endswith("weight") and w.dim() > 1 and w.numel() >= 4096:
                step = w.flatten(1).abs().amax(1).view(-1, 1, 1, 1) / 127
                assert not torch.allclose((w / step).round() * step, w)
                w.copy_((w / step).round() * step)
    noise, label = block_noise(cascade, 3), torch.arange(BLOCK) % 2
    (stages,) = cascade.stages(BLOCK, seed=3, labels=label)
    inputs = {"z": noise["z_8"], "label": label, "coarse": stages[0].image}
    file = exported[0] / "int8" / "level-8.onnx"
    image = run(file, {**inputs, "epsilon": noise["epsilon_8"]})["image"]
    torch.testing.assert_close(image, stages[1].image, atol=1e-5, rtol=0)
    assert file.stat().st_size < 0.7 * (exported[0] / "float32" / "level-8.onnx").stat().st_size


def test_a_shorter_form_rounds_large_weights_and_nothing_else():
    random = np.random.default_rng(0)
    w, small = random.normal(size=(64, 80)).astype(np.float32), np.float32([[0.1], [0.2]])
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "net.weight"], ["y"]),
        onnx.helper.make_node("Mul", ["y", "small.weight"], ["out"]),
    ]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "g", [value("x", 1, [2, 64])], [value("out", 1, [2, 80])],
        [onnx.numpy_helper.from_array(w, "net.weight"),
         onnx.numpy_helper.from_array(small, "small.weight")],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
    model.ir_version = 10
    x = random.normal(size=(2, 64)).astype(np.float32)
    for form, rounded in (
        ("float32", w),
        ("float16", w.astype(np.float16).astype(np.float32)),
        ("int8", np.round(w / (abs(w).max(1) / 127)[:, None]) * (abs(w).max(1) / 127)[:, None]),
    ):
        content = store_as(model, form).SerializeToString()  # type: ignore[arg-type]
        (out,) = onnxruntime.InferenceSession(content).run(None, {"x": x})
        np.testing.assert_allclose(out, (x @ rounded) * small, rtol=1e-4, atol=1e-5)


def test_8_bits_are_chosen_for_weights_that_were_rounded_to_8_bits():
    net = nn.Linear(64, 80)
    assert choose_form([net]) == "float16"
    with torch.no_grad():
        scale = net.weight.abs().amax(1, keepdim=True) / 127
        net.weight.copy_((net.weight / scale).round() * scale)
    assert choose_form([net, nn.Linear(3, 4)]) == "int8"


@pytest.mark.slow
def test_a_program_of_torch_draws_what_the_cascade_draws(tmp_path: Path, cascade: Cascade):
    cascade = Cascade(cascade.recipe, cascade.levels, cascade.normalization, compute=FLOAT32)
    assert export_torch(cascade, tmp_path / "c.pt2") < 1e-5
    program = torch.export.load(tmp_path / "c.pt2").module()
    noise = {
        f"z_{name}": level.noise.sample(
            BLOCK, level.size, torch.Generator().manual_seed(seed_of(5, 0, k))
        )
        for k, (name, level) in enumerate(zip(("12", "6x8"), cascade.levels, strict=True))
    }
    noise |= {"start": torch.zeros(BLOCK, 3, 6, 8), "given": torch.zeros(BLOCK, dtype=torch.bool)}
    (stages,) = cascade.stages(BLOCK, seed=5)
    order = ("z_6x8", "z_12", "start", "given")
    image = program({name: noise[name] for name in order})["image"]
    torch.testing.assert_close(image, stages[-1].image, atol=1e-5, rtol=0)


def test_what_cannot_be_exported_is_explained(tmp_path: Path, cascade: Cascade):
    with pytest.raises(LapganError, match=r"form 'int4': expected one of float32, float16, int8"):
        export_onnx(cascade, tmp_path / "x", "x", ["int4"])  # type: ignore[list-item]
    with pytest.raises(LapganError, match=r"c\.pt: expected a name that ends in \.pt2"):
        export_torch(cascade, tmp_path / "c.pt")
    (tmp_path / "there").mkdir()
    with pytest.raises(LapganError, match="there: already exists"):
        export_onnx(cascade, tmp_path / "there", "x")
    graph = Graph("level-8", nn.Identity(), {})
    for difference in (0.1, float("nan")):
        with pytest.raises(LapganError, match="level-8: the exported graph differs from PyTorch"):
            check_difference(graph, "float32", difference)
    check_difference(graph, "int8", 0.1)
    assert list(tmp_path.iterdir()) == [tmp_path / "there"]
