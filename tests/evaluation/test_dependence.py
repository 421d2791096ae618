import math
import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lapgan.cascade import Cascade, Level
from lapgan.compute import Compute
from lapgan.data import open_images
from lapgan.errors import LapganError
from lapgan.evaluation.measurement import (
    Estimate,
    divide_estimates,
    estimate_mean,
    estimate_ratio,
)
from lapgan.evaluation.metrics.dependence.critic import Critic, summarize_scores
from lapgan.evaluation.metrics.dependence.measure import LevelDependence, measure_dependence
from lapgan.evaluation.metrics.dependence.ties import Complement
from lapgan.noise import PlaneNoise, VectorNoise
from lapgan.normalization import standard_normalization, symmetric_normalization
from lapgan.pyramid import Operator, downsample, laplacian_pyramid, upsample
from lapgan.recipe import Recipe, check_recipe
from lapgan.sizes import Size

EXACT = Compute(torch.device("cpu"), torch.float32, "bfloat16 would blur what is exact")
FINE, COARSE = (12, 16), (6, 8)
Residual = Callable[[Tensor, Tensor], Tensor]


class White(nn.Module):
    """A coarsest generator of independent pixels with variance 1."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        return z.view(-1, 3, *self.size) * 3**0.5


class Made(nn.Module):
    """A conditional generator that is a formula."""

    def __init__(self, residual: Residual) -> None:
        super().__init__()
        self.residual = residual

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        return self.residual(low, z)


def recipe(fine: Size = FINE, coarse: Size = COARSE, operator: Operator = "block-mean") -> Recipe:
    conv, dense = {"kind": "paper-conv"}, {"kind": "paper-dense"}
    finer = {"noise": {"kind": "plane"}, "generator": conv, "discriminator": conv}
    coarsest = {"noise": {"kind": "vector"}, "generator": dense, "discriminator": dense}
    keys = [f"{h}x{w}" for h, w in (fine, coarse)]
    content = {"name": "toy", "pyramid": {"operator": operator}}
    return check_recipe(
        content | {"levels": dict(zip(keys, (finer, coarsest), strict=True))}, "toy"
    )


def toy(residual: Residual, fine: Size = FINE, coarse: Size = COARSE) -> Cascade:
    levels = [
        Level(fine, PlaneNoise(planes=3), Made(residual)),
        Level(coarse, VectorNoise(dimension=3 * coarse[0] * coarse[1]), White(coarse)),
    ]
    return Cascade(recipe(fine, coarse), levels, symmetric_normalization(fine), compute=EXACT)


def noise_images(n: int = 400, size: Size = FINE) -> Tensor:
    return torch.randint(0, 256, (n, 3, *size), dtype=torch.uint8)


def measure(residual: Residual, n: int = 256, training: int = 256) -> LevelDependence:
    (level,) = measure_dependence(toy(residual), noise_images(), n=n, training=training)
    return level


def near(estimate: Estimate, truth: float) -> bool:
    return abs(estimate.value - truth) < 4 * estimate.error + 1e-4


def orthogonal(low: Tensor, z: Tensor) -> Tensor:
    return z - upsample(downsample(z, COARSE, "block-mean"), FINE, "block-mean")


def test_a_residual_that_ignores_the_low_pass_image():
    level = measure(lambda low, z: z)
    for information in (level.generated.detail.whole, level.generated.detail.local):
        assert near(information.accuracy, 0.5)
        assert information.mutual_information.value < 0.1
        assert information.jensen_shannon.value < 0.03
    assert near(level.diversity.noise_fraction, 1)
    assert near(level.diversity.given_low, 127.5 / 3**0.5)
    # A mean of four pixels of variance 1/3, and twice the variance 1 of the coarse image.
    assert near(level.generated.fidelity.own, 127.5 * (1 / 12) ** 0.5)
    assert near(level.generated.fidelity.shuffled, 127.5 * (1 / 12 + 2) ** 0.5)
    assert near(level.generated.fidelity.ratio, (1 / 25) ** 0.5)


def test_a_residual_that_follows_from_the_low_pass_image():
    level = measure(lambda low, z: low.roll(1, dims=3), training=384)
    assert level.diversity.given_low.value == 0
    assert level.diversity.noise_fraction.value == 0
    assert near(level.diversity.overall, 127.5)
    assert level.generated.image.whole.accuracy.value > 0.9
    assert 4 < level.generated.image.whole.mutual_information.value <= 8
    assert 4 < level.generated.image.local.mutual_information.value <= 8
    assert level.generated.image.local.accuracy.value > 0.8
    assert level.generated.image.local.jensen_shannon.value <= 1


def test_an_orthogonal_residual_keeps_the_image_below():
    fidelity = measure(orthogonal, n=64, training=128).generated.fidelity
    assert fidelity.own.value < 1e-3
    assert fidelity.interpolated.value < 1e-3
    assert fidelity.ratio.value < 1e-5


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.3, 1.2), (1.0, 0.1)])
def test_the_share_of_noise_is_that_of_a_linear_model(a: float, b: float):
    level = measure(lambda low, z: a * low + b * 3**0.5 * z, n=256, training=128)
    assert near(level.diversity.noise_fraction, b**2 / (a**2 + b**2))
    assert near(level.diversity.given_low, 127.5 * b)
    assert near(level.diversity.overall, 127.5 * (a**2 + b**2) ** 0.5)


def test_real_images_stand_beside():
    images = noise_images(700)
    (level,) = measure_dependence(toy(orthogonal), images, n=512, training=128)
    assert level.real.fidelity.own.value < 1e-3
    high, _ = laplacian_pyramid(images.float(), [FINE, COARSE], "block-mean")
    assert near(level.diversity.real, float(high.var(dim=0).mean().sqrt()))
    ours = level.diversity
    assert ours.relative_to_real.value == ours.given_low.value / ours.real.value


def photographs(n: int, size: Size = FINE) -> Tensor:
    """Images with a texture whose contrast follows from their coarse shapes, in [-1, 1]."""
    shapes = upsample(torch.randn(n, 3, size[0] // 4, size[1] // 4), size, "bilinear")
    checkers = 1 - 2.0 * ((torch.arange(size[0])[:, None] + torch.arange(size[1])) % 2)
    return (shapes * (1 + checkers) / 3).clamp(-1, 1)


class FromPhotographs(nn.Module):
    """A generator that is a formula of l_k and of a photograph that z chooses."""

    def __init__(self, images: Tensor, residual: Residual) -> None:
        super().__init__()
        self.images = images
        self.residual = residual

    def forward(self, low: Tensor, z: Tensor, label: Tensor | None) -> Tensor:
        index = (z.flatten(1)[:, 0] + 1) / 2 * len(self.images)
        return self.residual(low, self.images[index.long()])


def bits_of_constructed(residual: Residual) -> tuple[LevelDependence, list[float]]:
    """Measures a generator of photographs: information in the image, its patches, its detail."""
    images = photographs(1000)
    coarse = FromPhotographs(images, lambda low, image: downsample(image, COARSE, "bilinear"))
    levels = [
        Level(FINE, PlaneNoise(), FromPhotographs(images, residual)),
        Level(COARSE, VectorNoise(), coarse),
    ]
    bilinear = recipe(operator="bilinear")
    cascade = Cascade(bilinear, levels, symmetric_normalization(FINE), compute=EXACT)
    real = ((photographs(512) + 1) * 127.5).to(torch.uint8)
    (level,) = measure_dependence(cascade, real, n=256, training=768)
    tie = level.generated
    relations = (tie.image.whole, tie.image.local, tie.detail.whole, tie.detail.local)
    return level, [information.mutual_information.value for information in relations]


def test_a_level_that_shows_a_stranger_has_no_information_about_the_one_below():
    level, bits = bits_of_constructed(lambda low, stranger: stranger - low)
    assert level.generated.fidelity.ratio.value > 0.9
    assert max(bits) < 0.1
    # Its residual cancels l_k, so l_k could be read off from it.
    assert level.diversity.noise_fraction.value < 0.8
    real = level.real
    assert real.image.whole.mutual_information.value > 4
    assert real.detail.whole.mutual_information.value > 1


def test_a_level_that_copies_has_all_information_about_the_one_below():
    level, bits = bits_of_constructed(lambda low, stranger: torch.zeros_like(low))
    assert level.generated.fidelity.ratio.value < 0.3
    assert bits[0] > 4
    # It has no detail, which therefore says nothing.
    assert max(bits[2:]) < 0.1
    assert level.diversity.overall.value < 1e-3


def test_a_level_with_the_detail_of_a_stranger_follows_in_its_image_but_not_in_its_detail():
    def borrow(low: Tensor, stranger: Tensor) -> Tensor:
        return stranger - upsample(downsample(stranger, COARSE, "bilinear"), FINE, "bilinear")

    level, bits = bits_of_constructed(borrow)
    assert level.generated.fidelity.ratio.value < 0.3
    assert bits[0] > 4
    assert max(bits[2:]) < 0.1
    assert near(level.diversity.noise_fraction, 1)


@pytest.mark.parametrize("operator", ["block-mean", "bilinear", "burt-adelson"])
def test_the_detail_is_what_no_low_pass_image_can_show(operator: Operator):
    complement = Complement((13, 14), (7, 8), operator)
    low = upsample(torch.randn(4, 3, 7, 8), (13, 14), operator)
    assert complement(low).abs().max() < 1e-5
    x = torch.randn(4, 3, 13, 14)
    detail = complement(x)
    torch.testing.assert_close(complement(detail), detail, atol=1e-5, rtol=0)
    # Orthogonal to every low-pass image, and the rest can be shown by one.
    assert torch.einsum("achw,bchw->ab", detail, low).abs().max() < 1e-3
    basis = upsample(torch.eye(56).view(56, 1, 7, 8), (13, 14), operator).flatten(1).T
    rest = (x - detail)[0, 0].flatten()[:, None]
    best = basis @ torch.linalg.lstsq(basis, rest).solution
    torch.testing.assert_close(best, rest, atol=1e-4, rtol=0)


def gaussian_pairs(n: int, rho: float) -> tuple[Tensor, Tensor]:
    """Flat images whose three colors correlate by rho, each color for itself."""
    low = torch.randn(n, 3, 1, 1)
    high = rho * low + (1 - rho**2) ** 0.5 * torch.randn(n, 3, 1, 1)
    return low.expand(-1, -1, 8, 6), high.expand(-1, -1, 8, 6)


@pytest.mark.parametrize("rho", [0.7, 0.9])
def test_the_information_of_gaussians_is_bounded_from_below(rho: float):
    critic = Critic(0, EXACT)
    for _ in range(120):
        critic.train(*gaussian_pairs(64, rho))
    information = summarize_scores(
        [critic.scores(*gaussian_pairs(256, rho))[None] for _ in range(8)]
    )
    truth = -3 / 2 * math.log2(1 - rho**2)
    bound = information.mutual_information
    assert 0.6 * truth < bound.value < truth + 4 * bound.error
    assert information.candidates == 256


def test_what_a_perfect_and_an_undecided_critic_are_told():
    perfect, undecided = torch.eye(16) * 200 - 100, torch.zeros(16, 16)
    information = summarize_scores([perfect[None]])
    assert information.accuracy.value == 1
    assert information.jensen_shannon.value == pytest.approx(1)
    assert information.mutual_information.value == pytest.approx(4)
    information = summarize_scores([undecided[None]])
    assert information.accuracy.value == 0.5
    assert information.jensen_shannon.value == pytest.approx(0, abs=1e-6)
    assert information.mutual_information.value == pytest.approx(0, abs=1e-6)


def test_the_answers_are_a_mean_over_all_shuffled_pairs_with_its_error():
    estimates, truths = [], []
    for _ in range(200):
        effects = torch.randn(2, 32)
        scores = effects[0][:, None] + effects[1] + torch.eye(32)
        estimates.append(summarize_scores([scores[None]]).accuracy)
        off = ~torch.eye(32, dtype=torch.bool)
        right = (scores.diagonal() > 0).double().mean() + (scores[off] <= 0).double().mean()
        truths.append(float(right / 2))
    values = torch.tensor([estimate.value for estimate in estimates])
    torch.testing.assert_close(values, torch.tensor(truths))
    errors = torch.tensor([estimate.error for estimate in estimates])
    assert float(errors.mean()) == pytest.approx(float(values.std()), rel=0.2)


def test_a_cascade_of_one_level_depends_on_nothing():
    whole = toy(orthogonal)
    single = recipe().model_copy(update={"levels": recipe().levels[1:]})
    cascade = Cascade(single, whole.levels[1:], symmetric_normalization(COARSE))
    assert measure_dependence(cascade, noise_images(size=COARSE), n=64, training=128) == []


def test_classes_and_seeds(cascade_with_classes: Cascade):
    images = noise_images(130, (12, 12))
    first, again, other = (
        measure_dependence(cascade_with_classes, images, n=64, training=128, seed=seed)
        for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other
    assert [(level.size, level.seed) for level in first] == [((12, 12), 3)]
    assert first[0].generated.detail.whole.candidates == 64


def test_shuffled_pairs_cross_classes(cascade_with_classes: Cascade):
    class OfClass(nn.Module):
        def forward(self, low: Tensor | None, z: Tensor, label: Tensor) -> Tensor:
            flat = (label.float() - 1)[:, None, None, None]
            return flat.expand(-1, 3, *((6, 8) if low is None else (12, 12))) * (low is None)

    for level in cascade_with_classes.levels:
        object.__setattr__(level, "generator", OfClass())
    (level,) = measure_dependence(
        cascade_with_classes, noise_images(600, (12, 12)), n=512, training=128
    )
    # Of three classes -1, 0 and 1 the mean square difference is 4/3; within a class it is 0.
    assert near(level.generated.fidelity.shuffled, 127.5 * (4 / 3) ** 0.5)


def test_bad_input_is_named():
    cascade = toy(orthogonal)
    with pytest.raises(LapganError, match=r"expected uint8 \(N, 3, 12, 16\)"):
        measure_dependence(cascade, noise_images(200, (12, 12)), n=64)
    with pytest.raises(LapganError, match="100 images are too few for n = 64; give at least 128"):
        measure_dependence(cascade, noise_images(100), n=64)
    with pytest.raises(LapganError, match="n = 10 must be at least 64, training = 128"):
        measure_dependence(cascade, noise_images(100), n=10, training=128)


def test_errors_of_estimates_are_those_of_repetition():
    x = 3 + torch.randn(600, 100)
    y = 2 + 0.5 * x + torch.randn(600, 100)
    others = y.roll(1, 0)
    cases: list[list[Estimate]] = [
        [estimate_mean(a) for a in x],
        [estimate_mean(a).root() for a in x],
        [estimate_ratio(a, b) for a, b in zip(x, y, strict=True)],
        [
            divide_estimates(estimate_mean(a), estimate_mean(b))
            for a, b in zip(x, others, strict=True)
        ],
    ]
    for estimates, truth in zip(cases, (3, 3**0.5, 3 / 3.5, 3 / 3.5), strict=True):
        values = torch.tensor([estimate.value for estimate in estimates])
        errors = torch.tensor([estimate.error for estimate in estimates])
        assert float(values.mean()) == pytest.approx(truth, rel=0.02)
        assert float(errors.mean()) == pytest.approx(float(values.std()), rel=0.12)


@pytest.mark.slow
def test_sizes_that_do_not_divide():
    sizes: tuple[Size, Size] = (96, 72), (64, 48)
    cascade = toy(lambda low, z: 0.1 * z, *sizes)
    (level,) = measure_dependence(cascade, noise_images(130, sizes[0]), n=64, training=128)
    assert level.size == (96, 72)
    assert level.real.fidelity.own.value < 1e-2
    assert near(level.diversity.noise_fraction, 1)


@pytest.mark.data
def test_real_images_of_cifar10_are_tied_to_what_is_below():
    assert "LAPGAN_DATA" in os.environ
    held_out = open_images("cifar10", split="test")
    pixels = torch.from_numpy(held_out.pixels[:1000, :, 2:14, :16].copy())
    cascade = toy(lambda low, z: z)
    cascade.normalization = standard_normalization(
        type(held_out)(pixels.numpy(), None, (), "crops", "0" * 8), FINE, corners=False, flip=False
    )
    (level,) = measure_dependence(cascade, pixels, n=256, training=512)
    assert level.real.fidelity.own.value < 1e-2
    assert level.real.detail.whole.accuracy.value > 0.6
    assert level.real.detail.whole.mutual_information.value > 0.5
    assert level.generated.detail.whole.mutual_information.value < 0.1
