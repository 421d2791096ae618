"""Going back: what counts as an explosion, and a tiny level that is made to explode."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from levels import after, content_of, revise, state_of
from torch import Tensor

from lapgan.errors import LapganError
from lapgan.objectives.hinge import Hinge
from lapgan.recipe.schema import TrainingRecipe
from lapgan.run_folder import PartFolder
from lapgan.training.callbacks import Callback
from lapgan.training.config import Budget, LogIntervals
from lapgan.training.level import LevelState, LevelTask
from lapgan.training.log import read_records
from lapgan.training.loop import train_task
from lapgan.training.rollback import Limits, Window, limits_of
from lapgan.training.state import saved_images
from lapgan.weights import read_weights

LIMITS = Limits(rollbacks=3, batch=8, loss_d=3.0)
FINE = {"loss_d": 0.69, "loss_g": 0.7, "right": 0.55}


@pytest.mark.parametrize(
    ("change", "steps", "reason"),
    [
        ({}, 600, None),
        ({"loss_d": 2.9, "loss_g": 19.0, "right": 0.43}, 600, None),
        ({"loss_d": 4310.0}, 100, "the loss of D was 4.31e+03, expected at most 3"),
        ({"loss_d": math.nan}, 100, "the loss of D was nan, expected at most 3"),
        ({"loss_g": math.inf}, 100, "the loss of G was inf, expected at most 20"),
        ({"loss_g": 21.0}, 100, "the loss of G was 21, expected at most 20"),
        ({"right": 0.3}, 500, None),
        ({"right": 0.3}, 600, "D was right on 30%, expected at least 42%"),
    ],
)
def test_an_explosion_is_a_loss_beyond_its_scale_or_a_d_that_is_wrong_on_most(
    change: dict[str, float], steps: int, reason: str | None
):
    assert LIMITS.explain({**FINE, **change}, steps) == reason


def test_the_limit_of_the_loss_of_d_goes_with_the_objective():
    limits = limits_of(TrainingRecipe(rollbacks=1))
    assert limits is not None
    assert limits.loss_d == pytest.approx(3)
    hinge = limits_of(TrainingRecipe(rollbacks=1, objective=Hinge()))
    assert hinge is not None
    # An undecided D has the hinge loss 1 + 1.
    assert hinge.loss_d == pytest.approx(3 * 2 / math.log(2))
    assert limits_of(TrainingRecipe()) is None


def test_a_window_has_the_means_since_it_was_last_taken():
    window = Window()
    for loss in (1.0, 3.0):
        figures = {"loss_d": loss, "loss_g": 2 * loss, "real_accuracy": 0.5, "fake_accuracy": 1.0}
        window.add({name: torch.tensor(value) for name, value in figures.items()})
    assert window.take() == {"loss_d": 2.0, "loss_g": 4.0, "right": 0.75}
    assert torch.equal(window.sums, torch.zeros(3))


@pytest.fixture
def explosive(task: LevelTask, monkeypatch: pytest.MonkeyPatch) -> LevelTask:
    """120 steps of the coarsest level, at a learning rate that is far too large.

    Checks and kept states are ten times as dense as they are.
    """
    monkeypatch.setattr("lapgan.training.rollback._CHECK_STEPS", 10)
    monkeypatch.setattr("lapgan.training.rollback._KEEP_STEPS", 50)
    content = content_of(task)
    content["training"] |= {
        "objective": "relativistic",
        "optimiser": {"kind": "adam", "learning_rate": 3.2, "betas": [0.0, 0.99]},
        "rollbacks": 8,
    }
    content["levels"]["6x8"]["discriminator"]["dropout"] = 0.0
    return replace(revise(task, content, "6x8"), budget=Budget(8 * 120))


class Warnings(Callback):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def warned(self, message: str) -> None:
        self.messages.append(message)


def test_an_explosion_goes_back_with_half_the_rate_and_says_so(explosive: LevelTask):
    warnings = Warnings()
    every = LogIntervals(log=0.0)
    state = train_task(replace(explosive, intervals=every), warnings)
    count = state.rollbacks
    exploded = [m for m in warnings.messages if "exploded" in m]
    assert 1 <= count == len(exploded) <= 8
    assert exploded[0].startswith("level 6x8: training exploded after 80 images: the loss of D ")
    assert exploded[0].endswith(
        "It goes on from 0 images at 0.5 of the learning rate (rollback 1 of 8)."
    )
    assert state.images_seen == 8 * 120
    assert state.nets.discriminator_optimizer.param_groups[0]["lr"] == 3.2 / 2**count
    records = list(read_records(explosive.folder.log))
    # The log goes forward, without what was taken back.
    assert all(a["images_seen"] < b["images_seen"] for a, b in pairwise(records))
    assert len(records) == 120
    assert records[-1]["rollbacks"] == count
    assert records[-1]["learning_rate"] == pytest.approx(3.2 / 2**count)
    assert sum(record["loss_d"] for record in records[-10:]) / 10 <= 3
    assert sorted(map(saved_images, explosive.folder.kept)) == [8 * 50, 8 * 100]
    assert read_weights(explosive.folder.weights).training["6x8"]["images_seen"] == 8 * 120


def test_an_interrupted_run_goes_back_as_an_uninterrupted_one_does(explosive: LevelTask):
    folder = PartFolder(explosive.folder.path.with_name("straight"))
    straight = replace(explosive, folder=folder)
    assert train_task(straight, Callback()).rollbacks > 1
    for steps in (5, 13, 1, 40, 62):
        train_task(explosive, Callback(), stopped=after(steps))
        assert state_of(explosive).keys() == state_of(straight).keys()
    state = train_task(explosive, Callback())
    assert state.images_seen == 8 * 120
    whole, parts = state_of(straight), state_of(explosive)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert parts["window.steps"] == 0


def test_a_killed_run_drops_states_that_were_kept_after_its_checkpoint(explosive: LevelTask):
    content = content_of(explosive)
    content["training"]["optimiser"]["learning_rate"] = 1e-4
    steady = replace(revise(explosive, content, "6x8"), budget=Budget(8 * 40))
    train_task(steady, Callback())
    checkpoint = steady.folder.state.read_bytes()
    longer = replace(steady, budget=Budget(8 * 110))
    train_task(longer, Callback())
    # Copies: the tensors that are read belong to the file, which is written over below.
    whole = {name: tensor.clone() for name, tensor in state_of(steady).items()}
    assert sorted(map(saved_images, steady.folder.kept)) == [8 * 50, 8 * 100]
    # The checkpoint of step 40 is the last that was written before the process was killed.
    steady.folder.state.write_bytes(checkpoint)
    train_task(replace(steady, budget=Budget(8 * 45)), Callback())
    (kept,) = (path for path in steady.folder.kept if path.exists())
    assert saved_images(kept) == 8 * 40
    train_task(longer, Callback())
    again = state_of(steady)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_after_the_last_rollback_training_stops_with_a_good_checkpoint(explosive: LevelTask):
    content = content_of(explosive)
    content["training"] |= {"rollbacks": 2}
    content["training"]["optimiser"]["learning_rate"] = 50.0
    task = revise(explosive, content, "6x8")
    message = (
        r"level-12: training diverged after 80 images: the loss of D was .* It had gone back 2 "
        r"times\. The last good checkpoint is .*state\.safetensors\. Use a lower learning rate"
    )
    for _ in range(2):
        with pytest.raises(LapganError, match=message):
            train_task(task, Callback())
        assert saved_images(task.folder.state) == 0
        assert all(torch.isfinite(tensor).all() for tensor in state_of(task).values())


def test_figures_that_are_not_finite_lead_back_too(
    explosive: LevelTask, monkeypatch: pytest.MonkeyPatch
):
    content = content_of(explosive)
    content["training"]["optimiser"]["learning_rate"] = 1e-4
    task = replace(revise(explosive, content, "6x8"), budget=Budget(8 * 40))
    step, failures = LevelTask.step, iter([True])

    def fail_once(self: LevelTask, state: LevelState) -> dict[str, Tensor]:
        figures = step(self, state)
        fails = state.images_seen == 8 * 20 and next(failures, False)
        return {**figures, "loss_g": torch.tensor(math.nan)} if fails else figures

    monkeypatch.setattr(LevelTask, "step", fail_once)
    warnings = Warnings()
    state = train_task(replace(task, intervals=LogIntervals(log=0.0)), warnings)
    (message,) = warnings.messages
    assert "exploded after 160 images: loss_g has become infinite or not a number." in message
    assert (state.images_seen, state.rollbacks) == (8 * 40, 1)


def test_without_rollbacks_nothing_is_kept_and_an_explosion_goes_on(explosive: LevelTask):
    content = content_of(explosive)
    content["training"]["rollbacks"] = 0
    task = replace(revise(explosive, content, "6x8"), budget=Budget(8 * 20))
    state = train_task(task, Callback())
    assert state.rollbacks == 0
    assert not any(path.exists() for path in task.folder.kept)
    assert not any(name.startswith("window.") for name in state_of(task))
    assert "loss_d" in next(iter(read_records(task.folder.log)))


def test_a_damaged_kept_state_is_named(explosive: LevelTask):
    content = content_of(explosive)
    content["training"]["optimiser"]["learning_rate"] = 1e-4
    task = replace(revise(explosive, content, "6x8"), budget=Budget(8))
    train_task(task, Callback())
    (kept,) = (path for path in task.folder.kept if path.exists())
    kept.write_bytes(b"no state")
    with pytest.raises(LapganError, match=r"kept-1\.safetensors: cannot be used to go back to"):
        train_task(replace(task, budget=Budget(16)), Callback())
    assert kept.read_bytes() == b"no state"
