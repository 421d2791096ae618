import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lapgan.double_backward import differentiable_gradients

# Convolutions from 4 maps to 4, and the sizes of images that do not divide evenly among them.
CONVOLUTIONS = {
    "3x3": {"kernel_size": 3, "padding": 1},
    "no padding": {"kernel_size": 3},
    "1x1, no bias": {"kernel_size": 1, "bias": False},
    "strided": {"kernel_size": 3, "stride": 2, "padding": 1},
    "strided, uneven": {"kernel_size": (2, 3), "stride": (3, 2), "padding": (0, 2)},
    "dilated": {"kernel_size": 3, "dilation": 2, "padding": 1},
    "in groups": {"kernel_size": 3, "groups": 2, "padding": 1},
    "depthwise": {"kernel_size": 3, "groups": 4, "padding": 1},
    "padded by name": {"kernel_size": 3, "padding": "same"},
    "reflected": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
}


class Net(nn.Module):
    """Two convolutions of a kind, with curvature before, between and after them."""

    def __init__(self, **convolution: object) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(4, 4, **convolution) for _ in range(2))  # type: ignore[arg-type]

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        x, y = maps
        h = F.softplus(self.first(x.sin() + y))
        return self.second(h).square().mean((1, 2, 3)) + F.leaky_relu(h, 0.2).mean((1, 2, 3))


def gradients_of_penalty(gradients: tuple[Tensor, ...], net: nn.Module) -> list[Tensor]:
    penalty = sum((g.float() if g.dtype != torch.float64 else g).square().sum() for g in gradients)
    assert isinstance(penalty, Tensor)
    penalty.backward()  # type: ignore[no-untyped-call]
    return [p.grad for p in net.parameters() if p.grad is not None]


def both_ways(net: nn.Module, maps: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """What PyTorch's own second derivatives are, and ours."""
    found = []
    for gradients in (
        lambda: torch.autograd.grad(net(maps).sum(), maps, create_graph=True),
        lambda: differentiable_gradients(net, maps),
    ):
        net.zero_grad()
        first = gradients()
        second = gradients_of_penalty(first, net)
        found.append([*(g.detach() for g in first), *(g.clone() for g in second)])
    return found[0], found[1]


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_second_derivatives_are_those_of_pytorch(kind: str):
    torch.manual_seed(0)
    net = Net(**CONVOLUTIONS[kind]).double()
    maps = tuple(torch.randn(3, 4, 13, 10).double().requires_grad_() for _ in range(2))
    expected, found = both_ways(net, maps)
    assert len(expected) == len(found) == 2 + sum(1 for _ in net.parameters())
    for one, other in zip(expected, found, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_under_autocast_they_are_those_of_pytorch_up_to_rounding():
    torch.manual_seed(0)
    net = Net(kernel_size=3, padding=1)
    maps = tuple(torch.randn(3, 4, 8, 8).requires_grad_() for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = both_ways(net, maps)
    for one, other in zip(expected, found, strict=True):
        assert one.dtype == other.dtype
        assert (one - other).norm() <= 0.03 * one.norm()


def test_a_weight_that_is_frozen_has_no_gradient():
    net = Net(kernel_size=3)
    net.first.requires_grad_(False)
    maps = tuple(torch.randn(2, 4, 8, 8).requires_grad_() for _ in range(2))
    gradients_of_penalty(differentiable_gradients(net, maps), net)
    assert net.first.weight.grad is None
    assert net.second.weight.grad is not None
