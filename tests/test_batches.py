import numpy as np
import pytest
import torch

from lapgan.batches import Batches
from lapgan.data import Images
from lapgan.errors import LapganError


def numbered(count: int, side: int) -> Images:
    """Images in which every pixel holds the image's number, its row and its column."""
    pixels = np.zeros((count, 3, side, side), dtype=np.uint8)
    pixels[:, 0] = np.arange(count)[:, None, None]
    pixels[:, 1] = np.arange(side)[:, None]
    pixels[:, 2] = np.arange(side)[None, :]
    return Images(pixels, np.arange(count) % 3, ("a", "b", "c"), "numbered", "0" * 8)


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order():
    batches = Batches(numbered(24, 4), (4, 4), seed=0)
    epochs = [
        torch.cat([batches.at(start, 8)[0][:, 0, 0, 0] for start in range(first, first + 24, 8)])
        for first in (0, 24)
    ]
    assert all(sorted(epoch.tolist()) == list(range(24)) for epoch in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()


def test_labels_stay_with_their_images():
    pixels, labels = Batches(numbered(24, 4), (4, 4), seed=1).at(20, 10)
    assert labels is not None
    assert (labels == pixels[:, 0, 0, 0] % 3).all()


def test_a_minibatch_depends_on_the_count_alone():
    first = Batches(numbered(24, 4), (4, 4), seed=0, flip=True)
    again = Batches(numbered(24, 4), (4, 4), seed=0, flip=True)
    first.at(0, 8)
    first.at(8, 8)
    assert torch.equal(first.at(16, 8)[0], again.at(16, 8)[0])
    other = Batches(numbered(24, 4), (4, 4), seed=1, flip=True)
    assert not torch.equal(first.at(16, 8)[0], other.at(16, 8)[0])


def test_corner_crops_are_the_four_corners_of_each_image():
    batches = Batches(numbered(5, 8), (6, 7), seed=0, corners=True)
    assert batches.epoch == 20
    pixels, labels = batches.at(0, 20)
    assert pixels.shape == (20, 3, 6, 7)
    corners = sorted((int(p[0, 0, 0]), int(p[1, 0, 0]), int(p[2, 0, 0])) for p in pixels)
    assert corners == [(n, top, left) for n in range(5) for top in (0, 2) for left in (0, 1)]
    assert (pixels[:, 2] == pixels[:, 2, :1, :1] + torch.arange(7)).all()
    assert labels is not None
    assert (labels == pixels[:, 0, 0, 0] % 3).all()


def test_about_half_of_the_examples_are_mirrored_and_mirrored_only_left_to_right():
    pixels, _ = Batches(numbered(200, 4), (4, 4), seed=0, flip=True).at(0, 200)
    mirrored = pixels[:, 2, 0, 0] == 3
    assert (pixels[mirrored, 2] == torch.arange(3, -1, -1)).all()
    assert (pixels[~mirrored, 2] == torch.arange(4)).all()
    assert (pixels[:, 1] == torch.arange(4)[:, None]).all()
    # 200 fair coins: 7.1 is one standard deviation, 40 nearly six.
    assert 60 <= mirrored.sum() <= 140


@pytest.mark.parametrize(
    ("size", "corners", "message"),
    [((6, 6), False, "images are 8x8, but .* 6x6"), ((9, 4), True, "8x8, too small .* 9x4")],
)
def test_images_of_another_size_are_refused(size: tuple[int, int], corners: bool, message: str):
    with pytest.raises(LapganError, match=message):
        Batches(numbered(3, 8), size, seed=0, corners=corners)


def test_with_replacement_a_batch_follows_from_its_place_and_has_repeats():
    batches = Batches(numbered(24, 4), (4, 4), seed=0, replacement=True)
    pixels, _ = batches.at(20, 240)
    assert torch.equal(pixels, batches.at(20, 240)[0])
    assert not torch.equal(pixels, batches.at(260, 240)[0])
    counts = pixels[:, 0, 0, 0].long().bincount(minlength=24)
    # Of 240 draws from 24 images each has 10 +- 3.1; without replacement each would have 10.
    assert len(counts) == 24
    assert counts.min() < 10 < counts.max()
    assert (counts - 10).abs().max() < 5 * 3.1
