"""Gradient penalties, against nets whose gradient is known in closed form."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from lapgan.models.paper import DenseDiscriminator
from lapgan.penalty import ExactPenalty, FiniteDifferencePenalty, exact_penalty

QUADRATIC = (torch.tensor([2.0, -1.0, 0.5]), 0.25)


def quadratic(maps: tuple[Tensor, ...], label: Tensor | None = None) -> Tensor:
    """D(x) = sum_c a_c sum x_c^2 + b sum y, so grad D is (2 a_c x_c, b)."""
    x, y = maps
    a, b = QUADRATIC
    return (a.view(3, 1, 1) * x.square()).sum((1, 2, 3)) + b * y.sum((1, 2, 3))


def squared_gradient(x: Tensor, y: Tensor) -> Tensor:
    a, b = QUADRATIC
    return (2 * a.view(3, 1, 1) * x).square().sum((1, 2, 3)) + b**2 * y[0].numel()


def test_the_exact_penalty_of_a_quadratic_net_is_its_gradient_squared():
    x, y = torch.randn(6, 3, 4, 5), torch.randn(6, 2, 4, 5)
    assert torch.isclose(exact_penalty(quadratic, (x, y)), squared_gradient(x, y).mean())
    assert not x.requires_grad


def test_the_exact_penalty_has_a_gradient_by_the_weights_of_the_net():
    """D(x) = w^3 sum x, so R = w^6 c h w and dR / dw = 6 w^5 c h w."""
    w = torch.tensor(1.5, requires_grad=True)
    x = torch.randn(4, 3, 2, 2)
    exact_penalty(lambda maps: w**3 * maps[0].sum((1, 2, 3)), (x,)).backward()
    assert w.grad is not None
    assert w.grad.item() == pytest.approx(6 * 1.5**5 * 12, rel=1e-5)


class Selective(nn.Module):
    """A net that leaves its second map and the last plane of its first out of the penalty."""

    def select_penalized(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (maps[0][:, :2],)


def test_a_net_may_leave_feature_maps_out():
    x, y = torch.randn(6, 3, 4, 5), torch.randn(6, 2, 4, 5)
    a, _ = QUADRATIC
    part = (2 * a.view(3, 1, 1) * x)[:, :2].square().sum((1, 2, 3)).mean()
    penalty = ExactPenalty()
    assert torch.isclose(penalty.measure(quadratic, (x, y), None, None, Selective()), part)
    whole = penalty.measure(quadratic, (x, y), None, None, nn.Identity())
    assert torch.isclose(whole, squared_gradient(x, y).mean())


@pytest.mark.parametrize(
    ("fraction", "chosen"), [(0.5, [0, 2, 4, 6]), (0.4, [0, 2, 5]), (0.01, [0])]
)
def test_the_exact_penalty_may_be_that_of_a_fraction_of_the_examples(
    fraction: float, chosen: list[int]
):
    """D(x) = c sum x for an example of class c, so the penalty is the mean of 12 c^2."""

    def head(maps: tuple[Tensor, ...], label: Tensor | None) -> Tensor:
        assert label is not None
        return label * maps[0].sum((1, 2, 3))

    label = torch.arange(1.0, 9.0)
    x = torch.randn(8, 3, 2, 2)
    measured = ExactPenalty(fraction=fraction).measure(head, (x,), label, None, nn.Identity())
    assert torch.isclose(measured, (12 * label[chosen].square()).mean())


def test_finite_differences_of_a_small_scale_agree_with_the_exact_penalty():
    """The mean over e of (grad D e)^2 is |grad D|^2; 20,000 draws leave it 1% to scatter."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 1))

    def head(maps: tuple[Tensor, ...], label: Tensor | None) -> Tensor:
        return net(maps[0]).squeeze(1)

    maps = (torch.randn(20, 3, 2, 2).repeat(1000, 1, 1, 1),)
    exact = ExactPenalty().measure(head, maps, None, None, net)
    near = FiniteDifferencePenalty(scale=0.01).measure(head, maps, None, head(maps, None), net)
    assert near.item() == pytest.approx(exact.item(), rel=0.04)
    # Far from local, they do not.
    far = FiniteDifferencePenalty(scale=10.0).measure(head, maps, None, None, net)
    assert far.item() < 0.5 * exact.item()


@pytest.mark.parametrize("penalty", [
    ExactPenalty(), FiniteDifferencePenalty(scale=1e-3),
], ids=["exact", "finite differences"])  # fmt: skip
def test_of_several_logits_the_penalty_is_the_mean_of_theirs(
    penalty: ExactPenalty | FiniteDifferencePenalty,
):
    """D = (3 mean x, mean y), so the penalties are 9 / d_x and 1 / d_y."""

    def head(maps: tuple[Tensor, ...], _: Tensor | None) -> Tensor:
        x, y = (part.double().mean((1, 2, 3)) for part in maps)
        return torch.stack((3 * x, y), dim=1)

    maps = torch.randn(20_000, 1, 2, 2).double(), torch.randn(20_000, 1, 4, 4).double()
    measured = penalty.measure(head, maps, None, None, nn.Identity())
    assert measured.item() == pytest.approx((9 / 4 + 1 / 16) / 2, rel=0.05)


def test_the_default_scale_is_local_at_a_discriminator_of_the_paper():
    """Of a trained dense D of 3x8x8 values."""
    net = DenseDiscriminator((8, 8), units=32).eval()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    fake = 0.1 * torch.randn(32, 3, 8, 8)
    real = fake + 0.1 * torch.randn(1, 3, 8, 8)
    for _ in range(40):
        loss = softplus(-net(real, None, None)).mean() + softplus(net(fake, None, None)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def head(maps: tuple[Tensor, ...], label: Tensor | None) -> Tensor:
        return net.head(maps, label)

    maps = (real.repeat(300, 1, 1, 1),)
    exact = ExactPenalty().measure(head, (real,), None, None, net).item()
    default = FiniteDifferencePenalty()
    assert default.measure(head, maps, None, None, net).item() == pytest.approx(exact, rel=0.06)


@pytest.mark.parametrize("kind", [ExactPenalty, FiniteDifferencePenalty])
def test_the_weight_falls_along_a_cosine_to_three_tenths_at_two_thirds_of_the_budget(
    kind: type[ExactPenalty] | type[FiniteDifferencePenalty],
):
    penalty = kind(weight=2.0, decay="cosine")
    weights = [penalty.weight_at(progress) for progress in (0.0, 1 / 3, 2 / 3, 1.0, 1.5)]
    assert weights == pytest.approx([2, 1.3, 0.6, 0.6, 0.6])
    sixth = 2 * (0.3 + 0.7 * (1 + math.sqrt(0.5)) / 2)
    assert penalty.weight_at(1 / 6) == pytest.approx(sixth)
    assert kind(weight=2.0).weight_at(0.5) == 2.0
