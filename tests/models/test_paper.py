from collections.abc import Callable

import pytest
import torch
from torch import nn

from lapgan.models.paper import (
    ConvDiscriminator,
    ConvGenerator,
    DenseDiscriminator,
    DenseGenerator,
)

# Written out by hand from the layer sizes: weights and biases of each layer.
DENSE_G = (100 * 1200 + 1200) + (1200 * 1200 + 1200) + (1200 * 192 + 192)
DENSE_D = (192 * 600 + 600) + (600 * 600 + 600) + (600 + 1)
CONV_G = (4 * 64 * 49 + 64) + (64 * 64 * 49 + 64) + (64 * 3 * 25 + 3)
CONV_D_BODY = (3 * 64 * 25 + 64) + (64 * 64 * 25 + 64)
GAN_G = (100 * 8000 + 8000) + (8000 * 8000 + 8000) + (8000 * 3072 + 3072)
GAN_D = (3072 * 1600 + 1600) + (1600 * 1600 + 1600) + (1600 + 1)


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: DenseGenerator((8, 8)), DENSE_G),
        (lambda: DenseDiscriminator((8, 8)), DENSE_D),
        (lambda: ConvGenerator((14, 14)), CONV_G),
        (lambda: ConvGenerator((28, 28)), CONV_G),
        # After two valid 5x5 convolutions, the second with stride 2, 3x3 and 10x10 are left.
        (lambda: ConvDiscriminator((14, 14)), CONV_D_BODY + 64 * 3 * 3 + 1),
        (lambda: ConvDiscriminator((28, 28)), CONV_D_BODY + 64 * 10 * 10 + 1),
        # Classes: one-hot inputs of the dense nets, a plane from a linear layer in the others.
        (lambda: DenseGenerator((8, 8), num_classes=10), DENSE_G + 10 * 1200),
        (lambda: DenseDiscriminator((8, 8), num_classes=10), DENSE_D + 10 * 600),
        (
            lambda: ConvGenerator((28, 28), num_classes=10),
            CONV_G + 64 * 49 + (10 * 28 * 28 + 28 * 28),
        ),
        (
            lambda: ConvDiscriminator((14, 14), num_classes=10),
            CONV_D_BODY + 64 * 3 * 3 + 1 + 64 * 25 + (10 * 14 * 14 + 14 * 14),
        ),
        (lambda: DenseGenerator((32, 32), units=8000, second=nn.Sigmoid), GAN_G),
        (lambda: DenseDiscriminator((32, 32), units=1600), GAN_D),
    ],
)
def test_parameter_counts(make: Callable[[], nn.Module], count: int):
    with torch.device("meta"):
        assert sum(p.numel() for p in make().parameters()) == count


def test_layer_shapes():
    def shapes(net: nn.Module) -> list[tuple[int, ...]]:
        return [tuple(p.shape) for name, p in net.named_parameters() if name.endswith("weight")]

    assert shapes(ConvGenerator((28, 28))) == [(64, 4, 7, 7), (64, 64, 7, 7), (3, 64, 5, 5)]
    assert shapes(ConvDiscriminator((28, 28))) == [(64, 3, 5, 5), (64, 64, 5, 5), (1, 6400)]
    assert shapes(DenseGenerator((8, 8))) == [(1200, 100), (1200, 1200), (192, 1200)]
    assert shapes(DenseDiscriminator((8, 8))) == [(600, 192), (600, 600), (1, 600)]


def test_the_discriminator_sees_the_sum_of_residual_and_low_pass_image():
    discriminator = ConvDiscriminator((14, 14), maps=8).eval()
    high, low, shift = torch.randn(3, 2, 3, 14, 14)
    moved = discriminator(high + shift, low - shift, None)
    assert torch.allclose(discriminator(high, low, None), moved, atol=1e-5)


def test_initial_weights_have_the_given_standard_deviation():
    net = DenseGenerator((8, 8), init_std=0.05)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        else:
            assert parameter.std().item() == pytest.approx(0.05, rel=0.02)
