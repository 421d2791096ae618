import numpy as np
import pytest

from lapgan.data import CornerCrops, Images, corner_crops
from lapgan.errors import LapganError


@pytest.fixture
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 5, 6), np.uint8)
    return Images(pixels, np.array([1, 0, 1]), ("cat", "dog"), "pets", "0")


def test_example_i_is_corner_i_mod_4_of_image_i_div_4(images):
    crops = CornerCrops(images, (4, 3))
    assert len(crops) == 12
    expected = [
        window
        for image in images.pixels
        for window in (image[:, :4, :3], image[:, :4, 3:], image[:, 1:, :3], image[:, 1:, 3:])
    ]
    np.testing.assert_array_equal(crops.pixels(np.arange(12)), np.stack(expected))
    np.testing.assert_array_equal(crops.labels(np.array([11, 0, 4])), [1, 1, 0])


def test_crops_of_the_full_size_are_the_images(images):
    crops = corner_crops(images, np.array([2, 0]), np.array([3, 1]), (5, 6))
    np.testing.assert_array_equal(crops, images.pixels[[2, 0]])


def test_images_smaller_than_the_crops_are_refused(images):
    with pytest.raises(
        LapganError, match="pets: images are 5x6, too small for corner crops of 6x6"
    ):
        CornerCrops(images, (6, 6))
