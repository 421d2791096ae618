"""The finest level beyond its training size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from lapgan.cascade import Cascade, Level
from lapgan.cli import app
from lapgan.errors import LapganError
from lapgan.models.contracts import generate
from lapgan.normalization import Normalization, symmetric_normalization
from lapgan.pyramid import upsample
from lapgan.recipe import Recipe, check_recipe
from lapgan.seeds import generator_of

RESIDUAL = {
    "noise": {"kind": "mixed", "dimension": 4, "planes": 1},
    "generator": {"kind": "residual", "maps": [8, 8], "groups": 4, "style": 8},
    "discriminator": {"kind": "residual", "maps": [8, 8], "units": 8},
    "conditioning_noise": {"max": 0.2, "sample": 0.1},
}


def build(recipe: Recipe, classes: tuple[str, ...] = ()) -> Cascade:
    levels = [
        Level(
            level.size, level.noise, level.build_generator(len(classes)),
            None if level.conditioning_noise is None else level.conditioning_noise.sample,
        )
        for level in recipe.levels
    ]  # fmt: skip
    return Cascade(recipe, levels, symmetric_normalization(recipe.sizes[0]), classes)


def with_finest(tiny: Recipe, level: dict[str, object]) -> Recipe:
    content = tiny.model_dump(mode="json")
    content["levels"]["12"] = level
    return check_recipe(content, "tiny")


def test_each_larger_image_is_the_enlarged_one_and_what_the_level_adds(cascade: Cascade):
    stages = next(iter(cascade.upscale(4).stages(3, seed=5)))
    assert [stage.image.shape[-1] for stage in stages] == [8, 12, 24, 48]
    base = next(iter(cascade.stages(3, seed=5)))
    assert all(torch.equal(a.image, b.image) for a, b in zip(base, stages, strict=False))
    image, net = stages[1].image, cascade.levels[0].generator
    for step, stage in enumerate(stages[2:]):
        size = (24 << step, 24 << step)
        low = upsample(image, size, cascade.operator)
        z = cascade.levels[0].noise.sample(64, size, generator_of(5, 0, 2 + step))[:3]
        with cascade.compute.autocast():
            image = low + generate(net, low, z, None).float()
        torch.testing.assert_close(stage.image, image, atol=1e-5, rtol=0)


def test_factor_one_draws_the_same_images(cascade: Cascade):
    assert torch.equal(cascade.upscale(1).sample(3), cascade.sample(3))
    assert cascade.upscale(2).sample(0).shape == (0, 3, 24, 24)


@pytest.mark.parametrize("kind", ["residual", "modern-patch"])
def test_nets_with_classes_are_applied_again_too(tiny_with_classes: Recipe, kind: str):
    level = RESIDUAL
    if kind == "modern-patch":
        patch = {"kind": kind, "patch": 4, "maps": 8}
        level = {"noise": {"kind": "hashed"}, "generator": patch | {"blocks": 1},
                 "discriminator": patch | {"units": 8}}  # fmt: skip
    cascade = build(with_finest(tiny_with_classes, level), ("cat", "dog")).upscale(2)
    first, second = (cascade.sample(4, labels=[label] * 4) for label in (0, 1))
    assert first.shape == (4, 3, 24, 24)
    assert not torch.equal(first, second)


def test_a_real_image_of_the_finest_size_can_be_enlarged(cascade: Cascade):
    start = torch.randint(0, 256, (2, 3, 12, 12), dtype=torch.uint8)
    with pytest.raises(LapganError, match="this model refines images of"):
        cascade.sample(2, start=start)
    larger = cascade.upscale(2).sample(2, start=start)
    assert larger.shape == (2, 3, 24, 24)
    # The low-pass image is that of the start; an untrained level adds little to it.
    assert (larger.float().mean((2, 3)) - start.float().mean((2, 3))).abs().max() < 30


@pytest.mark.parametrize(
    ("level", "message"),
    [
        ({"noise": {"kind": "vector"}}, "generator 'paper-conv' and noise 'vector'"),
        ({"noise": {"kind": "low-rank", "factor": "learned"}}, "noise 'low-rank'"),
    ],
)
def test_a_level_of_one_size_is_refused(tiny: Recipe, level: dict[str, object], message: str):
    finest = tiny.model_dump(mode="json")["levels"]["12"] | level
    cascade = build(with_finest(tiny, finest))
    with pytest.raises(LapganError, match=f"upscale 2: level 12 of tiny works at its .*{message}"):
        cascade.upscale(2)


def test_planes_of_classes_and_odd_factors_are_refused(
    cascade_with_classes: Cascade, cascade: Cascade
):
    with pytest.raises(LapganError, match="and 3 classes"):
        cascade_with_classes.upscale(2)
    with pytest.raises(LapganError, match="upscale 3: expected 1, 2, 4, 8"):
        cascade.upscale(3)


def test_pixels_of_larger_images_are_on_the_scale_of_their_neighbors():
    mean = torch.linspace(50, 200, 3 * 16).view(3, 4, 4)
    normalization = Normalization(mean, torch.full((3, 4, 4), 30.0))
    larger = normalization.denormalize(torch.zeros(1, 3, 8, 8))
    assert (
        larger[0].float() - mean.repeat_interleave(2, 1).repeat_interleave(2, 2)
    ).abs().max() < 10
    assert torch.allclose(larger.float().mean((2, 3))[0], mean.mean((1, 2)), atol=1)


@pytest.mark.parametrize("out", ["sheet.png", "chain.png", "images.npz", "folder"])
def test_the_command_writes_larger_images(cascade: Cascade, tmp_path: Path, out: str):
    cascade.save(tmp_path / "tiny.safetensors")
    arguments = ["sample", str(tmp_path / "tiny.safetensors"), "--n", "2", "--upscale", "2",
                 "--out", str(tmp_path / out)]  # fmt: skip
    result = CliRunner().invoke(app, arguments + (["--chain"] if out == "chain.png" else []))
    assert result.exit_code == 0, result.output
    if out == "images.npz":
        assert np.load(tmp_path / out)["images"].shape == (2, 24, 24, 3)
