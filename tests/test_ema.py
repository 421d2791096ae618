import torch
from torch import nn

from lapgan.ema import update_average


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


def test_the_half_life_is_at_most_the_ramp_times_the_images_seen():
    model, average = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    nn.init.zeros_(average.weight)
    update_average(average, model, 100, 1000, half_life=1_000_000, ramp=0.1)
    assert torch.isclose(average.weight, torch.tensor(0.5))
    update_average(average, model, 100, 1000, half_life=50, ramp=0.1)
    assert torch.isclose(average.weight, torch.tensor(1 - 0.5 * 0.25))


def test_buffers_are_copied_not_averaged():
    model, average = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    model(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    update_average(average, model, 1, 1_000_000, half_life=1_000_000)
    assert torch.equal(average.running_mean, torch.tensor([0.2, 0.4]))
    assert torch.equal(average.running_mean, model.running_mean)
