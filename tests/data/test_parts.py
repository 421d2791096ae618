"""Images that are held out: which, and that the parts are parts."""

import numpy as np
import pytest

from lapgan.data import Images, hold_out_images
from lapgan.errors import LapganError


def numbered(labels: np.ndarray | None) -> Images:
    """Sixty images; image i is of the color i."""
    pixels = np.broadcast_to(np.arange(60, dtype=np.uint8)[:, None, None, None], (60, 3, 2, 2))
    names = () if labels is None else tuple("abc")
    return Images(pixels, labels, names, "numbered", "f" * 8, "c" * 8)


def colors(images: Images) -> list[int]:
    return images.pixels[:, 0, 0, 0].tolist()


def test_of_images_in_mixed_order_the_last_are_held_out_without_a_copy():
    """As the authors' code does with CIFAR-10."""
    images = numbered(np.arange(60) % 3)
    train, held_out = hold_out_images(images, 10)
    assert colors(train) == list(range(50))
    assert colors(held_out) == list(range(50, 60))
    assert held_out.labels is not None
    assert held_out.labels.tolist() == [color % 3 for color in range(50, 60)]
    assert np.shares_memory(train.pixels, images.pixels)


@pytest.mark.parametrize("labels", [None, np.arange(60) // 20])
def test_of_images_in_any_order_some_are_drawn(labels: np.ndarray | None):
    images = numbered(labels)
    train, held_out = hold_out_images(images, 15)
    assert sorted(colors(train) + colors(held_out)) == list(range(60))
    assert len(held_out) == 15
    assert {color // 20 for color in colors(held_out)} == {0, 1, 2}
    if train.labels is not None:
        assert train.labels.tolist() == [color // 20 for color in colors(train)]
    assert colors(hold_out_images(images, 15)[1]) == colors(held_out)


def test_the_parts_are_other_images_than_the_whole():
    images = numbered(None)
    train, held_out = hold_out_images(images, 15)
    assert len({part.fingerprint for part in (images, train, held_out)}) == 3
    assert len({part.content for part in (images, train, held_out)}) == 3
    same, none = hold_out_images(images, 0)
    assert (same.fingerprint, same.content, len(none)) == (images.fingerprint, images.content, 0)


@pytest.mark.parametrize("count", [59, 60, 61])
def test_nothing_to_train_on_is_refused(count: int):
    with pytest.raises(LapganError, match=f"of 60 images {count} cannot be held out"):
        hold_out_images(numbered(None), count)
