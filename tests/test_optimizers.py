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


def test_dampening_by_the_momentum_takes_the_steps_of_torch7():
    """`optim.sgd`: v = g at first, then v = m v + (1 - m) g; w = w - rate v."""
    sgd = Sgd(learning_rate=0.1, momentum_step=0.1, dampening="momentum")
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = sgd.build([weight])
    expected, v = [1.0, -2.0], [0.0, 0.0]
    for step, momentum in enumerate([0.5, 0.6, 0.7, 0.8, 0.8]):
        sgd.set_schedule(optimizer, epochs=step)
        rate = 0.1 / 1.00004**step
        # The loss is the mean square, so the gradient is the weight itself.
        update_weights(optimizer, weight.square().sum() / 2)
        for i, w in enumerate(expected):
            v[i] = momentum * v[i] + (1 - momentum) * w if step else w
            expected[i] = w - rate * v[i]
        assert weight.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("momentum", "ratio"), [(0.5, 2), (0.8, 5)])
def test_without_dampening_steps_are_as_many_times_longer_as_gradients_are_summed(
    momentum: float, ratio: float
):
    steps = []
    for dampening in ("none", "momentum"):
        sgd = Sgd(momentum=momentum, dampening=dampening)
        weight = nn.Parameter(torch.zeros(1))
        optimizer = sgd.build([weight])
        for _ in range(100):
            before = weight.item()
            sgd.set_schedule(optimizer, epochs=0)
            update_weights(optimizer, weight.sum())
        steps.append(before - weight.item())
    assert steps[0] / steps[1] == pytest.approx(ratio, rel=1e-3)


@pytest.mark.parametrize(("clip", "length"), [(None, 5.0), (10.0, 5.0), (2.5, 2.5)])
def test_clipping_shortens_the_gradient_of_all_weights_together_and_keeps_its_direction(
    clip: float | None, length: float
):
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([a, b], lr=1.0)
    norm = update_weights(optimizer, 3 * a.sum() - 4 * b.sum(), clip)
    assert norm.item() == pytest.approx(5)
    assert (a.item(), b.item()) == pytest.approx((-3 * length / 5, 4 * length / 5), rel=1e-5)
