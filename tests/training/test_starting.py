"""A run that starts from a trained model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from levels import content_of, revise, state_of, write_model
from tiny_recipe import TINY
from torch import Tensor

from lapgan.cascade import Cascade
from lapgan.errors import LapganError
from lapgan.recipe import Recipe, check_recipe
from lapgan.run_folder import PartFolder, RunFolder
from lapgan.training.callbacks import Callback
from lapgan.training.config import Budget, LogIntervals, RunConfig
from lapgan.training.level import LevelState, LevelTask
from lapgan.training.log import read_records
from lapgan.training.loop import train_task
from lapgan.training.run import plan, train
from lapgan.training.starting import StartingModel
from lapgan.weights import quantize, read_weights, write_weights

SILENT = Callback()
DATA = "dead-leaves:40"


@pytest.fixture
def model(tiny: Recipe, tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.safetensors", tiny)


def level_in(path: Path, level: str) -> dict[str, Tensor]:
    """The tensors of a level's G as they stand in a file, without their prefix."""
    prefix = f"levels.{level}.generator."
    tensors = safetensors.torch.load_file(path)
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def part_of(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{part}."): t for k, t in state.items() if k.startswith(f"{part}.")}


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert torch.equal(tensor, b[name]), name


def moved(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    assert a.keys() == b.keys()
    return any(not torch.equal(tensor, b[name]) for name, tensor in a.items())


PATCH = {"kind": "modern-patch", "patch": 2, "maps": 8, "blocks": 1}


@pytest.mark.parametrize("level", ["12", "6x8"])
@pytest.mark.parametrize("nets", [{}, {"generator": PATCH}], ids=["paper", "patch"])
def test_g_and_its_average_start_with_the_model_and_d_with_the_seed(
    task: LevelTask, tmp_path: Path, level: str, nets: dict[str, Any]
):
    content = content_of(task)
    content["levels"]["12"] |= nets
    plain = revise(task, content, level)
    path = write_model(tmp_path / "model.safetensors", plain.recipe)
    state = replace(plain, start=StartingModel.read(path)).initial_state()
    assert_same(dict(state.nets.generator.state_dict()), level_in(path, level))
    assert_same(dict(state.average.state_dict()), level_in(path, level))
    without = plain.initial_state()
    assert moved(dict(without.nets.generator.state_dict()), level_in(path, level))
    one, other = (s.nets.discriminator.state_dict() for s in (state, without))
    assert_same(dict(one), dict(other))


def test_weights_of_8_bits_are_multiplied_by_their_scales(
    task: LevelTask, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("lapgan.weights._LARGE", 64)
    path = tmp_path / "int8.safetensors"
    write_weights(path, quantize(read_weights(model)))
    packed = level_in(path, "12")
    scales = {n.removesuffix(":scale"): t for n, t in packed.items() if n.endswith(":scale")}
    assert scales
    state = replace(task, start=StartingModel.read(path)).initial_state()
    for name, tensor in state.nets.generator.state_dict().items():
        scale = scales[name].view(-1, 1, 1, 1) if name in scales else 1
        assert torch.equal(tensor, packed[name] * scale), name


def delayed(task: LevelTask, model: Path, steps: int, delay: int | None) -> LevelTask:
    """The task for so many steps by Adam, from a model."""
    content = content_of(task)
    content["training"] |= {
        "generator_delay": delay,
        "optimiser": {"kind": "adam", "learning_rate": 1e-3},
    }
    start = StartingModel.read(model)
    folder = PartFolder(task.folder.path.with_name(f"after-{steps}"))
    other = revise(task, content, "12")
    return replace(other, budget=Budget(8 * steps), start=start, folder=folder)


def test_g_waits_while_d_learns(task: LevelTask, model: Path):
    initial = delayed(task, model, 1, 3).initial_state()
    d = dict(initial.nets.discriminator.state_dict())
    states = {}
    for steps in (3, 4):
        each = delayed(task, model, steps, 3)
        train_task(each, SILENT)
        states[steps] = state_of(each)
    assert_same(part_of(states[3], "g"), level_in(model, "12"))
    assert_same(part_of(states[3], "average"), level_in(model, "12"))
    assert moved(part_of(states[3], "d"), d)
    assert moved(part_of(states[4], "g"), level_in(model, "12"))
    assert moved(part_of(states[4], "average"), level_in(model, "12"))


def test_the_warm_up_of_g_is_counted_from_the_end_of_the_delay(task: LevelTask):
    content = content_of(task)
    content["training"] |= {
        "generator_delay": 3,
        "warm_up": 4,
        "optimiser": {"kind": "adam", "learning_rate": 1e-3},
    }
    traced = replace(revise(task, content, "12"), intervals=LogIntervals(log=0.0))
    train_task(traced, SILENT)
    rates = [record["learning_rate"] for record in read_records(task.folder.log)]
    assert rates == pytest.approx([0, 0, 0, 0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3])
    state = traced.initial_state()
    traced.step(state)
    assert state.nets.discriminator_optimizer.param_groups[0]["lr"] == pytest.approx(0.25e-3)


@pytest.mark.parametrize(
    ("from_model", "delay", "waits"),
    [(False, None, 0), (True, None, 500), (True, 0, 0), (True, 20, 20), (False, 20, 20)],
)
def test_by_default_g_waits_where_it_starts_from_a_model(
    task: LevelTask, model: Path, from_model: bool, delay: int | None, waits: int
):
    each = delayed(task, model, 1000, delay)
    each = each if from_model else replace(each, start=None)
    state = each.initial_state()
    rates = {}
    for step in (waits - 1, waits):
        if step >= 0:
            state.images_seen = 8 * step
            each.step(state)
            rates[step - waits] = state.nets.generator_optimizer.param_groups[0]["lr"]
    assert rates.get(-1, 0) == 0
    assert rates[0] == pytest.approx(1e-3)


# Runs


@pytest.fixture
def config(tiny: Recipe, run_folder: Path) -> RunConfig:
    """A run from a model with levels of the same sizes."""
    levels = tiny.model_dump(mode="json")["levels"]
    content = TINY | {"levels": {"32": levels["12"], "8": levels["6x8"]}}
    recipe = check_recipe(content, "tiny")
    path = write_model(run_folder.with_name("trained.safetensors"), recipe)
    return RunConfig(recipe, run_folder, DATA, device="cpu", start_from=path)


def fork(config: RunConfig, name: str, recipe: dict[str, Any], **classes: Any) -> RunConfig:
    """The same run from a model of another recipe."""
    content = config.recipe.model_dump(mode="json") | recipe
    path = config.out.with_name(f"{name}.safetensors")
    return replace(config, start_from=write_model(path, check_recipe(content, name), **classes))


def test_every_level_of_a_run_starts_with_the_model(config: RunConfig):
    assert train(replace(config, images=16), SILENT) is not None
    for name in ("32", "8"):
        # All sixteen images are seen within the delay.
        found = level_in(config.out / f"level-{name}" / "weights.safetensors", name)
        assert_same(found, level_in(config.start_from, name))
    figures = Cascade.load(config.out).training["32"]["start_from"]
    assert figures["model"] == "trained.safetensors"
    identity = json.loads((config.out / "run.json").read_text())["start_from"]
    assert identity == {
        "model": str(config.start_from),
        "fingerprint": figures["fingerprint"],
        "discriminators": [],
    }


def test_a_run_that_is_stopped_in_the_delay_goes_on_without_the_model(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("lapgan.recipe.schema._DELAY_FROM_MODEL", 4)
    train(config, SILENT)
    stopped = replace(config, out=config.out.with_name("stopped"))
    train(replace(stopped, images=16), SILENT)
    trained = {name: level_in(config.start_from, name) for name in ("32", "8")}
    config.start_from.unlink()
    train(replace(stopped, start_from=None), SILENT)
    for name in ("32", "8"):
        one, other = (
            safetensors.torch.load_file(RunFolder(each.out).part(name).state)
            for each in (config, stopped)
        )
        assert_same(one, other)
        assert moved(part_of(one, "g"), trained[name])


def test_a_level_without_a_checkpoint_asks_for_the_model(config: RunConfig):
    train(replace(config, levels=("8",), images=8), SILENT)
    message = (
        rf"level 32: this run starts from {config.start_from}, and the level has no checkpoint "
        rf"yet; continue with --start-from {config.start_from}\."
    )
    with pytest.raises(LapganError, match=message):
        train(replace(config, start_from=None, images=8), SILENT)
    assert not RunFolder(config.out).part("32").path.exists()
    assert train(replace(config, images=8), SILENT) is not None


def test_the_model_of_a_run_may_be_named_otherwise_but_not_be_another(config: RunConfig):
    train(replace(config, images=8), SILENT)
    content = json.loads((config.out / "run.json").read_text())
    moved_to = config.start_from.rename(config.out.with_name("renamed.safetensors"))
    assert train(replace(config, images=16, start_from=moved_to), SILENT) is not None
    assert json.loads((config.out / "run.json").read_text()) == content
    other = fork(config, "other", {})
    for run in (lambda each: train(each, SILENT), lambda each: list(plan(each))):
        with pytest.raises(LapganError, match=r"another run\. .*start_from\.fingerprint \(there"):
            run(other)


def test_a_run_from_random_weights_cannot_go_on_from_a_model(config: RunConfig):
    train(replace(config, images=8, start_from=None), SILENT)
    with pytest.raises(LapganError, match=r"start_from \(there None, here .*trained\.safetensors"):
        train(replace(config, images=16), SILENT)


def test_a_model_that_does_not_fit_is_refused_before_anything_is_written(config: RunConfig):
    levels = config.recipe.model_dump(mode="json")["levels"]
    wider = {"levels": {"32": levels["32"], "8": levels["8"]}}
    wider["levels"]["8"] = levels["8"] | {"generator": {"kind": "paper-dense", "units": 24}}
    for other, message in (
        (
            fork(config, "small", {"levels": {"16": levels["32"], "8": levels["8"]}}),
            r"--start-from .*small\.safetensors: level 32: expected a level of 32x32, found the "
            r"levels 16, 8 \(tiny\); choose among them with --level, or use a recipe of these",
        ),
        (
            fork(config, "wider", wider),
            r"level 8: G's tensor .*: found \(24,\) in the model, expected \(16,\)\. Use the "
            r"generators and the noise of its recipe \(`lapgan info .*wider.* --json`\); "
            r"or choose other levels with --level\.",
        ),
        (
            fork(config, "classes", {"data": {"classes": True}}, class_names=("cat", "dog")),
            r"level 8: G's tensor .*: found .* in the model, expected .*\. Use .*, and data with 2 "
            r"classes \(this run has none\); or choose other levels",
        ),
        (replace(config, start_from=config.out / "none"), "there is no such file or folder"),
    ):
        for run in (lambda each: train(each, SILENT), lambda each: list(plan(each))):
            with pytest.raises(LapganError, match=message):
                run(other)
        assert not config.out.exists()
    # The level that fits may be trained alone.
    alone = fork(config, "small", {"levels": {"16": levels["32"], "8": levels["8"]}})
    train(replace(alone, levels=("8",), images=8), SILENT)
    assert RunFolder(config.out).part("8").weights.exists()


def test_a_plan_says_where_g_starts(config: RunConfig):
    lines = list(plan(config))
    start = f"G starts with the weights of {config.start_from}, and G waits 500 steps for D"
    assert [f"level {name}: {start}" for name in ("8", "32")] == lines[-3:-1]
    assert not any("starts with" in line for line in plan(replace(config, start_from=None)))


@pytest.fixture
def earlier(config: RunConfig) -> RunConfig:
    """A run from random weights that another one starts from."""
    earlier = replace(config, out=config.out.with_name("earlier"), start_from=None, images=32)
    train(earlier, SILENT)
    return earlier


def state_in(out: Path, level: str) -> dict[str, Tensor]:
    return safetensors.torch.load_file(RunFolder(out).part(level).state)


def test_from_a_run_d_starts_with_its_weights_too_and_g_does_not_wait(
    config: RunConfig, earlier: RunConfig, monkeypatch: pytest.MonkeyPatch
):
    started: dict[str, dict[str, Tensor]] = {}
    initial_state = LevelTask.initial_state

    def record(task: LevelTask) -> LevelState:
        state = initial_state(task)
        for part, net in state.modules.items():
            started[f"{task.name}.{part}"] = {k: t.clone() for k, t in net.state_dict().items()}
        return state

    monkeypatch.setattr(LevelTask, "initial_state", record)
    train(replace(config, start_from=earlier.out, seed=1), SILENT)
    for name in ("32", "8"):
        before = state_in(earlier.out, name)
        assert_same(started[f"{name}.d"], part_of(before, "d"))
        assert_same(started[f"{name}.g"], part_of(before, "average"))
        assert moved(started[f"{name}.g"], part_of(state_in(config.out, name), "g"))
    identity = json.loads((config.out / "run.json").read_text())["start_from"]
    assert identity["discriminators"] == ["32x32", "8x8"]


def test_a_run_that_began_with_a_d_goes_on_without_the_earlier_run(
    config: RunConfig, earlier: RunConfig
):
    straight = replace(config, start_from=earlier.out)
    train(straight, SILENT)
    stopped = replace(straight, out=config.out.with_name("stopped"))
    train(replace(stopped, images=16), SILENT)
    shutil.rmtree(earlier.out)
    train(replace(stopped, start_from=None), SILENT)
    for name in ("32", "8"):
        assert_same(state_in(stopped.out, name), state_in(straight.out, name))


def test_the_weights_of_a_run_without_its_d_are_another_model(
    config: RunConfig, earlier: RunConfig
):
    train(replace(config, start_from=earlier.out), SILENT)
    with pytest.raises(LapganError, match=r"start_from\.discriminators"):
        train(replace(config, start_from=RunFolder(earlier.out).cascade), SILENT)


def test_another_d_is_refused_before_anything_is_written(config: RunConfig, earlier: RunConfig):
    content = config.recipe.model_dump(mode="json")
    content["levels"]["8"]["discriminator"] = {"kind": "paper-dense", "units": 9}
    other = replace(config, recipe=check_recipe(content, "other"), start_from=earlier.out)
    expected = r"level 8: D's tensor .*: found .*, expected .*such as .*cascade.* has no D\."
    with pytest.raises(LapganError, match=expected):
        train(other, SILENT)
    assert not config.out.exists()
    train(replace(other, start_from=RunFolder(earlier.out).cascade), SILENT)
