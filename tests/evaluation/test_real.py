import dataclasses

import numpy as np

from lapgan.data import Images
from lapgan.evaluation.real import shuffle_classes


def folders() -> Images:
    """Sixty images of three classes, class by class; image i is of the color i."""
    pixels = np.broadcast_to(np.arange(60, dtype=np.uint8)[:, None, None, None], (60, 3, 4, 4))
    return Images(pixels, np.arange(60) // 20, ("a", "b", "c"), "folders", "f" * 8)


def test_images_that_come_class_by_class_are_shuffled():
    images, shuffled = folders(), shuffle_classes(folders())
    assert shuffled.labels is not None
    colors = shuffled.pixels[:, 0, 0, 0]
    assert sorted(colors) == list(range(60))
    assert (shuffled.labels == colors // 20).all()
    assert set(shuffled.labels[:20]) == {0, 1, 2}
    assert shuffled.fingerprint != images.fingerprint
    assert (shuffle_classes(folders()).pixels == shuffled.pixels).all()


def test_other_images_stay_as_they_are():
    images = folders()
    assert images.labels is not None
    shuffled = dataclasses.replace(images, labels=images.labels[::-1].copy())
    assert shuffle_classes(shuffled) is shuffled
    unlabelled = dataclasses.replace(images, labels=None, class_names=())
    assert shuffle_classes(unlabelled) is unlabelled
    one = dataclasses.replace(images, labels=np.zeros(60, np.int64), class_names=("a",))
    assert shuffle_classes(one) is one
