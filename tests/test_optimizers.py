import pytest
import torch
from torch import nn

from lapgan.optimizers import Adam, Sgd, update_weights


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
    optimizer = Sgd().build(nn.Linear(2, 2).parameters())
    Sgd().set_schedule(optimizer, epochs)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rate, rel=1e-12)
    assert optimizer.param_groups[0]["momentum"] == pytest.approx(momentum, rel=1e-12)


def test_adam_stays_as_it_is():
    adam = Adam(learning_rate=1e-3, betas=(0.0, 0.9))
    optimizer = adam.build(nn.Linear(2, 2).parameters())
    adam.set_schedule(optimizer, 1000, 0.5)
    assert optimizer.param_groups[0]["lr"] == 1e-3
    assert optimizer.param_groups[0]["betas"] == (0.0, 0.9)


@pytest.mark.parametrize(("progress", "rate"), [(0, 2e-3), (0.5, 1.05e-3), (1, 1e-4), (1.2, 1e-4)])
def test_a_cosine_falls_to_a_twentieth(progress: float, rate: float):
    adam = Adam(learning_rate=2e-3, decay="cosine")
    optimizer = adam.build(nn.Linear(2, 2).parameters())
    adam.set_schedule(optimizer, 0, progress)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)


def test_a_scale_multiplies_the_rate():
    for section in (Sgd(), Adam(), Adam(decay="cosine")):
        optimizer = section.build(nn.Linear(2, 2).parameters())
        section.set_schedule(optimizer, 0, 0.0, rate_scale=0.25)
        rate = optimizer.param_groups[0]["lr"]
        assert rate == pytest.approx(0.25 * section.learning_rate)


def test_an_update_moves_the_weights_down_the_gradient_and_forgets_the_one_before():
    net = nn.Linear(2, 1, bias=False)
    nn.init.zeros_(net.weight)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    for _ in range(2):
        update_weights(optimizer, net(torch.tensor([[1.0, -2.0]])).sum())
    # The gradient is the input; were it added up, the weights would be 1.5 times as long.
    assert torch.equal(net.weight.detach(), torch.tensor([[-1.0, 2.0]]))
