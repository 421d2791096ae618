import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lapgan.errors import LapganError
from lapgan.pyramid import (
    OPERATORS,
    Operator,
    downsample,
    gaussian_pyramid,
    image_of,
    laplacian_pyramid,
    reconstruct,
    residual_of,
    stages_of,
    upsample,
)
from lapgan.sizes import Size

PYRAMIDS: list[list[Size]] = [
    [(28, 28), (14, 14), (8, 8)],
    [(96, 96), (64, 64), (32, 32), (16, 16), (8, 8)],
    [(64, 64), (32, 32), (16, 16), (8, 8), (4, 4)],
    [(33, 21), (17, 11), (5, 3), (1, 1)],
    [(10, 7), (10, 3)],
    [(5, 5)],
]


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("sizes", PYRAMIDS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_reconstruction_is_exact(
    operator: Operator, sizes: list[Size], dtype: torch.dtype, tolerance: float
):
    image = torch.rand(3, 3, *sizes[0], dtype=dtype) * 2 - 1
    highs = laplacian_pyramid(image, sizes, operator)
    assert [tuple(high.shape[-2:]) for high in highs] == sizes
    assert (reconstruct(highs, operator) - image).abs().max() < tolerance


@given(st.data())
def test_reconstruction_is_exact_at_any_sizes(data: st.DataObject):
    sides = st.integers(1, 20)
    fine = data.draw(st.tuples(sides, sides))
    coarse = data.draw(st.tuples(st.integers(1, fine[0]), st.integers(1, fine[1])))
    sizes = [fine, coarse] if fine != coarse else [fine]
    operator = data.draw(st.sampled_from(OPERATORS))
    image = torch.rand(1, 1, *fine, dtype=torch.float64)
    highs = laplacian_pyramid(image, sizes, operator)
    assert torch.allclose(reconstruct(highs, operator), image, rtol=0, atol=1e-12)


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_empty_batch_stays_empty(operator: Operator):
    highs = laplacian_pyramid(torch.empty(0, 3, 28, 28), [(28, 28), (14, 14), (8, 8)], operator)
    assert [tuple(high.shape) for high in highs] == [(0, 3, 28, 28), (0, 3, 14, 14), (0, 3, 8, 8)]
    assert reconstruct(highs, operator).shape == (0, 3, 28, 28)


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_constant_image_has_no_high_frequencies(operator: Operator):
    image = torch.full((1, 3, 28, 20), 0.7, dtype=torch.float64)
    *highs, coarsest = laplacian_pyramid(image, [(28, 20), (14, 10), (8, 7)], operator)
    assert all(high.abs().max() < 1e-15 for high in highs)
    assert torch.allclose(coarsest, image[..., :8, :7])


@pytest.mark.parametrize("size", [(28, 28), (33, 31), (7, 10), (2, 3), (5, 4)], ids=str)
def test_burt_adelson_agrees_with_opencv(size: Size):
    image = np.random.default_rng(0).standard_normal(size)
    x = torch.from_numpy(image)[None, None]
    half = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    np.testing.assert_allclose(downsample(x, half)[0, 0], cv2.pyrDown(image), atol=1e-14)
    for height in (2 * size[0] - 1, 2 * size[0]):
        for width in (2 * size[1] - 1, 2 * size[1]):
            expected = cv2.pyrUp(image, dstsize=(width, height))
            np.testing.assert_allclose(upsample(x, (height, width))[0, 0], expected, atol=1e-14)


def test_bilinear_goes_up_as_torch_interpolates_with_aligned_corners():
    x = torch.rand(2, 3, 8, 5, dtype=torch.float64)
    expected = torch.nn.functional.interpolate(x, (14, 12), mode="bilinear", align_corners=True)
    assert torch.allclose(upsample(x, (14, 12), "bilinear"), expected)


@pytest.mark.parametrize("size", [(16, 10), (14, 12), (13, 7), (8, 5)], ids=str)
def test_area_linear_goes_up_as_torch_and_opencv_interpolate_between_pixel_centers(size: Size):
    x = torch.rand(1, 1, 8, 5, dtype=torch.float64)
    ours = upsample(x, size, "area-linear")
    torchs = torch.nn.functional.interpolate(x, size, mode="bilinear", align_corners=False)
    assert torch.allclose(ours, torchs, rtol=0, atol=1e-12)
    opencvs = cv2.resize(x[0, 0].numpy(), size[::-1], interpolation=cv2.INTER_LINEAR)
    # OpenCV computes its weights in single precision.
    np.testing.assert_allclose(ours[0, 0], opencvs, atol=1e-6)


@pytest.mark.parametrize("size", [(14, 14), (8, 8), (28, 5), (1, 1)], ids=str)
def test_all_but_burt_adelson_go_down_by_areas(size: Size):
    image = np.random.default_rng(0).random((28, 28))
    expected = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    operators: list[Operator] = ["bilinear", "block-mean", "area-linear"]
    for operator in operators:
        coarse = downsample(torch.from_numpy(image)[None, None], size, operator)
        # OpenCV computes its weights in single precision.
        np.testing.assert_allclose(coarse[0, 0], expected, atol=1e-6)


def test_block_mean_splits_orthogonally():
    x = torch.rand(1, 3, 32, 48, dtype=torch.float64)
    coarse = downsample(x, (16, 24), "block-mean")
    low = upsample(coarse, (32, 48), "block-mean")
    assert abs(((x - low) * low).sum()) < 1e-10
    assert torch.allclose(
        downsample(low, (16, 24), "block-mean"), downsample(x, (16, 24), "block-mean")
    )


def test_the_stages_of_an_image_are_written_out():
    """Means of 2x1 and then of 1x2 pixels, each repeated: every value can be computed by hand."""
    image = torch.tensor([[1.0, 5.0], [3.0, 11.0]])[None, None]
    fine, middle, coarse = stages_of(image, [(2, 2), (1, 2), (1, 1)], "block-mean")
    assert fine.low is not None
    assert fine.low[0, 0].tolist() == [[2, 8], [2, 8]]
    assert fine.high[0, 0].tolist() == [[-1, -3], [1, 3]]
    assert torch.equal(fine.image, image)
    assert middle.low is not None
    assert middle.low[0, 0].tolist() == [[5, 5]]
    assert middle.high[0, 0].tolist() == [[-3, 3]]
    assert middle.image[0, 0].tolist() == [[2, 8]]
    assert coarse.low is None
    assert coarse.high[0, 0].tolist() == coarse.image[0, 0].tolist() == [[5]]


def test_a_residual_is_what_is_added_to_the_low_pass_image():
    low, high = torch.tensor([[[[2.0, 4.0]]]]), torch.tensor([[[[0.5, -8.0]]]])
    assert image_of(high, low).flatten().tolist() == [2.5, -4.0]
    assert residual_of(image_of(high, low), low).flatten().tolist() == [0.5, -8.0]
    # At the coarsest level the residual is the image.
    assert image_of(high, None) is high
    assert residual_of(high, None) is high


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([(14, 14), (28, 28)], "14x14 is followed by 28x28"),
        ([(28, 28), (28, 28)], "28x28 stands twice"),
        ([(28, 28), (0, 3)], "28x28 and 0x3"),
        ([(20, 28), (14, 14)], "the images are 28x28 but the finest level is 20x28"),
        ([], "no sizes"),
    ],
)
def test_bad_sizes_are_named(sizes: list[Size], message: str):
    with pytest.raises(LapganError, match=message):
        gaussian_pyramid(torch.zeros(1, 3, 28, 28), sizes)


def test_single_operators_refuse_the_wrong_direction():
    with pytest.raises(LapganError, match="28x28 is followed by 30x20"):
        downsample(torch.zeros(1, 1, 28, 28), (30, 20))
    with pytest.raises(LapganError, match="20x30 is followed by 28x28"):
        upsample(torch.zeros(1, 1, 28, 28), (20, 30))


def test_what_inference_mode_left_behind_can_be_differentiated_through():
    with torch.inference_mode():
        upsample(torch.rand(1, 3, 5, 7), (11, 13))
    x = torch.rand(1, 3, 5, 7, requires_grad=True)
    upsample(x, (11, 13)).sum().backward()
    assert x.grad is not None
    assert x.grad.sum().item() == pytest.approx(3 * 11 * 13, rel=1e-5)
