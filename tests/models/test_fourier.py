import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lapgan.models.fourier import fourier_conv2d


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    radius=st.integers(0, 4),
    maps=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    batch=st.integers(0, 3),
)
def test_it_is_the_direct_convolution(
    size: tuple[int, int], radius: int, maps: tuple[int, int], batch: int
):
    x = torch.randn(batch, maps[0], *size, dtype=torch.float64, requires_grad=True)
    kernel = 2 * radius + 1
    weight = torch.randn(maps[1], maps[0], kernel, kernel, dtype=torch.float64, requires_grad=True)
    direct, fourier = F.conv2d(x, weight, padding=radius), fourier_conv2d(x, weight)
    assert torch.allclose(fourier, direct, atol=1e-10)
    grad = torch.randn_like(direct)
    expected = torch.autograd.grad(direct, (x, weight), grad)
    for gradient, direct_gradient in zip(
        torch.autograd.grad(fourier, (x, weight), grad), expected, strict=True
    ):
        assert torch.allclose(gradient, direct_gradient, atol=1e-10)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_single_precision_is_kept_in_any_memory_format(memory_format: torch.memory_format):
    x = torch.randn(4, 32, 28, 28).to(memory_format=memory_format)
    weight = torch.randn(32, 32, 7, 7)
    exact = F.conv2d(x.double(), weight.double(), padding=3)
    error = (fourier_conv2d(x, weight) - exact).abs().max() / exact.std()
    assert error < 1e-5


def test_a_second_derivative_is_refused():
    x = torch.randn(1, 1, 4, 4, requires_grad=True)
    weight = torch.randn(1, 1, 3, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(fourier_conv2d(x, weight).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
