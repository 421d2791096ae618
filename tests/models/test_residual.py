import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lapgan.errors import LapganError
from lapgan.models.residual import (
    GeneratorBlock,
    ResidualGenerator,
    ResidualVectorGenerator,
)
from lapgan.models.residual_views import ResidualDiscriminator


def group_norm(x: Tensor, groups: int) -> Tensor:
    parts = x.reshape(len(x), groups, -1)
    centered = parts - parts.mean(2, keepdim=True)
    return (centered / (parts.var(2, correction=0, keepdim=True) + 1e-5).sqrt()).view_as(x)


def convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution as a product with every 3x3 neighborhood."""
    columns = F.unfold(x, weight.shape[-1], padding=weight.shape[-1] // 2)
    return (weight.flatten(1) @ columns).view(len(x), -1, *x.shape[2:]) + bias[:, None, None]


def silu(x: Tensor) -> Tensor:
    return x / (1 + (-x).exp())


@pytest.mark.parametrize("grid", ["same", "up", "down"])
def test_a_block_computes_its_formula(grid: str):
    block = GeneratorBlock(8, 12, style=5, groups=4, grid=grid)  # type: ignore[arg-type]
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    p = dict(block.named_parameters())
    x, w = torch.randn(3, 8, 6, 4), torch.randn(3, 5)

    def change(x: Tensor) -> Tensor:
        if grid == "up":
            return x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return x.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)) if grid == "down" else x

    normed = group_norm(x, 4) * p["norm1.weight"][:, None, None] + p["norm1.bias"][:, None, None]
    h = convolve(change(silu(normed)), p["conv1.weight"], p["conv1.bias"])
    scale_shift = w @ p["modulation.weight"].T + p["modulation.bias"]
    a, b = scale_shift[:, :12, None, None], scale_shift[:, 12:, None, None]
    h = convolve(silu((1 + a) * group_norm(h, 4) + b), p["conv2.weight"], p["conv2.bias"])
    expected = convolve(change(x), p["skip.weight"], p["skip.bias"]) + h
    torch.testing.assert_close(block(x, w), expected, atol=1e-4, rtol=1e-4)


def test_a_block_starts_as_its_skip():
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(GeneratorBlock(8, 8, 5, 4)(x, torch.randn(2, 5)), x)


@pytest.mark.parametrize(
    ("net", "count"),
    [
        (ResidualVectorGenerator((8, 8), num_classes=10), 7_754_243),
        (ResidualGenerator((16, 16), (128, 256), num_classes=10), 4_280_067),
        (ResidualGenerator((32, 32), (64, 128, 256), num_classes=10), 4_726_595),
    ],
)
def test_the_nets_have_the_weights_of_the_packaged_model(net: torch.nn.Module, count: int):
    assert sum(p.numel() for p in net.parameters()) == count


def test_the_planes_of_the_noise_enter_beside_the_image_and_the_vector_everywhere():
    net = ResidualGenerator((4, 6), (8,), noise=(5, 2), style=4, groups=4)
    for parameter in net.down.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    entered: list[Tensor] = []
    net.into.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    low, planes = torch.randn(1, 3, 4, 6), torch.randn(1, 2, 4, 6)
    first, second = (net(low, torch.cat((v, planes.flatten(1)), 1), None)
                     for v in (torch.zeros(1, 5), torch.ones(1, 5)))  # fmt: skip
    assert torch.equal(entered[0], torch.cat((2 * low, planes), dim=1))
    assert torch.equal(entered[0], entered[1])
    assert (first != second).float().mean() > 0.9


def test_sigma_enters_the_generator_and_none_is_no_noise():
    net = ResidualGenerator((8, 8), (8, 8), noise=(5, 1), style=4, groups=4)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    low, z = torch.randn(2, 3, 8, 8), torch.randn(2, 5 + 64)
    clean = net(low, z, None)
    assert torch.equal(net(low, z, None, torch.zeros(2, 1)), clean)
    assert not torch.allclose(net(low, z, None, torch.full((2, 1), 0.1)), clean, atol=1e-4)


def test_residuals_have_the_scale_of_real_ones_for_each_color():
    net = ResidualGenerator((8, 8), (8, 8), noise=(5, 1), groups=4)
    low, z = torch.randn(4, 3, 8, 8), torch.randn(4, 5 + 64)
    before = net(low, z, None)
    high = torch.randn(500, 3, 8, 8) * torch.tensor([0.1, 0.2, 0.4])[:, None, None]
    net.initialize_from(high, None)
    ratio = (net(low, z, None) / before).mean((0, 2, 3))
    torch.testing.assert_close(ratio, torch.tensor([0.1, 0.2, 0.4]), rtol=0.05, atol=0)


@pytest.mark.parametrize("conditional", [True, False])
def test_every_view_of_the_discriminator_has_unit_variance(conditional: bool):
    net = ResidualDiscriminator((8, 8), (8, 8))
    high = 0.1 * torch.randn(2000, 3, 8, 8) + 0.2 * (not conditional)
    low = 0.5 * torch.randn(2000, 3, 1, 1).expand(-1, 3, 8, 8) + 0.3 if conditional else None
    net.initialize_from(high, low)
    (views,) = net.features(high, low)
    torch.testing.assert_close(views.std((0, 2, 3)), torch.ones(9), rtol=0.01, atol=0)
    assert views.mean((0, 2, 3)).abs().max() < 0.05


def test_at_the_coarsest_level_the_residual_is_that_to_the_own_low_pass_image():
    image = torch.randn(2, 3, 6, 6)
    coarse = image.view(2, 3, 3, 2, 3, 2).mean((3, 5))
    # Between two coarse pixels, a quarter of the way from the nearer one.
    along = torch.tensor(
        [[4, 0, 0], [3, 1, 0], [1, 3, 0], [0, 3, 1], [0, 1, 3], [0, 0, 4]]
    ) / 4  # fmt: skip
    low = along @ coarse @ along.T
    (views,) = ResidualDiscriminator((6, 6), (8, 8)).features(image, None)
    torch.testing.assert_close(views, torch.cat((image, image - low, low), dim=1))


def test_the_discriminator_sees_the_low_pass_image_beside_the_sum():
    net = ResidualDiscriminator((8, 8), (8,))
    high, low = torch.randn(8, 3, 8, 8), torch.randn(8, 3, 8, 8)
    shifted = net(high - low, 2 * low, None)
    assert not torch.allclose(net(high, low, None), shifted, atol=1e-3)


def test_patches_divide_the_grid_and_are_put_together_in_place():
    """A net on patches whose blocks are skips is one 3x3 convolution in, and one out."""
    net = ResidualGenerator((8, 8), (16,), (4, 2), 8, groups=4, patch=2).double()
    shapes = []
    net.down[0].register_forward_hook(lambda _, inputs, y: shapes.append(tuple(y.shape)))
    low, z = torch.randn(2, 3, 8, 8).double(), torch.randn(2, 4 + 2 * 64).double()
    high = net(low, z, None)
    assert shapes == [(2, 16, 4, 4)]
    pixels = torch.cat((2 * low, z[:, 4:].view(2, 2, 8, 8)), dim=1)
    patches = pixels.unfold(2, 2, 2).unfold(3, 2, 2)  # (2, 5, 4, 4, row, column)
    patches = patches.permute(0, 1, 4, 5, 2, 3).reshape(2, 20, 4, 4)
    x = convolve(patches, net.into.weight, net.into.bias)
    x = convolve(silu(group_norm(x, 4)), net.out.weight, net.out.bias)
    for row in range(2):
        for column in range(2):
            place = 2 * row + column
            torch.testing.assert_close(high[:, :, row::2, column::2], x[:, place::4])


def test_the_discriminator_on_patches_works_on_the_divided_grid():
    net = ResidualDiscriminator((16, 16), (8, 16), units=4, num_classes=2, patch=2)
    shapes = []
    for block in net.blocks:
        block.register_forward_hook(lambda _, inputs, y: shapes.append(tuple(y.shape[1:])))
    high, low = torch.randn(3, 3, 16, 16), torch.randn(3, 3, 16, 16)
    assert net(high, low, torch.tensor([0, 1, 0])).shape == (3,)
    assert shapes == [(8, 8, 8), (16, 4, 4), (16, 4, 4), (16, 4, 4)]


def test_what_does_not_fit_the_nets_is_refused_by_level():
    with pytest.raises(LapganError, match=r"level 30.*divisible by 4.*fewer"):
        ResidualGenerator((30, 30), (16, 16, 16))
    with pytest.raises(LapganError, match=r"level 12.*patches of 2x2.*divisible by 8"):
        ResidualGenerator((12, 12), (16, 16, 16), patch=2)
    with pytest.raises(LapganError, match=r"level 7x8.*divisible by 2"):
        ResidualVectorGenerator((7, 8))
    with pytest.raises(LapganError, match=r"level 12.*divisible by 8"):
        ResidualDiscriminator((12, 12), (16, 16, 16, 16))
    with pytest.raises(LapganError, match=r"level 8.*24 maps.*16 groups.*divisible by 16"):
        ResidualGenerator((8, 8), (16, 24))


def test_initial_logits_are_of_the_order_of_one():
    net = ResidualDiscriminator((16, 16), (32, 64, 64), num_classes=3)
    logits = net(torch.randn(64, 3, 16, 16), torch.randn(64, 3, 16, 16), torch.arange(64) % 3)
    assert 0.05 < logits.std() < 5
