"""Replayed steps, without a GPU: a stand-in for CUDA graphs repeats what was recorded.

It runs the recorded work again, with the tensors and the numbers that it had when it was recorded,
as a graph does. What a graph does to learning rates and random numbers is tested on a GPU.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from levels import content_of, revise, write_model
from torch import Tensor

from lapgan.errors import LapganError
from lapgan.training.coarse import coarse_levels
from lapgan.training.graphs import StepGraphs
from lapgan.training.level import LevelState, LevelTask
from lapgan.training.starting import StartingModel
from lapgan.training.state import load_state, save_state

CPU = torch.device("cpu")
STEPS = 24
Figures = dict[str, Tensor]


class Repeats:
    """Records work as the work itself; counts the recordings and the launches."""

    def __init__(self) -> None:
        self.recorded = self.launched = 0

    def run(self, work: Callable[[], Figures]) -> Figures:
        return work()

    def record(self, work: Callable[[], Figures]) -> tuple[Callable[[], None], Figures]:
        figures: Figures = {}
        self.recorded += 1

        def launch() -> None:
            self.launched += 1
            for name, figure in work().items():
                # In the same place each time.
                figures.setdefault(name, torch.empty_like(figure)).copy_(figure)

        return launch, figures


class Refuses(Repeats):
    def record(self, work: Callable[[], Figures]) -> tuple[Callable[[], None], Figures]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


def with_graphs(state: LevelState, recorder: Repeats) -> LevelState:
    state.graphs = StepGraphs(recorder, state.optimizers.values(), CPU)
    return state


def content_with(task: LevelTask, **training: Any) -> dict[str, Any]:
    """A recipe in which all that can change from step to step does."""
    content = content_of(task)
    content["training"] |= {
        "objective": "relativistic",
        "optimiser": {"kind": "adam", "learning_rate": 0.01, "decay": "cosine"},
        "penalty": {"kind": "exact", "weight": 2.0, "every": 2, "decay": "cosine"},
        "generator_delay": 8,
        **training,
    }
    supervised = {"weight": 1.0, "best_of": 2, "schedule": "linear", "final": 0.1}
    content["levels"]["12"] |= {"supervised": supervised}
    return content


def steps(task: LevelTask, state: LevelState, count: int) -> list[Figures]:
    return [task.step(state) for _ in range(count)]


def weights(state: LevelState) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": tensor
        for part, net in state.modules.items()
        for name, tensor in net.state_dict().items()
    }


@pytest.mark.parametrize("examples", ["same", "fresh"])
@pytest.mark.parametrize("level", ["12", "6x8"])
def test_replayed_steps_are_those_that_are_run(task: LevelTask, level: str, examples: str):
    task = revise(task, content_with(task, generator_examples=examples), level)
    recorder, plain = Repeats(), task.initial_state()
    replayed = with_graphs(task.initial_state(), recorder)
    figures = [steps(task, state, STEPS) for state in (plain, replayed)]
    # Steps with a penalty and without it, while G waits and after: each kind is recorded once,
    # after three that are run.
    assert (recorder.recorded, recorder.launched) == (4, STEPS - 12)
    for one, other in zip(*figures, strict=True):
        assert one.keys() == other.keys()
        torch.testing.assert_close(list(other.values()), list(one.values()))
    torch.testing.assert_close(weights(replayed), weights(plain))


def test_replayed_steps_work_on_the_low_pass_images_of_their_own_step(
    task: LevelTask, tmp_path: Path
):
    content = content_of(task)
    content["levels"]["12"]["generated_low"] = 0.5
    task = revise(task, content, "12")
    start = StartingModel.read(write_model(tmp_path / "model.safetensors", task.recipe))
    coarse = coarse_levels(tmp_path / "run", start, task.recipe, task.level, (), task.compute)
    task = replace(task, coarse=coarse)
    recorder, plain = Repeats(), task.initial_state()
    replayed = with_graphs(task.initial_state(), recorder)
    for state in (plain, replayed):
        steps(task, state, STEPS)
    assert recorder.launched
    torch.testing.assert_close(weights(replayed), weights(plain))


def test_figures_of_a_step_outlive_the_next_one(task: LevelTask):
    task = revise(task, content_with(task, generator_delay=0), "12")
    state = with_graphs(task.initial_state(), Repeats())
    steps(task, state, 8)
    (first,) = steps(task, state, 1)
    kept = {name: figure.clone() for name, figure in first.items()}
    steps(task, state, 2)
    assert first["loss_d"].equal(kept["loss_d"])


def test_a_momentum_that_has_changed_is_recorded_anew(task: LevelTask):
    sgd = {"kind": "sgd", "learning_rate": 0.01, "momentum": 0.1, "momentum_step": 0.1}
    content = content_with(task, optimiser=sgd, penalty=None, generator_delay=0)
    task = revise(task, content, "12")
    recorder, plain = Repeats(), task.initial_state()
    replayed = with_graphs(task.initial_state(), recorder)
    per_epoch = task.batches.epoch // task.recipe.training.batch
    for state in (plain, replayed):
        steps(task, state, 2 * per_epoch + 4)
    assert recorder.recorded == 3
    torch.testing.assert_close(weights(replayed), weights(plain))


def test_a_loaded_state_is_not_replayed_with_what_was_recorded_before(task: LevelTask):
    task = revise(task, content_with(task, generator_delay=0), "12")
    recorder = Repeats()
    state = with_graphs(task.initial_state(), recorder)
    steps(task, state, 8)
    assert recorder.recorded == 2
    file = task.folder.state
    file.parent.mkdir(parents=True)
    save_state(file, state)
    load_state(file, state)
    launched = recorder.launched
    steps(task, state, 6)
    assert recorder.launched == launched
    steps(task, state, 2)
    assert recorder.recorded == 4


def test_what_cannot_be_recorded_says_how_to_do_without(task: LevelTask):
    state = with_graphs(task.initial_state(), Refuses())
    expected = r"recorded as a CUDA graph \(operation.*capturing\)\. Go on with --no-cuda-graphs\."
    with pytest.raises(LapganError, match=expected):
        steps(task, state, 8)


def test_a_processor_replays_nothing(task: LevelTask):
    assert task.initial_state().graphs is None
