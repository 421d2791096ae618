"""The multi-scale estimate: an orthogonal map, and toys whose answer is known."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from lapgan.cascade import Cascade, Level
from lapgan.errors import LapganError
from lapgan.evaluation.metrics.multiscale_parzen import OrthogonalSplit, multiscale_parzen
from lapgan.noise import PlaneNoise, VectorNoise
from lapgan.normalization import symmetric_normalization
from lapgan.pyramid import OPERATORS, Operator, downsample, gaussian_pyramid
from lapgan.recipe import check_recipe
from lapgan.sizes import Size

PYRAMIDS = [
    [(16, 16), (8, 8), (4, 4)],
    [(28, 28), (14, 14), (8, 8)],
    [(12, 10), (7, 10), (5, 3)],
]


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("sizes", PYRAMIDS)
def test_the_split_is_orthogonal(sizes: list[Size], operator: Operator):
    split = OrthogonalSplit(sizes, operator)
    x, y = (torch.randn(4, 3, *sizes[0], dtype=torch.float64) for _ in range(2))
    parts = []
    for images in (x, y):
        pyramid = gaussian_pyramid(images, sizes, operator)
        last = len(sizes) - 1
        highs = [split.high(pyramid[k], k) for k in range(last)]
        parts.append(torch.cat([*highs, split.low(pyramid[last], last)], dim=1))
    assert parts[0].shape == (4, x[0].numel())
    torch.testing.assert_close(
        (parts[0] * parts[1]).sum(dim=1), (x * y).flatten(1).sum(dim=1), rtol=1e-9, atol=1e-9
    )


def test_the_low_pass_coefficients_of_blocks_are_twice_their_means():
    split = OrthogonalSplit([(8, 8), (4, 4), (2, 2)], "block-mean")
    image = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    blocks = image.unfold(2, 4, 4).unfold(3, 4, 4).mean(dim=(4, 5))
    torch.testing.assert_close(split.low(blocks, 2), 4 * blocks.flatten(1))


@pytest.mark.parametrize("sizes", PYRAMIDS)
def test_residuals_do_not_see_the_low_pass_image(sizes: list[Size]):
    """h_k is orthogonal to every image that d(.)^T spans, so adding one changes nothing."""
    split = OrthogonalSplit(sizes, "bilinear")
    x = torch.randn(2, 3, *sizes[0], dtype=torch.float64)
    coarse = torch.randn(2, 3, *sizes[1], dtype=torch.float64)
    images = x.clone().requires_grad_()
    (span,) = torch.autograd.grad(downsample(images, sizes[1], "bilinear"), images, coarse)
    torch.testing.assert_close(split.high(x + span, 0), split.high(x, 0))


class Silent(nn.Module):
    """Adds nothing; at the coarsest level, an image of zeros."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.zeros(len(z), 3, *self.size)


class White(Silent):
    """Adds white noise of three standard deviations."""

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None = None) -> Tensor:
        return 3 * math.sqrt(3) * z.view(len(z), 3, *self.size)


def toy(nets: list[nn.Module], sizes: list[Size]) -> Cascade:
    keys = [f"{height}x{width}" for height, width in sizes]
    paper = {"kind": "paper-conv", "maps": 1}
    dense = {"kind": "paper-dense", "units": 1}
    levels = {
        key: {"noise": {"kind": "plane"}, "generator": paper, "discriminator": dense}
        for key in keys[:-1]
    }
    levels[keys[-1]] = {
        "noise": {"kind": "vector"},
        "generator": dense,
        "discriminator": dense,
    }
    recipe = check_recipe(
        {"name": "toy", "pyramid": {"operator": "block-mean"}, "levels": levels}, "toy"
    )
    noises = [PlaneNoise(planes=3) for _ in keys[:-1]] + [
        VectorNoise(dimension=3 * math.prod(sizes[-1]))
    ]
    levels = [Level(*parts) for parts in zip(sizes, noises, nets, strict=True)]
    return Cascade(recipe, levels, symmetric_normalization(sizes[0]))


def test_a_silent_model_is_a_gaussian_of_the_images_variance():
    """Its Parzen densities are single Gaussians, whose best widths are the images' own."""
    s, sizes = 1.3, [(12, 12), (6, 6), (3, 3)]
    test, validation = (torch.randn(n, 3, 12, 12) * s for n in (600, 600))
    cascade = toy([Silent(size) for size in sizes], sizes)
    likelihood = multiscale_parzen(cascade, test, validation, samples=64, draws=2)
    d = 3 * 12 * 12
    truth = -d / 2 * math.log(2 * math.pi * math.e * s**2)
    assert [level.dimension for level in likelihood.levels] == [3 * 108, 3 * 27, 3 * 9]
    assert likelihood.total.dimension == d
    assert abs(likelihood.total.mean - truth) < 4 * likelihood.total.error + 0.001 * d
    for level in likelihood.levels:
        assert level.width.sigma == pytest.approx(s, rel=0.05)
        assert not level.width.on_edge


def test_a_model_that_draws_its_residuals_from_the_truth_finds_their_entropy():
    """In few dimensions many draws leave little of the bias that a window always has."""
    sizes: list[Size] = [(1, 2), (1, 1)]
    cascade = toy([White(sizes[0]), White(sizes[1])], sizes)
    half = math.sqrt(3) * 3  # the residual of uniform noise is triangular, its mean too
    test, validation = ((torch.rand(n, 3, 1, 2) * 2 - 1) * half for n in (150, 100))
    likelihood = multiscale_parzen(cascade, test, validation, samples=512, draws=1024)
    # (a - b) / sqrt 2 of two uniforms on [-w, w] is triangular on [-w sqrt 2, w sqrt 2].
    triangular = 0.5 + math.log(half * math.sqrt(2))
    assert abs(likelihood.levels[0].mean - -3 * triangular) < 4 * likelihood.levels[0].error + 0.1


def test_levels_have_their_own_noise_and_the_same_seed_repeats(cascade: Cascade):
    test, validation = torch.randn(5, 3, 12, 12), torch.randn(3, 3, 12, 12)
    first, again, other = (
        multiscale_parzen(cascade, test, validation, samples=70, draws=4, seed=seed)
        for seed in (0, 0, 1)
    )
    assert torch.equal(first.total.values, again.total.values)
    assert not torch.equal(first.total.values, other.total.values)
    total = torch.stack([level.values for level in first.levels]).sum(dim=0)
    assert torch.equal(first.total.values, total)


def test_classes_reach_the_levels(cascade_with_classes: Cascade):
    test, validation = torch.randn(4, 3, 12, 12), torch.randn(4, 3, 12, 12)
    values = [
        multiscale_parzen(
            cascade_with_classes, test, validation, samples=64, draws=2,
            labels=torch.tensor(labels), validation_labels=torch.zeros(4, dtype=torch.int64),
        ).levels[0].values
        for labels in ([0, 0, 0, 0], [0, 0, 0, 2])
    ]  # fmt: skip
    assert torch.equal(values[0][:3], values[1][:3])
    assert values[0][3] != values[1][3]


def test_bad_images_are_refused(cascade: Cascade):
    good = torch.randn(2, 3, 12, 12)
    with pytest.raises(LapganError, match="10x10 but the finest level is 12x12"):
        multiscale_parzen(cascade, good[..., :10, :10], good[..., :10, :10], samples=1, draws=1)
    with pytest.raises(LapganError, match="not finite"):
        multiscale_parzen(cascade, good * math.inf, good, samples=1, draws=1)


def test_a_pyramid_that_loses_a_coefficient_is_refused(monkeypatch: pytest.MonkeyPatch):
    def constant(x: Tensor, size: Size, operator: Operator) -> Tensor:
        return x.mean(dim=2, keepdim=True).expand(-1, -1, *size)

    monkeypatch.setattr("lapgan.evaluation.metrics.multiscale_parzen.downsample", constant)
    with pytest.raises(LapganError, match="no orthogonal split exists"):
        OrthogonalSplit([(8, 8), (4, 4)], "bilinear")


def test_pairs_of_levels_cover_every_pixel_once():
    for sizes in PYRAMIDS:
        split = OrthogonalSplit(sizes, "bilinear")
        zeros = [torch.zeros(1, 3, *size) for size in sizes]
        for k, (fine, coarse) in enumerate(itertools.pairwise(sizes)):
            expected = 3 * (math.prod(fine) - math.prod(coarse))
            assert split.high(zeros[k], k).shape == (1, expected)
