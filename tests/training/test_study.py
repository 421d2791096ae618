from dataclasses import replace

import pytest
import torch
from stopping import after, state_of
from torch import Tensor

from lapgan.recipe import check_recipe
from lapgan.training.job import Budget, Intervals, LevelTask
from lapgan.training.level import train_level
from lapgan.training.listener import Callback
from lapgan.training.log import read_records

SILENT = Callback()


@pytest.fixture
def studious(job: LevelTask) -> LevelTask:
    """Half of 128 images for the classifier, in two steps, and half for the game, in eight."""
    content = job.recipe.model_dump(mode="json")
    content["training"] |= {
        "objective": "relativistic",
        "optimizer": {"kind": "adam", "learning_rate": 1e-3, "decay": "cosine"},
    }
    content["levels"]["12"]["discriminator"] = {
        "kind": "projected", "study": 0.5, "features": 4, "maps": 4, "units": 8
    }  # fmt: skip
    return replace(job, recipe=check_recipe(content, "studious"), budget=Budget(images=128))


def changed(job: LevelTask, before: dict[str, Tensor]) -> set[str]:
    """The nets whose trained weights are no longer what they were."""
    after = state_of(job)
    names = [name for name in after if name.endswith("weight") and "optimizer" not in name]
    nets = ("g.", "average.", "d.classifier.", "d.judges.")
    return {
        net
        for net in nets
        if any(not torch.equal(before[n], after[n]) for n in names if n.startswith(net))
    }


def test_the_classifier_learns_first_and_the_game_leaves_it_alone(studious: LevelTask):
    train_level(studious, SILENT, stopped=lambda: True)
    start = state_of(studious)
    assert train_level(replace(studious, budget=Budget(128)), SILENT, after(2)).images_seen == 64
    assert changed(studious, start) == {"d.classifier."}
    learnt = state_of(studious)
    assert train_level(studious, SILENT).images_seen == 128
    assert changed(studious, learnt) == {"g.", "average.", "d.judges."}
    statistics = [name for name in learnt if "running" in name]
    assert statistics
    assert all(torch.equal(learnt[n], state_of(studious)[n]) for n in statistics)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_level_that_was_stopped_in_the_study_or_after_ends_in_the_same_weights(
    studious: LevelTask, steps: int
):
    straight = replace(studious, folder=studious.folder.with_name("straight"))
    train_level(straight, SILENT)
    train_level(studious, SILENT, after(steps))
    train_level(studious, SILENT)
    found, expected = state_of(studious), state_of(straight)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_log_tells_the_study_from_the_game(studious: LevelTask):
    train_level(replace(studious, intervals=Intervals(log=1e9)), SILENT)
    study, game = read_records(studious.folder / "log.jsonl")
    assert study["images_seen"] == 64
    assert 0 <= study["accuracy"] <= 1
    assert study["loss_classifier"] > 0
    assert "loss_d" not in study
    assert game["images_seen"] == 128
    assert game["loss_d"] > 0
    assert "accuracy" not in game


def test_the_rate_falls_in_the_study_and_again_in_the_game(studious: LevelTask):
    train_level(replace(studious, intervals=Intervals(log=0.0)), SILENT)
    rates = [record["learning_rate"] for record in read_records(studious.folder / "log.jsonl")]
    assert rates[0] == rates[2] == pytest.approx(1e-3)
    assert rates[1] < rates[0]
    assert rates[2:] == sorted(rates[2:], reverse=True)
