from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lapgan.compute import choose_compute
from lapgan.recipe import Recipe, check_recipe, read_recipe
from lapgan.training import speed
from lapgan.training.config import Budget, RunConfig
from lapgan.training.cost import LevelCost, advise, measure_costs
from lapgan.training.level import LevelState, LevelTask

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Clock:
    """A clock on which a step takes 10 ms, one with a penalty 30 ms, and the first 10 s more."""

    def __init__(self) -> None:
        self.now, self.steps = 0.0, 0

    def perf_counter(self) -> float:
        return self.now

    def step(self, task: LevelTask, state: LevelState) -> None:
        penalty = task._terms(state).penalty is not None
        self.now += (0.03 if penalty else 0.01) + (10.0 if not self.steps else 0.0)
        self.steps += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(speed, "time", clock)
    monkeypatch.setattr(LevelTask, "step", lambda task, state: clock.step(task, state))
    return clock


@pytest.mark.parametrize(("every", "seconds"), [(1, 0.03), (5, (0.03 + 4 * 0.01) / 5)])
def test_the_penalty_counts_as_often_as_it_is_due(
    tiny: Recipe, run_folder: Path, clock: Clock, every: int, seconds: float
):
    content = tiny.model_dump(mode="json")
    content["training"]["penalty"] = {"kind": "exact", "every": every}
    recipe = check_recipe(content, "tiny")
    config = RunConfig(recipe, run_folder, levels=("12",), images=4000)
    clock.steps = 1
    (cost,) = measure_costs(config, choose_compute("cpu", "float32"))
    assert cost.rate == pytest.approx(8 / seconds)
    assert cost.seconds == pytest.approx(4000 / 8 * seconds)
    assert clock.now < 1


def test_a_level_so_slow_that_its_first_steps_take_long_is_not_timed_again(
    tiny: Recipe, run_folder: Path, clock: Clock
):
    config = RunConfig(tiny, run_folder, levels=("12",))
    (cost,) = measure_costs(config, choose_compute("cpu", "float32"))
    assert clock.steps == 1
    assert cost.rate == pytest.approx(8 / 10.01)


def test_every_level_is_measured_and_nothing_is_written(tiny: Recipe, run_folder: Path):
    before = torch.random.get_rng_state()
    config = RunConfig(tiny, run_folder)
    costs = list(measure_costs(config, choose_compute("cpu")))
    assert [cost.name for cost in costs] == ["6x8", "12"]
    assert all(cost.rate > 0 for cost in costs)
    assert all(cost.images == 64 for cost in costs)
    assert not run_folder.exists()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_cost_is_images_in_a_time_or_time_for_images():
    by_images = LevelCost("32", 100.0, Budget(images=1_080_000))
    assert str(by_images) == "level 32: about 100 images/s, 1,080,000 images in 3.0 hours"
    by_time = LevelCost("8", 1500.0, Budget(seconds=90))
    assert str(by_time) == "level 8: about 1,500 images/s, 135,000 images in 1.5 minutes"
    both = LevelCost("8", 1.0, Budget(images=864_000, seconds=10**9))
    assert str(both).endswith("864,000 images in 10.0 days")


def test_a_recipe_that_takes_days_on_a_cpu_names_the_one_that_does_not():
    recipe = read_recipe("cifar10-cc")
    slow = [LevelCost("32", 50.0, Budget(recipe.training.images))]
    advice = str(advise(recipe, slow, CPU))
    assert advice.startswith("together that is 44.4 hours; made for a CPU: cifar10-cc-")
    assert advice.endswith("cifar10-cc-small")
    assert advise(recipe, slow, CUDA) is None
    short = [replace(slow[0], budget=Budget(seconds=600))]
    expected = "that is 0.4% of the recipe's images, 8,000,000; made for a CPU: cifar10-cc-"
    assert str(advise(recipe, short, CPU)).startswith(expected)
    assert advise(recipe, [replace(slow[0], rate=5000.0)], CPU) is None
    assert advise(recipe, [replace(slow[0], budget=Budget(images=64))], CPU) is None
    plain = read_recipe("gan-baseline")
    assert str(advise(plain, slow, CPU)).endswith("; a GPU, or smaller nets, would help")
