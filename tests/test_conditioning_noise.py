"""Conditioning noise: in recipes, in training, in the descent, in whole cascades."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lapgan.cascade import Cascade, CascadeNet, Level, descend
from lapgan.cascade.blocks import BLOCK
from lapgan.compute import choose_compute
from lapgan.errors import LapganError
from lapgan.noise import ConditioningNoise, PlaneNoise
from lapgan.normalization import symmetric_normalization
from lapgan.pyramid import gaussian_pyramid
from lapgan.recipe import Recipe, check_recipe
from lapgan.seeds import seed_of
from lapgan.training.examples import Examples, add_conditioning_noise, make_examples, real_stage
from lapgan.training.update import Nets, update_nets

FLOAT32 = choose_compute("cpu", "float32")


def content(noise: dict[str, float] | None, **data: Any) -> dict[str, Any]:
    fine: dict[str, Any] = {
        "noise": {"kind": "mixed", "dimension": 6, "planes": 2},
        "generator": {"kind": "residual", "maps": [8], "groups": 4, "style": 8},
        "discriminator": {"kind": "residual", "maps": [8], "units": 8},
    }
    if noise is not None:
        fine["conditioning_noise"] = noise
    coarse = {
        "noise": {"kind": "vector", "dimension": 6, "distribution": "normal"},
        "generator": {"kind": "residual-coarsest", "maps": 8, "groups": 4, "style": 8},
        "discriminator": {"kind": "residual", "maps": [8, 8], "units": 8},
    }
    return {
        "name": "noisy",
        "data": data,
        "pyramid": {"operator": "block-mean"},
        "levels": {"8": fine, "4": coarse},
    }


def recipe_with(noise: dict[str, float] | None) -> Recipe:
    return check_recipe(content(noise), "noisy")


def redraw(net: nn.Module) -> nn.Module:
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


def cascade_with(sigma: float | None) -> Cascade:
    recipe = recipe_with(None if sigma is None else {"sample": sigma})
    torch.manual_seed(1)
    levels = [
        Level(level.size, level.noise, redraw(level.build_generator(0)), s)
        for level, s in zip(recipe.levels, (sigma, None), strict=True)
    ]
    return Cascade(recipe, levels, symmetric_normalization((8, 8)), compute=FLOAT32)


def test_a_recipe_keeps_the_noise_and_one_without_the_key_has_none():
    recipe = recipe_with({"max": 0.2, "sample": 0.1})
    assert recipe.levels[0].conditioning_noise == ConditioningNoise(max=0.2, sample=0.1)
    assert check_recipe(recipe.model_dump(mode="json"), "again") == recipe
    assert recipe_with(None).levels[0].conditioning_noise is None


def test_a_level_that_cannot_have_it_is_named():
    wrong = content({"max": 0.1})
    wrong["levels"]["8"]["generator"] = {"kind": "modern-patch"}
    wrong["levels"]["8"]["noise"] = {"kind": "plane"}
    with pytest.raises(LapganError, match=r"levels\.8\.conditioning_noise.*'modern-patch'"):
        check_recipe(wrong, "mine")
    wrong["levels"]["8"]["generator"]["takes_sigma"] = True
    check_recipe(wrong, "mine")
    wrong = content({"max": 0.1})
    wrong["levels"]["4"]["conditioning_noise"] = {}
    with pytest.raises(LapganError, match=r"levels\.4\.conditioning_noise.*'residual-coarsest'"):
        check_recipe(wrong, "mine")
    with pytest.raises(LapganError, match=r"levels\.8\.conditioning_noise.*'standardised'"):
        check_recipe(content({"max": 0.1}, normalisation="standardised"), "mine")
    with pytest.raises(LapganError, match=r"levels\.8\.conditioning_noise\.max.*greater than 0"):
        check_recipe(content({"max": 0.0}), "mine")


def test_sigma_is_uniform_and_the_noise_has_its_standard_deviation():
    generator = torch.Generator().manual_seed(0)
    sigma, noise = ConditioningNoise(max=0.3).draw(4000, (5, 4), generator)
    assert sigma.shape == (4000, 1)
    assert sigma.min() >= 0
    assert 0.29 < sigma.max() <= 0.3
    # Uniform in [0, s]: mean s / 2, variance s^2 / 12.
    assert sigma.mean().item() == pytest.approx(0.15, abs=0.005)
    assert sigma.var().item() == pytest.approx(0.3**2 / 12, rel=0.05)
    e = noise / sigma[..., None, None]
    assert e.shape == (4000, 3, 5, 4)
    assert (e**2).mean().item() == pytest.approx(1, abs=0.02)
    assert (e**4).mean().item() == pytest.approx(3, abs=0.1)


def examples_of(recipe: Recipe, pixels: Tensor) -> Examples:
    level, generator = recipe.levels[0], torch.Generator().manual_seed(7)
    stage = real_stage(pixels, recipe, level, symmetric_normalization((8, 8)))
    examples = make_examples(stage, level, None, generator, FLOAT32)
    return add_conditioning_noise(examples, recipe, level, generator)


def test_in_training_the_coarse_image_is_disturbed_before_it_is_enlarged():
    pixels = torch.randint(0, 256, (30, 3, 8, 8), dtype=torch.uint8)
    clean = examples_of(recipe_with(None), pixels)
    noisy = examples_of(recipe_with({"max": 0.5}), pixels)
    assert clean.sigma is None
    assert noisy.sigma is not None
    assert noisy.low is not None
    assert torch.equal(noisy.z, clean.z)
    # u(.) repeats pixels, so that the noise is constant in each block of 2x2.
    image, coarse = gaussian_pyramid(pixels / 127.5 - 1, [(8, 8), (4, 4)], "block-mean")
    blocks = noisy.low.view(30, 3, 4, 2, 4, 2)
    assert (blocks.amax((3, 5)) - blocks.amin((3, 5))).max() < 1e-6
    e = (blocks[:, :, :, 0, :, 0] - coarse) / noisy.sigma[..., None, None]
    assert e.square().mean().item() == pytest.approx(1, abs=0.1)
    torch.testing.assert_close(noisy.low + noisy.high, image)
    second = noisy[20:]
    assert torch.equal(second.sigma, noisy.sigma[20:])  # type: ignore[arg-type]


class Listener(nn.Module):
    """A generator that adds nothing and keeps what it was given."""

    def forward(self, low: Tensor, z: Tensor, label: None, *sigma: Tensor) -> Tensor:
        self.inputs = (low, *sigma)
        return torch.zeros_like(low)


def test_a_descent_adds_the_noise_before_enlarging_and_gives_the_generator_sigma():
    net = Listener()
    start, e = 3 * torch.randn(5, 3, 2, 2), torch.randn(5, 3, 2, 2)
    z = [torch.zeros(5, 1, 4, 4)]
    level = Level((4, 4), PlaneNoise(), net, sigma=0.25)
    (stage,) = descend([level], "block-mean", z, None, start, epsilon=[e])
    expected = start.clamp(-1.1, 1.1) + 0.25 * e
    low, sigma = net.inputs
    torch.testing.assert_close(low, expected.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert sigma.tolist() == [[0.25]] * 5
    assert torch.equal(stage.image, low)
    for quiet, epsilon in ((level, None), (replace(level, sigma=None), [e])):
        descend([quiet], "block-mean", z, None, start, epsilon=epsilon)
        (low,) = net.inputs
        torch.testing.assert_close(low, start.repeat_interleave(2, 2).repeat_interleave(2, 3))


@torch.no_grad()
def test_the_noise_of_a_cascade_is_drawn_after_z_and_leaves_the_coarsest_level_alone():
    noisy, clean = cascade_with(0.3), cascade_with(None)
    (stages,) = noisy.stages(BLOCK, seed=5)
    (others,) = clean.stages(BLOCK, seed=5)
    assert torch.equal(stages[0].image, others[0].image)
    assert not torch.allclose(stages[1].image, others[1].image, atol=0.05)
    generator = torch.Generator().manual_seed(seed_of(5, 0, 0))
    fine, coarse = noisy.levels
    z = fine.noise.sample(BLOCK, (8, 8), generator)
    e = torch.randn((BLOCK, 3, 4, 4), generator=generator)
    z_coarse = coarse.noise.sample(BLOCK, (4, 4), torch.Generator().manual_seed(seed_of(5, 0, 1)))
    low = (stages[0].image.clamp(-1.1, 1.1) + 0.3 * e).repeat_interleave(2, 2)
    low = low.repeat_interleave(2, 3)
    high = fine.generator(low, z, None, torch.full((BLOCK, 1), 0.3))
    torch.testing.assert_close(stages[1].image, low + high)
    net = CascadeNet([coarse, fine], "block-mean")
    torch.testing.assert_close(net([z_coarse, z], epsilon=[None, e]), stages[1].image)


def test_the_saved_cascade_draws_the_same(tmp_path):
    cascade = cascade_with(0.3)
    cascade.save(tmp_path / "w.safetensors")
    again = Cascade.load(tmp_path / "w.safetensors", FLOAT32)
    assert torch.equal(again.sample(3, seed=2), cascade.sample(3, seed=2))


def test_an_update_gives_sigma_to_the_generator():
    recipe = recipe_with({"max": 0.5})
    examples = examples_of(recipe, torch.randint(0, 256, (8, 3, 8, 8), dtype=torch.uint8))
    level = recipe.levels[0]
    generator, discriminator = (
        redraw(level.build_generator(0)),
        redraw(level.build_discriminator(0)),
    )
    nets = Nets(generator, discriminator, *(
        torch.optim.SGD(net.parameters(), lr=0.0) for net in (generator, discriminator)
    ))  # fmt: skip
    update = update_nets(nets, examples, recipe.training.objective)
    expected = generator(examples.low, examples.z, None, examples.sigma)
    torch.testing.assert_close(update.fake, expected.detach())
