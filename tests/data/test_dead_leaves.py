import numpy as np
import pytest

from lapgan.data import open_images
from lapgan.data.sources.dead_leaves import DeadLeaves
from lapgan.errors import LapganError


@pytest.fixture(scope="module")
def sample():
    return np.stack([item.content for item in DeadLeaves(150, "train").items()])


def test_opens_without_data():
    images = open_images("dead-leaves:3")
    assert images.pixels.shape == (3, 3, 32, 32)
    assert images.labels is None


def test_images_depend_on_their_number_and_split_only(sample):
    np.testing.assert_array_equal(
        open_images("dead-leaves:2").pixels[1], sample[1].transpose(2, 0, 1)
    )
    test = open_images("dead-leaves:2", split="test")
    assert (test.pixels[0] != sample[0].transpose(2, 0, 1)).any()


def test_the_spectrum_falls_as_in_natural_images(sample):
    """Power falls about as 1 / frequency^2 to 1 / frequency^3.5 (natural images: near 2 to 3)."""
    grey = sample.mean(axis=3) / 255 - 0.47
    window = np.hanning(32)[:, None] * np.hanning(32)
    power = (np.abs(np.fft.fft2(grey * window)) ** 2).mean(axis=0)[0, 2:13]
    slope = np.polyfit(np.log(np.arange(2, 13)), np.log(power), 1)[0]
    assert -3.5 < slope < -2.0


def test_neighbours_are_alike_and_channels_go_together(sample):
    grey = sample.mean(axis=3)
    assert np.corrcoef(grey[:, :, 1:].ravel(), grey[:, :, :-1].ravel())[0, 1] > 0.8
    red, green, blue = sample.reshape(-1, 3).T
    assert np.corrcoef(red, green)[0, 1] > 0.8
    assert np.corrcoef(green, blue)[0, 1] > 0.8


def test_leaves_are_flat_inside(sample):
    """Occlusion leaves plain regions with sharp edges, unlike filtered noise."""
    steps = np.abs(np.diff(sample.mean(axis=3), axis=2))
    assert (steps < 1).mean() > 0.4
    assert (steps > 40).mean() > 0.05


@pytest.mark.parametrize("source", ["dead-leaves:many", "dead-leaves:", "dead-leaves:-3"])
def test_refuses_a_count_that_is_no_number(source):
    with pytest.raises(LapganError, match="expected a number of images"):
        open_images(source)


def test_refuses_a_count_of_zero_and_unknown_splits():
    with pytest.raises(LapganError, match="count of at least 1, got 0"):
        open_images("dead-leaves:0")
    with pytest.raises(LapganError, match=r"no split 'val'\. Choose train or test"):
        open_images("dead-leaves:1", split="val")
