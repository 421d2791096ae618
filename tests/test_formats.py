"""Files of earlier versions are read, and give what they gave.

`formats/run` is a run of two small levels that was written by the first version of the format, with
keys that have since been removed. `formats/samples.npz` holds images that the packaged models drew
when they were first packaged.
"""

import hashlib
import json
import shutil
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray

from lapgan.cascade import Cascade
from lapgan.compute import Compute
from lapgan.pyramid import downsample
from lapgan.recipe import check_recipe
from lapgan.run_folder import RunFolder
from lapgan.training import RunConfig, train
from lapgan.training.folder import read_recipe_of
from lapgan.training.log import read_records

FORMATS = Path(__file__).parent / "formats"
FLOAT32 = Compute(torch.device("cpu"), torch.float32, "as asked")

# Of 64 images of seed 0, in float32.
CHECKSUMS = {
    "cifar10-cc": "3a62e0d56e814b9bcce38d248100fcbc0934aca8681b38f30a82f50ba588f15d",
    "cifar10-cc-medium": "328120f84c4a091b29f741e15abd9ab5f5b6360da1a0f3fab0094c78f785f158",
    "cifar10-cc-small": "a0049a206c478d7cc38a6582413135505f27d157bf613b37b3393d5a7ba58757",
    "cifar10-medium": "4d9dd2fb2c76812ad0598af818c5de77abfa72d2a3bf4fbc517bf36014a11f36",
    "cifar10-uncond": "5c6879686be9d3848cc3b5f92eec4d3a69aa1de1a495c307b2534f6578c0af28",
    "scenes64": "7fb2fba62a33d57220175806d7ba52aa52dda75869d04c4a3f1acf731b29a037",
    "scenes64-small": "ea6087d53f224adbfebd6b6040a3ddc9e068d40cdd64fcdd1b637ee218a1d39b",
}


@lru_cache
def draw(name: str) -> UInt8[NDArray, "64 3 h w"]:
    return Cascade.load(name, FLOAT32).sample(64, seed=0).numpy()


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n == "scenes64")) for n in CHECKSUMS],
)
def test_a_packaged_model_draws_the_same_images_as_ever(name: str):
    images = draw(name)
    if hashlib.sha256(images.tobytes()).hexdigest() == CHECKSUMS[name]:
        return
    # Processors round products differently, which moves some pixels by a gray level.
    with np.load(FORMATS / "samples.npz") as archive:
        difference = np.abs(images[::8].astype(int) - archive[name])
    assert difference.max() <= 3
    assert (difference > 0).mean() < 0.01


def test_another_models_classifier_recognizes_the_classes_of_cifar10_cc():
    small = Cascade.load("cifar10-cc-small", FLOAT32)
    assert small.guide is not None
    x = small.normalization.normalize(torch.from_numpy(draw("cifar10-cc")))
    log_probabilities = small.guide.net(downsample(x, small.guide.size, small.operator))
    right = log_probabilities.argmax(1) == small.labels(64)
    # On real images it is right on 74 of 100 (docs/best-of.md); chance is 10.
    assert right.float().mean() > 0.5


def test_a_run_of_the_first_format_is_continued(tmp_path: Path):
    out = tmp_path / "run"
    shutil.copytree(FORMATS / "run", out)
    config = RunConfig(read_recipe_of(out), out, images=32, device="cpu")
    cascade = train(config)
    assert cascade is not None
    assert cascade.sample(3).shape == (3, 3, 32, 32)
    for name in ("32", "4"):
        records = list(read_records(RunFolder(out).part(name).log))
        assert [record["images_seen"] for record in records] == [16, 32]
        assert cascade.training[name]["images_seen"] == 32
    # The first format did not record the precision; from here on the run keeps it.
    identity = json.loads(RunFolder(out).identity.read_text())
    assert identity["precision"] in ("float32", "bfloat16")


def test_weights_of_the_first_format_know_their_recipe(tmp_path: Path):
    cascade = Cascade.load(FORMATS / "run", FLOAT32)
    assert cascade.recipe == read_recipe_of(FORMATS / "run")
    assert cascade.recipe.training.objective.kind == "relativistic"
    assert [level.penalty and level.penalty.weight for level in cascade.recipe.levels] == [1.0, 0.1]
    content = cascade.recipe.model_dump(mode="json")
    assert check_recipe(content, "again") == cascade.recipe
    cascade.save(tmp_path / "cascade.safetensors")
    again = Cascade.load(tmp_path / "cascade.safetensors", FLOAT32)
    assert torch.equal(again.sample(5), cascade.sample(5))
