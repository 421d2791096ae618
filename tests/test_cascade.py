import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lapgan.cascade import Cascade, CascadeNet, Level, descend
from lapgan.cascade.blocks import BLOCK
from lapgan.compute import choose_compute
from lapgan.errors import LapganError
from lapgan.noise import PlaneNoise, VectorNoise
from lapgan.normalization import symmetric_normalization
from lapgan.pyramid import Operator, Stage, laplacian_pyramid, size_of, stages_of, upsample
from lapgan.recipe import Recipe
from lapgan.seeds import seed_of


class Oracle(nn.Module):
    """A generator that returns the residual of one image, whatever it is given."""

    def __init__(self, high: Tensor) -> None:
        super().__init__()
        self.high = high

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        return self.high.expand(len(z), -1, -1, -1)


def test_with_oracles_the_cascade_returns_the_image(tiny: Recipe):
    pixels = torch.randint(0, 256, (1, 3, 12, 12), dtype=torch.uint8)
    normalization = symmetric_normalization((12, 12))
    highs = laplacian_pyramid(normalization.normalize(pixels), tiny.sizes, tiny.pyramid.operator)
    levels = [
        Level(level.size, level.noise, Oracle(high))
        for level, high in zip(tiny.levels, highs, strict=True)
    ]
    cascade = Cascade(tiny, levels, normalization)
    assert torch.equal(cascade.sample(3), pixels.expand(3, -1, -1, -1))
    coarse, fine = cascade.chain(3)
    assert coarse.low is None
    assert torch.equal(fine.image, pixels.expand(3, -1, -1, -1))
    refined = cascade.sample(3, start=coarse.image)
    # The coarse image was rounded to whole pixel values before it was refined.
    assert (refined.int() - pixels.int()).abs().max() <= 2


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_images_are_the_same_on_any_number_of_threads(cascade: Cascade, threads: int):
    before = torch.get_num_threads()
    expected = cascade.sample(3 * BLOCK, seed=5)
    torch.set_num_threads(threads)
    try:
        assert torch.equal(cascade.sample(3 * BLOCK, seed=5), expected)
    finally:
        torch.set_num_threads(before)


def test_a_seed_gives_the_same_images_however_many_are_made(cascade: Cascade):
    many = cascade.sample(BLOCK + 10, seed=5)
    assert torch.equal(cascade.sample(7, seed=5), many[:7])
    assert torch.equal(cascade.sample(BLOCK + 1, seed=5), many[: BLOCK + 1])
    assert not torch.equal(cascade.sample(7, seed=6), many[:7])
    assert not torch.equal(many[:10], many[BLOCK:])
    assert cascade.sample(0).shape == (0, 3, 12, 12)


def test_a_chain_ends_in_the_sample(cascade: Cascade):
    stages = cascade.chain(BLOCK + 3, seed=1)
    assert [size_of(stage.image) for stage in stages] == [(6, 8), (12, 12)]
    assert torch.equal(stages[-1].image, cascade.sample(BLOCK + 3, seed=1))


def test_a_coarse_image_is_refined_in_different_ways(cascade: Cascade):
    coarse = torch.randint(0, 256, (1, 3, 6, 8), dtype=torch.uint8).expand(4, -1, -1, -1)
    refined = cascade.sample(4, start=coarse)
    assert refined.shape == (4, 3, 12, 12)
    assert not torch.equal(refined[0], refined[1])
    assert torch.equal(refined, cascade.sample(4, start=coarse))
    assert not torch.equal(refined, cascade.sample(4, seed=1, start=coarse))


@pytest.mark.parametrize("size", [(12, 12), (8, 6), (5, 5)], ids=str)
def test_images_of_another_size_are_not_refined(cascade: Cascade, size: tuple[int, int]):
    with pytest.raises(LapganError, match=f"{size[0]}x{size[1]}; this model refines images of 6x8"):
        cascade.sample(1, start=torch.zeros(1, 3, *size, dtype=torch.uint8))


def test_labels_are_balanced_and_change_the_images(cascade_with_classes: Cascade):
    cascade = cascade_with_classes
    labels = cascade.labels(8)
    assert labels is not None
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    for classes, index in ((["dog"], 1), ([0], 0), (["2"], 2), (["7"], 2)):
        chosen = cascade.labels(2, classes)
        assert chosen is not None
        assert chosen.tolist() == [index, index]
    cats, dogs = cascade.sample(3, labels=[0] * 3), cascade.sample(3, labels=[1] * 3)
    assert not torch.equal(cats, dogs)


def test_wrong_labels_are_named(cascade_with_classes: Cascade, cascade: Cascade):
    with_classes = cascade_with_classes
    with pytest.raises(LapganError, match="class 'cow': not one of this model's: cat, dog, 7"):
        with_classes.labels(3, ["cow"])
    with pytest.raises(LapganError, match="class '3'"):
        with_classes.labels(3, ["3"])
    with pytest.raises(LapganError, match=r"expected 3 indices from 0 to 2, found \[0, 3, 1\]"):
        with_classes.sample(3, labels=[0, 3, 1])
    with pytest.raises(LapganError, match="has no classes"):
        cascade.sample(3, labels=[0, 0, 0])
    with pytest.raises(LapganError, match="trained without classes"):
        cascade.labels(3, ["cat"])


def test_one_file_rebuilds_the_model(tmp_path: Path, cascade_with_classes: Cascade):
    cascade = cascade_with_classes
    cascade.training = {"12": {"images_seen": 3}}
    cascade.save(tmp_path / "c.safetensors")
    again = Cascade.load(tmp_path / "c.safetensors")
    assert torch.equal(again.sample(5, seed=2), cascade.sample(5, seed=2))
    assert again.class_names == ("cat", "dog", "7")
    assert again.recipe == cascade.recipe
    assert again.training == cascade.training


def test_residuals_are_what_the_cascade_adds(cascade: Cascade):
    _, (low, high, image) = next(cascade.stages(3, seed=5))
    assert low is not None
    assert torch.equal(low + high, image)
    torch.testing.assert_close(low + cascade.residuals(0, low, seed=5), image)
    with pytest.raises(LapganError, match="level 6x8: no residuals"):
        cascade.residuals(1, low)
    with pytest.raises(LapganError, match="of 6x8"):
        cascade.residuals(0, torch.zeros(1, 3, 6, 8))


def test_stages_may_stop_at_a_level(cascade: Cascade):
    coarsest, _ = next(cascade.stages(3, seed=5))
    (alone,) = next(cascade.stages(3, seed=5, finest=1))
    assert torch.equal(alone.image, coarsest.image)


def test_one_start_per_image_is_needed(cascade: Cascade):
    with pytest.raises(LapganError, match=r"start: expected 3 coarse images, .* found 2"):
        cascade.sample(3, start=torch.zeros(2, 3, 6, 8, dtype=torch.uint8))


class Affine(nn.Module):
    """A finer generator whose residual is half the low-pass image plus noise and label."""

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        assert low is not None
        assert label is not None
        return 0.5 * low + z + label.view(-1, 1, 1, 1)


class Columns(nn.Module):
    """A coarsest generator of images whose columns are the noise vector."""

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        assert low is None
        return z[:, None, None, :].expand(-1, 3, 2, -1)


def affine_levels() -> list[Level]:
    """Levels of 2x4, 4x8 and 8x8, coarsest first."""
    return [
        Level((2, 4), VectorNoise(dimension=4), Columns()),
        Level((4, 8), PlaneNoise(), Affine()),
        Level((8, 8), PlaneNoise(), Affine()),
    ]


def affine_noise(n: int) -> list[Tensor]:
    return [torch.rand(n, 4), torch.rand(n, 1, 4, 8), torch.rand(n, 1, 8, 8)]


def test_a_descent_adds_to_each_upsampled_image_what_its_generator_makes_of_it():
    z, label = affine_noise(2), torch.tensor([0, 3])
    first, second, third = descend(affine_levels(), "block-mean", z, label)
    # u(.) of block-mean repeats pixels, so that everything can be written out.
    assert first.low is None
    assert torch.equal(first.image, z[0].view(2, 1, 1, 4).expand(2, 3, 2, 4))
    shift = label.view(2, 1, 1, 1).float()
    low = first.image.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert second.low is not None
    torch.testing.assert_close(second.low, low)
    torch.testing.assert_close(second.high, 0.5 * low + z[1] + shift)
    torch.testing.assert_close(second.image, 1.5 * low + z[1] + shift)
    low = second.image.repeat_interleave(2, dim=2)
    torch.testing.assert_close(third.image, 1.5 * low + z[2] + shift)


def test_a_descent_from_an_image_is_the_rest_of_the_descent_that_made_it():
    levels, z, label = affine_levels(), affine_noise(3), torch.tensor([0, 1, 2])
    whole = descend(levels, "bilinear", z, label)
    rest = descend(levels[1:], "bilinear", z[1:], label, start=whole[0].image)
    for stage, expected in zip(rest, whole[1:], strict=True):
        assert torch.equal(stage.image, expected.image)
        assert torch.equal(stage.high, expected.high)
    assert descend([], "bilinear", [], None) == []


def test_a_descent_needs_noise_for_every_level():
    with pytest.raises(ValueError, match="shorter"):
        descend(affine_levels(), "bilinear", affine_noise(2)[:2], torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize("operator", ["burt-adelson", "bilinear", "block-mean", "area-linear"])
def test_with_the_residuals_of_an_image_a_descent_retraces_its_stages(operator: Operator):
    image = torch.randn(2, 3, 9, 10, dtype=torch.float64)
    sizes = [(9, 10), (5, 6), (2, 6)]
    stages = stages_of(image, sizes, operator)
    levels = [
        Level(size, VectorNoise(), Oracle(stage.high))
        for size, stage in zip(reversed(sizes), reversed(stages), strict=True)
    ]
    retraced = descend(levels, operator, [torch.zeros(2, 1)] * 3, None)
    for stage, expected in zip(retraced, reversed(stages), strict=True):
        # The generators' residuals are taken in float32.
        torch.testing.assert_close(stage.image.double(), expected.image, atol=1e-5, rtol=0)


def in_float32(cascade: Cascade) -> Cascade:
    """The cascade as it is computed where bfloat16 is not faster."""
    compute = choose_compute("cpu", "float32")
    return Cascade(cascade.recipe, cascade.levels, cascade.normalization, cascade.class_names,
                   compute=compute)  # fmt: skip


def stages_by_hand(cascade: Cascade, n: int, seed: int) -> list[Stage]:
    """The first block of a cascade of two levels, with no part of `lapgan.cascade`."""
    label = None if not cascade.class_names else cascade.labels(n)
    padded = None if label is None else torch.cat((label, label[-1:].expand(BLOCK - n)))
    fine, coarse = cascade.levels
    z = {
        k: cascade.levels[k].noise.sample(
            BLOCK, cascade.levels[k].size, torch.Generator().manual_seed(seed_of(seed, 0, k))
        )
        for k in (0, 1)
    }
    image = coarse.generator(None, z[1], padded)
    low = upsample(image, fine.size, cascade.operator)
    high = fine.generator(low, z[0], padded)
    stages = [Stage(None, image, image), Stage(low, high, low + high)]
    return [Stage(*(None if t is None else t[:n] for t in stage)) for stage in stages]


@torch.no_grad()
def test_a_cascade_is_the_descent_of_its_levels_with_noise_of_its_seed(
    cascade: Cascade, cascade_with_classes: Cascade
):
    for model in map(in_float32, (cascade, cascade_with_classes)):
        (stages,) = model.stages(6, seed=3)
        for stage, expected in zip(stages, stages_by_hand(model, 6, 3), strict=True):
            torch.testing.assert_close(stage.image, expected.image)
            torch.testing.assert_close(stage.high, expected.high)


def cascade_net(cascade: Cascade) -> tuple[CascadeNet, list[Tensor]]:
    """A cascade as a module, and the noise of the first block of seed 3."""
    levels = list(reversed(cascade.levels))
    z = [
        level.noise.sample(BLOCK, level.size, torch.Generator().manual_seed(seed_of(3, 0, k)))
        for k, level in reversed(list(enumerate(cascade.levels)))
    ]
    return CascadeNet(levels, cascade.operator), z


@torch.no_grad()
def test_the_module_of_a_cascade_generates_what_the_cascade_does(cascade_with_classes: Cascade):
    cascade = in_float32(cascade_with_classes)
    net, z = cascade_net(cascade)
    labels = torch.arange(BLOCK) % 3
    (stages,) = cascade.stages(BLOCK, seed=3, labels=labels)
    torch.testing.assert_close(net(z, labels), stages[-1].image)
    started = CascadeNet(list(net.levels[1:]), cascade.operator)
    torch.testing.assert_close(started(z[1:], labels, stages[0].image), stages[-1].image)
    assert {id(p) for p in net.parameters()} == {
        id(p) for level in cascade.levels for p in level.generator.parameters()
    }


@torch.no_grad()
def test_the_module_of_a_cascade_can_be_exported(cascade: Cascade):
    net, z = cascade_net(cascade)
    program = torch.export.export(net, (z,))
    other = [torch.rand_like(noise) for noise in z]
    torch.testing.assert_close(program.module()(other), net(other))


def test_numbers_and_images_that_cannot_be_sampled_are_explained(cascade: Cascade):
    for n, seed, start, message in (
        (-1, 0, None, "n: expected 0 or more, found -1"),
        (2, -5, None, "seed: expected 0 or more, found -5"),
        (2, 0, torch.rand(2, 3, 6, 8), r"uint8 \(n, 3, h, w\), found torch\.float32"),
        (2, 0, torch.zeros(3, 6, 8, dtype=torch.uint8), r"found torch\.uint8 \(3, 6, 8\)"),
    ):
        with pytest.raises(LapganError, match=message):
            cascade.sample(n, seed, start=start)


def test_arguments_of_wrong_types_are_explained():
    # In a process of its own, where types are not checked as they are in tests.
    code = (
        "import numpy as np; from lapgan import Cascade; from lapgan.errors import LapganError\n"
        "cascade = Cascade.load('cifar10-cc')\n"
        "for wrong in ({'labels': ['cat'] * 2}, {'start': np.zeros((2, 3, 8, 8), np.uint8)}):\n"
        "    try: cascade.sample(2, **wrong)\n"
        "    except LapganError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first.startswith("labels: expected 2 indices of classes, found ['cat', 'cat']")
    assert second.startswith("start: expected coarse images as a tensor, uint8 (n, 3, h, w), found")
