"""The sliced Wasserstein distance against scipy, closed forms, and sets whose order is known."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from lapgan.data import Images
from lapgan.errors import LapganError
from lapgan.evaluation.config import SampleCounts
from lapgan.evaluation.context import Context, EvaluatedModel
from lapgan.evaluation.measurement import HELD_OUT
from lapgan.evaluation.metrics.swd import METRIC, cut_patches, describe, sliced_wasserstein
from lapgan.evaluation.suite import evaluate_models
from lapgan.pyramid import laplacian_pyramid


def textures(n: int, seed: int, size: int = 28) -> Tensor:
    """Smooth random images with some noise."""
    random = np.random.default_rng(seed)
    coarse = torch.from_numpy(random.uniform(60, 196, (n, 3, 7, 7)))
    smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    noise = torch.from_numpy(random.normal(0, 12, (n, 3, size, size)))
    return (smooth + noise).clamp(0, 255).byte()


def test_in_one_dimension_it_is_the_wasserstein_distance():
    a, b = torch.randn(300, 1), torch.rand(300, 1).square()
    expected = wasserstein_distance(a.flatten().numpy(), b.flatten().numpy())
    assert sliced_wasserstein(a, b).value == pytest.approx(expected, rel=1e-5)


def test_two_points_are_apart_by_their_mean_projection():
    a, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, -2.0]])
    distance = sliced_wasserstein(a, b)
    # The mean of |cos| over the circle is 2 / pi.
    assert abs(distance.value - 5 * 2 / math.pi) < 4 * distance.error
    assert distance.error < 0.1


def test_a_shift_is_found_to_be_its_length_times_that_of_a_mean_projection():
    d, x = 20, torch.randn(4000, 20)
    shift = torch.randn(d)
    distance = sliced_wasserstein(x, x + shift)
    mean_projection = math.exp(math.lgamma(d / 2) - math.lgamma((d + 1) / 2)) / math.pi**0.5
    assert abs(distance.value - shift.norm().item() * mean_projection) < 4 * distance.error


def test_it_is_symmetric_and_zero_for_equal_sets():
    a, b = torch.randn(500, 9), torch.randn(500, 9) * 2
    assert sliced_wasserstein(a, b).value == sliced_wasserstein(b, a).value > 0.3
    assert sliced_wasserstein(a, a[torch.randperm(500)]).value == pytest.approx(0, abs=1e-6)


def test_patches_are_cut_from_their_own_images():
    """Each value names its image, color, row and column."""
    n, size = 3, (9, 12)
    shape = (n, 2, *size)
    x = torch.arange(math.prod(shape)).double().view(shape)
    patches = cut_patches(x, torch.Generator().manual_seed(0)).long()
    assert patches.shape == (n, 128, 2, 7, 7)
    image, color, row, column = (
        torch.from_numpy(i) for i in np.unravel_index(patches.numpy(), shape)
    )
    assert (image == torch.arange(n)[:, None, None, None, None]).all()
    assert (color == torch.arange(2)[:, None, None]).all()
    assert (row.diff(dim=3) == 1).all()
    assert (column.diff(dim=4) == 1).all()
    tops, lefts = (index[..., 0, 0, 0].flatten().tolist() for index in (row, column))
    corners = set(zip(tops, lefts, strict=True))
    assert corners == {(y, x) for y in range(3) for x in range(6)}


def test_descriptors_are_patches_of_laplacian_levels_with_normalized_colors():
    images = textures(300, 0)
    fine, coarse = describe(images, 3)
    for level, high in zip((fine, coarse), laplacian_pyramid(images.float(), [(28, 28), (14, 14)]),
                           strict=True):  # fmt: skip
        patches = level.view(300 * 128, 3, 49)
        torch.testing.assert_close(patches.mean(dim=(0, 2)), torch.zeros(3), atol=1e-3, rtol=0)
        torch.testing.assert_close(patches.std(dim=(0, 2)), torch.ones(3), atol=1e-3, rtol=0)
        # Normalization is one affine map per color, so the first patch occurs in the first image.
        windows = high[0, 0].unfold(0, 7, 1).unfold(1, 7, 1).reshape(-1, 49)
        both = torch.cat((patches[:1, 0], windows))
        assert torch.corrcoef(both)[0, 1:].max() > 1 - 1e-4


def test_blurred_images_differ_at_the_finest_level_and_others_hardly():
    real, same, blurred = textures(100, 0), textures(100, 1), textures(100, 2)
    blurred = gaussian_blur(blurred, [5, 5], [1.0, 1.0])
    levels = describe(real, 0)
    near = [sliced_wasserstein(a, b).value for a, b in zip(levels, describe(same, 0), strict=True)]
    far = [
        sliced_wasserstein(a, b).value for a, b in zip(levels, describe(blurred, 0), strict=True)
    ]
    assert far[0] > 3 * near[0]
    assert far[0] > far[1]


def test_a_model_of_training_images_is_at_no_distance():
    training, held_out = (
        Images(textures(80, seed).numpy(), None, (), f"textures-{seed}", f"{seed}" * 8)
        for seed in (0, 1)
    )
    counts = SampleCounts(samples=40, validation=10)
    first = Images(training.pixels[:40], None, (), "first", "first")
    context = Context([EvaluatedModel("copies", source=first)], training, held_out, counts)
    measurements = evaluate_models(context, [METRIC]).measurements
    values = {(m.subject, m.metric): m.value for m in measurements}
    assert [values["copies", f"swd at {size}"] for size in ("28x28", "14x14")] == [0, 0]
    assert all(values[HELD_OUT, f"swd at {size}"] > 0 for size in ("28x28", "14x14"))
    assert {m.n for m in measurements} == {40}


def test_images_smaller_than_a_patch_are_refused():
    images = Images(np.zeros((60, 3, 6, 9), np.uint8), None, (), "small", "0" * 8)
    counts = SampleCounts(samples=20, validation=10)
    context = Context([EvaluatedModel("tiny", source=images)], images, images, counts)
    with pytest.raises(LapganError, match="swd: the images of tiny are 6x9, expected at least 7x7"):
        evaluate_models(context, [METRIC])
