import torch
from torch import nn

from lapgan.models.lsun import LsunDiscriminator, LsunGenerator
from lapgan.recipe import read_recipe


def test_the_layers_are_those_of_the_paper():
    net = LsunGenerator((64, 64))
    shapes = [tuple(m.weight.shape) for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert shapes == [
        (64, 4, 7, 7),
        (368, 64, 7, 7),
        (128, 368, 7, 7),
        (224, 128, 7, 7),
        (3, 224, 7, 7),
    ]
    # Weights, one scale and one shift per hidden map, and the biases of the output.
    kernels = 49 * (4 * 64 + 64 * 368 + 368 * 128 + 128 * 224 + 224 * 3)
    assert sum(p.numel() for p in net.parameters()) == kernels + 2 * (64 + 368 + 128 + 224) + 3


def test_dropout_acts_in_training_alone():
    net = LsunGenerator((8, 8), maps=(8, 8))
    low, z = torch.randn(2, 3, 8, 8), torch.rand(2, 1, 8, 8)
    assert not torch.equal(net(low, z, None), net(low, z, None))
    net.eval()
    assert torch.equal(net(low, z, None), net(low, z, None))


def test_a_recipe_asks_for_it_by_its_kind():
    change = "levels.14.generator={kind='paper-lsun', maps=[4, 6], dropout=0.2}"
    generator = read_recipe("paper-cifar10", [change]).levels[1].build_generator(0)
    assert isinstance(generator, LsunGenerator)
    assert [m.out_channels for m in generator.modules() if isinstance(m, nn.Conv2d)] == [4, 6, 3]


def test_the_discriminator_has_three_hidden_layers_at_every_level():
    for side in (4, 8, 16, 32, 64):
        with torch.device("meta"):
            net = LsunDiscriminator((side, side))
        shapes = [tuple(m.weight.shape) for m in net.layers]
        assert shapes == [(48, 3, 5, 5), (448, 48, 5, 5), (416, 448, 5, 5)]
        assert net.linear.in_features == 416 * (side // 4) ** 2
        assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    small = LsunDiscriminator((5, 7), maps=(2, 3, 4))
    assert small(torch.randn(2, 3, 5, 7), None, None).shape == (2,)


def test_the_coarsest_net_works_from_planes_of_noise_alone():
    recipe = read_recipe("paper-lsun")
    net = recipe.level("4").build_generator(0).eval()
    z = recipe.level("4").noise.sample(2, (4, 4), torch.Generator().manual_seed(0))
    assert z.shape == (2, 6, 4, 4)
    images = net(None, z, None)
    assert images.shape == (2, 3, 4, 4)
    assert not torch.equal(images[0], images[1])
