import numpy as np
import pytest

from lapgan.data import Images

PIXELS = np.zeros((2, 3, 4, 5), np.uint8)
LABELS = np.array([0, 1])


def test_length_and_size_are_those_of_the_pixels():
    images = Images(PIXELS, LABELS, ("cat", "dog"), "pets", "0")
    assert len(images) == 2
    assert images.size == (4, 5)


@pytest.mark.parametrize(
    ("pixels", "labels", "names", "message"),
    [
        (PIXELS.astype(np.float32), None, (), r"pixels: expected uint8 .*float32"),
        (PIXELS.transpose(0, 2, 3, 1), None, (), r"pixels: expected .*\(2, 4, 5, 3\)"),
        (PIXELS, LABELS, (), "class_names: expected names if and only if"),
        (PIXELS, None, ("cat",), "class_names: expected names if and only if"),
        (PIXELS, LABELS[:1], ("cat", "dog"), r"labels: expected int64 \(2,\)"),
        (PIXELS, LABELS, ("cat",), "labels: expected 0 to 0, got 0 to 1"),
        (PIXELS, -LABELS, ("cat", "dog"), "got -1 to 0"),
    ],
)
def test_refuses_parts_that_do_not_fit(pixels, labels, names, message):
    with pytest.raises(ValueError, match=message):
        Images(pixels, labels, names, "pets", "0")
