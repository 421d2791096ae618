import pytest
import torch
from torch import nn

from lapgan.recipe import Adam, Sgd
from lapgan.training.ema import update_average
from lapgan.training.optimizers import make_optimizer, set_schedule


@pytest.mark.parametrize(
    ("epochs", "rate", "momentum"),
    [
        (0.0, 0.02, 0.5),
        (0.99, 0.02, 0.5),
        (1.0, 0.02 / 1.00004, 0.5008),
        (100.5, 0.02 / 1.00004**100, 0.58),
        (375.0, 0.02 / 1.00004**375, 0.8),
        (5000.0, 0.02 / 1.00004**5000, 0.8),
    ],
)
def test_the_schedule_of_the_paper(epochs: float, rate: float, momentum: float):
    optimizer = make_optimizer(nn.Linear(2, 2).parameters(), Sgd())
    set_schedule(optimizer, Sgd(), epochs)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rate, rel=1e-12)
    assert optimizer.param_groups[0]["momentum"] == pytest.approx(momentum, rel=1e-12)


def test_adam_stays_as_it_is():
    recipe = Adam(learning_rate=1e-3, betas=(0.0, 0.9))
    optimizer = make_optimizer(nn.Linear(2, 2).parameters(), recipe)
    set_schedule(optimizer, recipe, 1000)
    assert optimizer.param_groups[0]["lr"] == 1e-3
    assert optimizer.param_groups[0]["betas"] == (0.0, 0.9)


@pytest.mark.parametrize(("progress", "rate"), [(0, 2e-3), (0.5, 1.05e-3), (1, 1e-4), (1.2, 1e-4)])
def test_a_cosine_falls_to_a_twentieth(progress: float, rate: float):
    recipe = Adam(learning_rate=2e-3, decay="cosine")
    optimizer = make_optimizer(nn.Linear(2, 2).parameters(), recipe)
    set_schedule(optimizer, recipe, 0, progress)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)


def test_g_may_learn_at_a_share_of_the_rate():
    for recipe in (Sgd(), Adam(), Adam(decay="cosine")):
        optimizer = make_optimizer(nn.Linear(2, 2).parameters(), recipe)
        set_schedule(optimizer, recipe, 0, 0.0, share=0.25)
        rate = optimizer.param_groups[0]["lr"]
        assert rate == pytest.approx(0.25 * recipe.learning_rate)


def test_an_average_forgets_half_in_its_half_life():
    model, average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    nn.init.zeros_(average.weight)
    for step in range(10):
        update_average(average, model, 100, 1_000_000 + 100 * step, half_life=1000)
    assert torch.isclose(average.weight, torch.tensor(0.5))


def test_an_average_begins_at_the_model():
    model, average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    nn.init.zeros_(average.weight)
    update_average(average, model, 100, 100, half_life=1_000_000)
    # The horizon is a twentieth of the images seen: 20 half-lives are over.
    assert torch.isclose(average.weight, torch.tensor(1 - 0.5**20))
