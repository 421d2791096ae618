import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lapgan.models.patch import (
    PatchDiscriminator,
    PatchGenerator,
    PatchGeneratorSection,
    VectorGenerator,
)
from lapgan.noise import PlaneNoise


def smooth(n: int, size: tuple[int, int] = (8, 8)) -> Tensor:
    x = torch.randn(n, 3, *size).cumsum(dim=2).cumsum(dim=3)
    return 0.1 + 0.1 * x


def test_the_untrained_vector_generator_draws_the_mean_and_covariance_of_the_images():
    real = smooth(4000, (4, 4))
    generator = VectorGenerator((4, 4), noise=48, units=32, blocks=1)
    generator.initialize_from(real, None)
    # Without f, which starts small, what is left is the noise itself in the images' basis.
    nn.init.zeros_(generator.last.weight)
    with torch.no_grad():
        fake = generator(None, torch.rand(20000, 48) * 2 - 1, None)
    assert torch.allclose(fake.mean(dim=0), real.mean(dim=0), atol=0.05)
    covariance, expected = (torch.cov(x.flatten(1).T) for x in (fake, real))
    assert (covariance - expected).norm() / expected.norm() < 0.05


def test_the_untrained_patch_generator_is_the_ridge_regression_of_the_residual():
    low = smooth(300)
    high = low.roll(1, dims=3) - 0.5 * low + 0.05 * torch.randn_like(low)
    generator = PatchGenerator((8, 8), patch=2, maps=16, blocks=1, planes=1)
    generator.initialize_from(high, low)
    nn.init.zeros_(generator.last.weight)
    with torch.no_grad():
        fake = generator(low, torch.rand(300, 1, 8, 8), None)
    inside = (slice(None), slice(None), slice(2, 6), slice(2, 6))
    # The residual is linear in a neighbourhood that 3x3 patches cover, up to noise of 0.05, to
    # which the ridge adds its shrinkage.
    assert 0.05 < (fake - high)[inside].std() < 0.1
    assert high[inside].std() > 0.2


def test_noise_and_class_change_what_is_generated():
    low, z = smooth(4), torch.rand(4, 2, 8, 8)
    generator = PatchGenerator((8, 8), patch=2, maps=16, blocks=1, planes=2, num_classes=3)
    generator.initialize_from(low, low)
    block = generator.blocks[0]
    nn.init.normal_(block.second.weight)
    nn.init.normal_(block.embedding.weight)
    ones, twos = torch.full((4,), 1), torch.full((4,), 2)
    assert not torch.equal(generator(low, z, ones), generator(low, 1 - z, ones))
    assert not torch.equal(generator(low, z, ones), generator(low, z, twos))


def test_d_computes_the_convolutions_of_its_layers():
    # Plain convolutions, layer by layer; a grid of 9x11 places loses its odd row and column.
    low, label = smooth(8, (18, 22)), torch.arange(8) % 3
    discriminator = PatchDiscriminator((18, 22), patch=2, maps=8, units=16, num_classes=3)
    discriminator.initialize_from(low, None)
    assert len(discriminator.convs) == 2
    (x,) = discriminator.features(low, None)
    for layer in discriminator.convs:
        x = F.leaky_relu(layer(x), 0.2)
    logits = discriminator.verdict(x.flatten(1), label)
    assert torch.allclose(discriminator(low, None, label), logits, atol=1e-5)


def test_a_generator_that_takes_sigma_starts_as_one_that_does_not_and_learns_from_it():
    low, z, sigma = smooth(4), torch.rand(4, 1, 8, 8), torch.tensor([[0.0], [0.1], [0.2], [0.1]])
    plain, told = (
        PatchGeneratorSection(patch=2, maps=16, blocks=1, takes_sigma=takes).build(
            (8, 8), PlaneNoise(), 0
        )
        for takes in (False, True)
    )
    # The state of one that does not is what it was before there was such a key.
    assert set(told.state_dict()) - set(plain.state_dict()) == {"sigma.weight"}
    told.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(told(low, z, None, sigma), plain(low, z, None))
    told(low, z, None, sigma).square().sum().backward()
    assert told.sigma.weight.grad.abs().min() > 0
    nn.init.normal_(told.sigma.weight)
    changed = (told(low, z, None, sigma) != plain(low, z, None)).flatten(1).any(1)
    assert changed.tolist() == [False, True, True, True]


@pytest.mark.parametrize("size", [(8, 8), (16, 16), (16, 24)])
def test_the_logit_of_an_image_does_not_depend_on_how_it_is_split(size: tuple[int, int]):
    image, low = smooth(8, size), smooth(8, size)
    discriminator = PatchDiscriminator(size, patch=4, maps=8, units=16)
    discriminator.initialize_from(image, None)
    logits = discriminator(image, None, None)
    assert logits.shape == (8,)
    assert torch.allclose(discriminator(image - low, low, None), logits, atol=1e-4)


def test_d_sees_how_much_a_group_of_images_differs():
    image = smooth(1).expand(8, 3, 8, 8)
    others = torch.cat((image[:1], smooth(7)))
    discriminator = PatchDiscriminator((8, 8), patch=2, maps=8, units=16)
    discriminator.initialize_from(smooth(100), None)
    assert discriminator(image, None, None)[0] != discriminator(others, None, None)[0]


def test_the_class_enters_d_by_projection():
    discriminator = PatchDiscriminator((8, 8), patch=2, maps=8, units=16, num_classes=2)
    image = smooth(1).expand(2, 3, 8, 8)
    zero, one = discriminator(image, None, torch.tensor([0, 1])).tolist()
    # Adding a direction to both classes moves both logits alike.
    with torch.no_grad():
        discriminator.verdict.embedding.weight += 1.0
    moved_zero, moved_one = discriminator(image, None, torch.tensor([0, 1])).tolist()
    assert zero != one
    assert moved_zero - zero == pytest.approx(moved_one - one, abs=1e-4)


def test_each_feature_of_d_has_variance_one():
    real = 10 * smooth(2000)  # the floor is far below
    discriminator = PatchDiscriminator((8, 8), patch=4, maps=8, units=16)
    discriminator.initialize_from(real, None)
    (maps,) = discriminator.features(real, None)
    assert torch.allclose(maps.var(dim=(0, 2, 3)), torch.tensor(1.0), atol=0.03)


def test_the_noise_that_a_net_takes_in_has_variance_one():
    """Uniform noise in [-1, 1] has variance 1/3, so a net has to scale it by 3^(1/2)."""
    generator = PatchGenerator((8, 8), patch=2, maps=16, blocks=1, planes=1)
    seen: list[Tensor] = []
    generator.first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    generator(torch.zeros(2000, 3, 8, 8), torch.rand(2000, 1, 8, 8) * 2 - 1, None)
    noise = seen[0][:, generator.high_basis.components :]
    assert noise.shape[1] == 4
    assert noise.var().item() == pytest.approx(1, rel=0.02)
    dense = VectorGenerator((4, 4), noise=48, units=32, blocks=1)
    dense.first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    dense(None, torch.rand(2000, 48) * 2 - 1, None)
    assert seen[1].var().item() == pytest.approx(1, rel=0.02)
