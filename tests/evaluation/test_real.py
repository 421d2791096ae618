import dataclasses

import numpy as np
import torch

from lapgan.data import Images
from lapgan.evaluation.real import RealImages, TrainingExamples, read_crops, shuffle_classes


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


def test_files_joined_one_after_another_are_shuffled_too():
    """Two sorted shards: the classes do not only ascend."""
    shards = dataclasses.replace(folders(), labels=np.tile(np.arange(30) // 10, 2))
    assert set(shuffle_classes(shards).pixels[:10, 0, 0, 0]) != set(range(10))


def test_pictures_without_classes_are_shuffled():
    pictures = dataclasses.replace(folders(), labels=None, class_names=())
    colors = shuffle_classes(pictures).pixels[:, 0, 0, 0]
    assert sorted(colors) == list(range(60))
    assert colors[:20].max() > 40


def test_of_very_many_images_no_class_is_cut_away():
    """Class folders of 70,000 images, of which single ones are of classes of their own."""
    n, rare = 70_000, 200
    pixels = np.broadcast_to(np.zeros((1, 3, 1, 1), np.uint8), (n, 3, 1, 1))
    labels = np.sort(np.concatenate((np.zeros(n - rare, np.int64), np.arange(1, rare + 1))))
    names = tuple(map(str, range(rare + 1)))
    shuffled = shuffle_classes(Images(pixels, labels, names, "many", "f" * 8))
    assert len(shuffled) == 60_000
    assert shuffled.labels is not None
    assert len(np.unique(shuffled.labels)) == rare + 1
    places = np.flatnonzero(shuffled.labels)
    assert len(places) == rare
    assert np.abs(places.mean() / 60_000 - 0.5) < 0.1  # spread over the whole order


def test_other_images_stay_as_they_are():
    images = folders()
    alternating = dataclasses.replace(images, labels=np.arange(60) % 3)
    assert shuffle_classes(alternating) is alternating
    random = dataclasses.replace(images, labels=np.random.default_rng(1).integers(0, 3, 60))
    assert shuffle_classes(random) is random
    one = dataclasses.replace(images, labels=np.zeros(60, np.int64), class_names=("a",))
    assert shuffle_classes(one) is one


def test_widths_are_chosen_on_images_that_are_neither_trained_on_nor_scored():
    training = folders()
    held_out = dataclasses.replace(training, pixels=training.pixels + 100)
    real = RealImages(training, held_out, (4, 4))
    validation, test = (x[:, 0, 0, 0].tolist() for x in (real.validation(20), real.test(40)))
    assert validation == list(range(140, 160))
    assert test == list(range(100, 140))
    labels = real.labels(20)
    assert labels is not None
    assert labels[1].tolist() == [2] * 20


def numbered(size: int) -> Images:
    """Three images whose pixels are all different."""
    pixels = np.arange(3 * 3 * size * size, dtype=np.uint8).reshape(3, 3, size, size)
    return Images(pixels, None, (), "numbered", "f" * 8)


def test_every_crop_and_mirror_image_of_training_is_an_example():
    images = numbered(5)
    examples = TrainingExamples(images, (4, 3), count=2, mirrored=True)
    found = [crop.numpy() for crop in examples[:]]
    windows = [(rows, columns) for rows in (0, 1) for columns in (0, 2)]
    expected = [
        image[:, top : top + 4, left : left + 3][:, :, ::step]
        for image in images.pixels[:2]
        for step in (1, -1)
        for top, left in windows
    ]
    assert len(examples) == len(expected) == 16
    for crop, truth in zip(found, expected, strict=True):
        np.testing.assert_array_equal(crop, truth)
    chosen = torch.tensor([[3, 9], [15, 0]])
    assert torch.equal(examples[chosen], examples[:][chosen])
    represented = examples.represent(2)
    assert torch.equal(examples[represented], read_crops(images, range(2), (4, 3)))


def test_whole_images_have_one_example_each_and_its_mirror():
    images = numbered(4)
    assert len(TrainingExamples(images, (4, 4), count=3)) == 3
    examples = TrainingExamples(images, (4, 4), count=3, mirrored=True)
    assert torch.equal(examples[:][1::2].flip(3), torch.from_numpy(images.pixels))
