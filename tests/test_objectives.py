import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from lapgan.objectives.contract import Objective
from lapgan.objectives.paper import (
    Minimax,
    NonSaturating,
    cross_entropy,
    minimax_generator_loss,
    nonsaturating_generator_loss,
)
from lapgan.objectives.relativistic import Relativistic, relativistic_loss
from lapgan.penalty import finite_difference_penalty


def test_the_discriminator_loss_is_the_cross_entropy_of_the_whole_minibatch():
    real, fake = torch.randn(5).double(), torch.randn(7).double()
    probabilities = torch.sigmoid(torch.cat((real, fake)))
    expected = binary_cross_entropy(probabilities, torch.tensor([1.0] * 5 + [0.0] * 7).double())
    assert cross_entropy(real=real, fake=fake).item() == pytest.approx(expected.item())


def test_losses_of_an_undecided_discriminator():
    zeros = torch.zeros(4)
    assert cross_entropy(real=zeros, fake=zeros).item() == pytest.approx(math.log(2))
    assert nonsaturating_generator_loss(zeros).item() == pytest.approx(math.log(2))
    assert minimax_generator_loss(zeros).item() == pytest.approx(-math.log(2))


def test_generator_losses_are_minus_log_d_and_log_one_minus_d():
    logits = torch.randn(9).double()
    d = torch.sigmoid(logits)
    assert torch.isclose(nonsaturating_generator_loss(logits), -d.log().mean())
    assert torch.isclose(minimax_generator_loss(logits), (1 - d).log().mean())


def test_only_the_nonsaturating_loss_keeps_its_gradient_where_d_is_certain():
    logits = torch.full((3,), -20.0, requires_grad=True)
    (nonsaturating,) = torch.autograd.grad(nonsaturating_generator_loss(logits), logits)
    (minimax,) = torch.autograd.grad(minimax_generator_loss(logits), logits)
    assert torch.allclose(nonsaturating, torch.tensor(-1 / 3), rtol=1e-4)
    assert (minimax < 0).all()
    assert minimax.abs().max() < 1e-8


def test_extreme_logits_stay_finite():
    big = torch.tensor([1e4, -1e4])
    assert torch.isfinite(cross_entropy(real=big, fake=big))


def test_the_relativistic_loss_is_minus_log_the_probability_of_the_order():
    higher, lower = torch.randn(6).double(), torch.randn(6).double()
    expected = -(higher.exp() / (higher.exp() + lower.exp())).log().mean()
    assert torch.isclose(relativistic_loss(higher=higher, lower=lower), expected)


def test_the_difference_penalty_of_a_linear_function_is_its_squared_slope():
    w, x = torch.randn(20).double(), torch.randn(200_000, 20).double()
    e = torch.randn_like(x)
    penalty = finite_difference_penalty(x @ w, (x + 0.3 * e) @ w, 0.3)
    assert penalty.item() == pytest.approx(w.square().sum().item(), rel=0.02)


@pytest.mark.parametrize(
    ("objective", "loss_d", "loss_g"),
    [
        # D = 3/4 on the real example and 1/4 on the generated one.
        (NonSaturating(), -math.log(3 / 4), -math.log(1 / 4)),
        (Minimax(), -math.log(3 / 4), math.log(3 / 4)),
        # The odds of the pair are 3 : 1/3.
        (Relativistic(), -math.log(9 / 10), -math.log(1 / 10)),
    ],
    ids=["non-saturating", "minimax", "relativistic"],
)
def test_an_objective_is_its_two_losses(objective: Objective, loss_d: float, loss_g: float):
    real, fake = torch.tensor([math.log(3)]), torch.tensor([-math.log(3)])
    assert objective.discriminator_loss(real=real, fake=fake).item() == pytest.approx(loss_d)
    assert objective.generator_loss(real=real, fake=fake).item() == pytest.approx(loss_g)
