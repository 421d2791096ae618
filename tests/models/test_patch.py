import pytest
import torch
from torch import Tensor, nn

from lapgan.models import modern
from lapgan.models.patch import DataInitialized, PatchDiscriminator, PatchGenerator, VectorGenerator


def smooth(n: int, size: tuple[int, int] = (8, 8)) -> Tensor:
    x = torch.randn(n, 3, *size).cumsum(dim=2).cumsum(dim=3)
    return 0.1 + 0.1 * x


def test_the_untrained_vector_generator_draws_the_mean_and_covariance_of_the_images():
    real = smooth(4000, (4, 4))
    generator = VectorGenerator((4, 4), noise=48, units=32, blocks=1)
    generator.fit(real, None)
    # Without f, which starts small, what is left is the noise itself in the images' basis.
    nn.init.zeros_(generator.last.weight)
    with torch.no_grad():
        fake = generator(None, torch.rand(20000, 48) * 2 - 1, None)
    assert torch.allclose(fake.mean(dim=0), real.mean(dim=0), atol=0.05)
    found, wanted = (torch.cov(x.flatten(1).T) for x in (fake, real))
    assert (found - wanted).norm() / wanted.norm() < 0.05


def test_the_untrained_patch_generator_is_the_ridge_regression_of_the_residual():
    low = smooth(300)
    high = low.roll(1, dims=3) - 0.5 * low + 0.05 * torch.randn_like(low)
    generator = PatchGenerator((8, 8), patch=2, maps=16, blocks=1, planes=1)
    generator.fit(high, low)
    nn.init.zeros_(generator.last.weight)
    with torch.no_grad():
        found = generator(low, torch.rand(300, 1, 8, 8), None)
    inside = (slice(None), slice(None), slice(2, 6), slice(2, 6))
    # The residual is linear in a neighbourhood that 3x3 patches cover, up to noise of 0.05, to
    # which the ridge adds its shrinkage.
    assert 0.05 < (found - high)[inside].std() < 0.1
    assert high[inside].std() > 0.2


def test_noise_and_class_change_what_is_generated():
    low, z = smooth(4), torch.rand(4, 2, 8, 8)
    generator = PatchGenerator((8, 8), patch=2, maps=16, blocks=1, planes=2, num_classes=3)
    generator.fit(low, low)
    block = generator.blocks[0]
    nn.init.normal_(block.second.weight)
    nn.init.normal_(block.embedding.weight)
    ones, twos = torch.full((4,), 1), torch.full((4,), 2)
    assert not torch.equal(generator(low, z, ones), generator(low, 1 - z, ones))
    assert not torch.equal(generator(low, z, ones), generator(low, z, twos))


@pytest.mark.parametrize("size", [(8, 8), (16, 16), (16, 24)])
def test_d_judges_the_image_however_it_is_split(size: tuple[int, int]):
    image, low = smooth(8, size), smooth(8, size)
    discriminator = PatchDiscriminator(size, patch=4, maps=8, units=16)
    discriminator.fit(image, None)
    logits = discriminator(image, None, None)
    assert logits.shape == (8,)
    assert torch.allclose(discriminator(image - low, low, None), logits, atol=1e-4)


def test_d_sees_how_much_a_group_of_images_differs():
    image = smooth(1).expand(8, 3, 8, 8)
    others = torch.cat((image[:1], smooth(7)))
    discriminator = PatchDiscriminator((8, 8), patch=2, maps=8, units=16)
    discriminator.fit(smooth(100), None)
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


def test_each_component_that_d_looks_at_has_variance_one():
    real = 10 * smooth(2000)  # the floor is far below
    discriminator = PatchDiscriminator((8, 8), patch=4, maps=8, units=16)
    discriminator.fit(real, None)
    (view,) = discriminator.look(real, None)
    assert torch.allclose(view.var(dim=(0, 2, 3)), torch.tensor(1.0), atol=0.03)


def test_only_fitted_nets_are_fitted():
    assert isinstance(VectorGenerator((8, 8)), DataInitialized)
    assert isinstance(PatchDiscriminator((8, 8)), DataInitialized)
    assert not isinstance(nn.Linear(1, 1), DataInitialized)


def test_unit_noise_has_variance_one():
    assert (modern._UNIT * (torch.rand(100_000) * 2 - 1)).var().item() == pytest.approx(1, rel=0.02)
