import pytest
import torch

from lapgan.objectives.hinge import Hinge, hinge_loss
from lapgan.recipe import read_recipe


def test_the_hinge_loss_counts_what_is_within_the_margin():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, 0.0])
    # max(0, 1 - a) of the real logits is 0, 0.5 and 2; max(0, 1 + a) of the others is 0 and 1.
    assert hinge_loss(real=real, fake=fake).item() == pytest.approx(2.5 / 3 + 1 / 2)
    assert Hinge().generator_loss(real=real, fake=fake).item() == pytest.approx(1.0)


def test_beyond_the_margin_d_has_no_gradient():
    real = torch.tensor([1.5, 0.5], requires_grad=True)
    hinge_loss(real=real, fake=torch.tensor([-3.0])).backward()
    assert real.grad is not None
    assert real.grad.tolist() == [0.0, -0.5]


def test_a_recipe_asks_for_it_by_name():
    assert read_recipe("cifar10", ["training.objective=hinge"]).training.objective == Hinge()
