import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from lapgan.losses import (
    discriminator_loss,
    finite_difference_penalty,
    minimax_generator_loss,
    nonsaturating_generator_loss,
    relativistic_loss,
)


def test_the_discriminator_loss_is_the_cross_entropy_of_the_whole_minibatch():
    real, fake = torch.randn(5).double(), torch.randn(7).double()
    probabilities = torch.sigmoid(torch.cat((real, fake)))
    expected = binary_cross_entropy(probabilities, torch.tensor([1.0] * 5 + [0.0] * 7).double())
    assert discriminator_loss(real=real, fake=fake).item() == pytest.approx(expected.item())


def test_losses_of_a_blind_discriminator():
    zeros = torch.zeros(4)
    assert discriminator_loss(real=zeros, fake=zeros).item() == pytest.approx(math.log(2))
    assert nonsaturating_generator_loss(zeros).item() == pytest.approx(math.log(2))
    assert minimax_generator_loss(zeros).item() == pytest.approx(-math.log(2))


def test_generator_losses_are_minus_log_d_and_log_one_minus_d():
    logits = torch.randn(9).double()
    d = torch.sigmoid(logits)
    assert torch.isclose(nonsaturating_generator_loss(logits), -d.log().mean())
    assert torch.isclose(minimax_generator_loss(logits), (1 - d).log().mean())


def test_only_the_nonsaturating_loss_keeps_its_gradient_when_d_wins():
    logits = torch.full((3,), -20.0, requires_grad=True)
    (kept,) = torch.autograd.grad(nonsaturating_generator_loss(logits), logits)
    (lost,) = torch.autograd.grad(minimax_generator_loss(logits), logits)
    assert torch.allclose(kept, torch.tensor(-1 / 3), rtol=1e-4)
    assert (lost < 0).all()
    assert lost.abs().max() < 1e-8


def test_extreme_logits_stay_finite():
    big = torch.tensor([1e4, -1e4])
    assert torch.isfinite(discriminator_loss(real=big, fake=big))


def test_the_relativistic_loss_is_minus_log_the_chance_that_the_winner_is_above():
    winner, loser = torch.randn(6).double(), torch.randn(6).double()
    expected = -(winner.exp() / (winner.exp() + loser.exp())).log().mean()
    assert torch.isclose(relativistic_loss(winner=winner, loser=loser), expected)


def test_the_difference_penalty_of_a_linear_function_is_its_squared_slope():
    w, x = torch.randn(20).double(), torch.randn(200_000, 20).double()
    e = torch.randn_like(x)
    found = finite_difference_penalty(x @ w, (x + 0.3 * e) @ w, 0.3)
    assert found.item() == pytest.approx(w.square().sum().item(), rel=0.02)
