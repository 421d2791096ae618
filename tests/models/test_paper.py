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


@pytest.mark.parametrize("num_classes", [0, 10])
@pytest.mark.parametrize("size", [(14, 14), (13, 20)])
def test_every_parameter_of_a_conditional_level_gets_a_gradient(
    size: tuple[int, int], num_classes: int
):
    generator = ConvGenerator(size, maps=8, num_classes=num_classes)
    discriminator = ConvDiscriminator(size, maps=8, num_classes=num_classes)
    low, z = torch.randn(5, 3, *size), torch.rand(5, 1, *size)
    label = torch.arange(5) if num_classes else None
    high = generator(low, z, label)
    assert high.shape == low.shape
    logits = discriminator(high, low, label)
    assert logits.shape == (5,)
    logits.sum().backward()
    _check_gradients(generator, discriminator)


@pytest.mark.parametrize("num_classes", [0, 10])
def test_every_parameter_of_the_coarsest_level_gets_a_gradient(num_classes: int):
    generator = DenseGenerator((8, 6), noise=20, units=32, num_classes=num_classes)
    discriminator = DenseDiscriminator((8, 6), units=32, num_classes=num_classes)
    label = torch.arange(5) if num_classes else None
    image = generator(None, torch.rand(5, 20), label)
    assert image.shape == (5, 3, 8, 6)
    discriminator(image, None, label).sum().backward()
    _check_gradients(generator, discriminator)


def _check_gradients(*nets: nn.Module) -> None:
    for net in nets:
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0, name


def test_the_class_changes_residuals_and_logits():
    low, z = torch.randn(1, 3, 14, 14).expand(2, -1, -1, -1), torch.rand(2, 1, 14, 14)
    z[1] = z[0]
    label = torch.tensor([0, 1])
    one, other = ConvGenerator((14, 14), maps=8, num_classes=2)(low, z, label)
    assert not torch.allclose(one, other)
    discriminator = ConvDiscriminator((14, 14), maps=8, num_classes=2).eval()
    one, other = discriminator(torch.zeros_like(low), low, label)
    assert not torch.allclose(one, other)


def test_the_discriminator_sees_the_sum_of_residual_and_low_pass_image():
    discriminator = ConvDiscriminator((14, 14), maps=8).eval()
    high, low, shift = torch.randn(3, 2, 3, 14, 14)
    moved = discriminator(high + shift, low - shift, None)
    assert torch.allclose(discriminator(high, low, None), moved, atol=1e-5)
    (image,) = discriminator.features(high, low)
    assert torch.equal(image, low + high)
    assert torch.equal(discriminator.head((image,), None), discriminator(high, low, None))


def test_initial_weights_have_the_given_standard_deviation():
    net = DenseGenerator((8, 8), init_std=0.05)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        else:
            assert parameter.std().item() == pytest.approx(0.05, rel=0.02)
