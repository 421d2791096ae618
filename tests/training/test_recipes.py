"""The recipes of residual nets make a step and an image, whatever they will be trained on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lapgan.recipe import read_recipe
from lapgan.training import RunConfig, train
from lapgan.training.callbacks import Callback


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10-cc", "photos64"])
def test_every_level_makes_a_step_and_the_cascade_an_image(name: str, tmp_path: Path):
    recipe = read_recipe(name, ["training.batch=8", "training.warm_up=0"])
    (size, _) = recipe.sizes[0]
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (32, size, size, 3), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", images=pixels, labels=np.arange(32) % 10)
    config = RunConfig(recipe, tmp_path / "run", str(tmp_path / "noise.npz"), images=8)
    cascade = train(config, Callback())
    assert cascade is not None
    images = cascade.sample(2, seed=0)
    assert images.shape == (2, 3, size, size)
    assert not torch.equal(images[0], images[1])


def test_the_recipe_without_classes_has_the_nets_of_the_one_with():
    other = read_recipe("cifar10-cc", ["data.classes=false"])
    recipe = read_recipe("cifar10")
    assert recipe.levels == other.levels
    assert recipe.training == other.training
    assert recipe.data == other.data
