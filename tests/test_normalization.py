import numpy as np
import torch

from lapgan.batches import Batches
from lapgan.data import Images
from lapgan.data.crops import corner_offsets
from lapgan.normalization import standard_normalization, symmetric_normalization


def random_images(count: int = 30, side: int = 8) -> Images:
    random = np.random.default_rng(0)
    half_range = random.uniform(5, 120, (1, 3, side, side))
    pixels = (128 + half_range * random.uniform(-1, 1, (count, 3, side, side))).astype(np.uint8)
    return Images(pixels, None, (), "random", "0" * 8)


def test_symmetric_maps_black_to_minus_one_and_white_to_one():
    normalization = symmetric_normalization((2, 2))
    pixels = torch.tensor([0, 255]).to(torch.uint8).view(2, 1, 1, 1).expand(2, 3, 2, 2)
    x = normalization.normalize(pixels)
    assert torch.equal(x[0], torch.full((3, 2, 2), -1.0))
    assert torch.equal(x[1], torch.full((3, 2, 2), 1.0))


def test_every_pixel_value_survives_the_way_there_and_back():
    pixels = torch.arange(256).to(torch.uint8).view(256, 1, 1, 1).expand(256, 3, 8, 8)
    for normalization in (
        symmetric_normalization((8, 8)),
        standard_normalization(random_images(), (8, 8), corners=False, flip=False),
    ):
        assert torch.equal(normalization.denormalize(normalization.normalize(pixels)), pixels)


def test_standardised_images_have_zero_mean_and_unit_variance_at_each_pixel():
    images = random_images()
    normalization = standard_normalization(images, (8, 8), corners=False, flip=False)
    x = normalization.normalize(torch.from_numpy(images.pixels)).double()
    assert x.mean(dim=0).abs().max() < 1e-5
    assert (x.var(dim=0, correction=0) - 1).abs().max() < 1e-4


def test_statistics_of_crops_and_mirrors_are_those_of_the_examples():
    images = random_images()
    normalization = standard_normalization(images, (6, 5), corners=True, flip=True)
    crops = torch.cat([
        torch.from_numpy(images.pixels[:, :, top : top + 6, left : left + 5].copy())
        for top, left in corner_offsets(images.size, (6, 5))
    ])  # fmt: skip
    examples = torch.cat((crops, crops.flip(-1))).double()
    assert torch.allclose(normalization.mean.double(), examples.mean(dim=0), atol=1e-4)
    deviation = examples.std(dim=0, correction=0)
    assert torch.allclose(normalization.std.double(), deviation, rtol=1e-5)
    batches = Batches(images, (6, 5), seed=0, corners=True)
    assert batches.epoch == len(crops)


def test_a_pixel_that_never_changes_stays_finite():
    pixels = np.full((4, 3, 2, 2), 77, dtype=np.uint8)
    images = Images(pixels, None, (), "gray", "0" * 8)
    x = standard_normalization(images, (2, 2), corners=False, flip=False).normalize(
        torch.from_numpy(pixels)
    )
    assert torch.equal(x, torch.zeros_like(x))


def test_coarse_levels_use_the_statistics_of_their_size():
    normalization = standard_normalization(random_images(), (8, 8), corners=False, flip=False)
    gray = normalization.denormalize(torch.zeros(1, 3, 4, 4))
    expected = normalization.mean.unfold(1, 2, 2).unfold(2, 2, 2).mean(dim=(-1, -2))
    assert torch.equal(gray[0], expected.round().to(torch.uint8))
