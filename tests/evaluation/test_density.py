import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lapgan.evaluation.metrics.entropy import density as module
from lapgan.evaluation.metrics.entropy.contexts import LevelImages, Window
from lapgan.evaluation.metrics.entropy.density import Density, image_bits, log_mixture
from lapgan.evaluation.metrics.entropy.training import train_density
from lapgan.sizes import Size


@pytest.fixture(autouse=True)
def _few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 600)


@pytest.mark.parametrize("log_scale", [-9.0, -3.0, 0.0, 3.0, 8.0])
def test_probabilities_of_the_mixture_sum_to_one(log_scale: float):
    x = torch.arange(256.0, dtype=torch.float64)
    logits, scales = torch.tensor([0.3, -2.0]).double(), torch.tensor([log_scale, 1.0]).double()
    for mean in (-900.0, -0.5, 0.0, 100.3, 255.0, 400.0):
        means = torch.tensor([mean, 77.0]).double()
        log_p = log_mixture(x, *(v.expand(256, 2) for v in (logits, means, scales)))
        assert log_p.isfinite().all()
        assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_the_mixture_is_that_of_the_formula():
    mean, scale, x = 100.0, 7.0, torch.tensor([0.0, 90.0, 255.0], dtype=torch.float64)

    def below(value: float) -> float:
        return 1 / (1 + math.exp(-(value - mean) / scale))

    p = [below(0.5), below(90.5) - below(89.5), 1 - below(254.5)]
    ones = torch.ones(3, 1, dtype=torch.float64)
    probabilities = log_mixture(x, ones, mean * ones, math.log(scale) * ones).exp()
    expected = [(1 - module.FLOOR) * value + module.FLOOR / 256 for value in p]
    assert probabilities.tolist() == pytest.approx(expected, rel=1e-9)


def _random_density(size: Size, coarse: Size | None) -> Density:
    density = Density(Window(size, coarse, torch.full((3,), 120.0)))
    with torch.no_grad():
        for parameter in density.parameters():
            parameter.normal_(0, 0.1)
        density.linear.normal_(0, 0.1)
        density.factor[:, 1, 0] = 0.3
    return density


def _random_level(n: int, size: Size, coarse: Size | None) -> LevelImages:
    random = np.random.default_rng(0)
    fine = torch.from_numpy(random.integers(0, 256, (n, 3, *size), np.uint8))
    if coarse is None:
        return LevelImages(fine, None)
    return LevelImages(fine, torch.from_numpy(random.integers(0, 256, (n, 3, *coarse), np.uint8)))


def test_the_probabilities_of_two_colors_sum_to_one():
    """All 256^2 values of green and blue, given red and the pixels before."""
    density, level = _random_density((1, 2), None), _random_level(1, (1, 2), None)
    green, blue = (
        v.flatten().byte() for v in torch.meshgrid(*[torch.arange(256)] * 2, indexing="ij")
    )
    fine = level.fine.expand(256 * 256, 3, 1, 2).clone()
    fine[:, 1, 0, 1], fine[:, 2, 0, 1] = green, blue
    total = 0.0
    for n in torch.arange(256 * 256).split(16384):
        place = torch.zeros_like(n), torch.ones_like(n)
        with torch.no_grad():
            log_p = density(density.window(LevelImages(fine, None), n, *place))
        total += log_p[:, 1:].sum(dim=1).double().exp().sum().item()
    assert total == pytest.approx(1, abs=1e-3)


def _every_pixel(density: Density, level: LevelImages) -> list[Tensor]:
    """Returns the mixtures of image 0, each (h * w * 3, components), in the order of coding."""
    height, width = level.size
    index = torch.arange(height * width)
    with torch.no_grad():
        c = density.window(level, torch.zeros_like(index), index // width, index % width)
        return [part.flatten(0, 1) for part in density.mixture(c)]


@pytest.mark.parametrize("coarse", [None, (3, 2)])
def test_no_mixture_depends_on_what_comes_later(coarse: Size | None):
    size = (6, 5)
    density, level = _random_density(size, coarse), _random_level(1, size, coarse)
    before = _every_pixel(density, level)
    for row, column, color in ((0, 0, 0), (0, 4, 2), (2, 3, 1), (3, 0, 0), (5, 4, 2)):
        changed = level.fine.clone()
        changed[0, color, row, column] += 90
        after = _every_pixel(density, LevelImages(changed, level.coarse))
        position = (row * size[1] + column) * 3 + color
        for old, new in zip(before, after, strict=True):
            assert torch.allclose(old[: position + 1], new[: position + 1], rtol=1e-4, atol=1e-3)
        if position + 1 < len(before[0]):
            assert not torch.allclose(before[1][position + 1 :], after[1][position + 1 :], atol=0.1)


@pytest.mark.parametrize(
    ("size", "coarse"), [((1, 1), None), ((4, 4), None), ((7, 3), (4, 2)), ((14, 14), (8, 8))]
)
def test_any_sizes_have_finite_bits(size: Size, coarse: Size | None):
    level = _random_level(20, size, coarse)
    bits = image_bits(train_density(level, 0.0, seed=0), level)
    assert bits.shape == (20,)
    assert bits.isfinite().all()


def _learned(level: LevelImages, test: LevelImages, minutes: float = 0.015) -> Tensor:
    """Returns bits a value of each test image."""
    return image_bits(train_density(level, minutes, seed=0), test) / test.fine[0].numel()


def _split(fine: Tensor, coarse: Tensor | None, n: int) -> tuple[LevelImages, LevelImages]:
    halves = (slice(n, None), slice(n))
    return tuple(LevelImages(fine[h], None if coarse is None else coarse[h]) for h in halves)


def test_eight_equally_likely_values_need_three_bits():
    fine = torch.from_numpy(np.random.default_rng(1).integers(100, 108, (900, 3, 4, 4), np.uint8))
    train, test = _split(fine, None, 200)
    bits = _learned(train, test).mean().item()
    # The code of each value is at least three bits but for the sampling error, here .005.
    assert 2.99 < bits < 3.3


def test_a_known_distribution_is_met_from_above():
    p = np.array([0.05, 0.1, 0.2, 0.3, 0.2, 0.1, 0.05])
    entropy = -(p * np.log2(p)).sum()
    fine = np.random.default_rng(2).choice(7, (900, 3, 4, 4), p=p).astype(np.uint8) + 40
    train, test = _split(torch.from_numpy(fine), None, 200)
    bits = _learned(train, test)
    error = bits.std().item() / 200**0.5
    assert entropy - 4 * error < bits.mean().item() < entropy + 0.2


def test_repeated_coarse_pixels_need_no_bits():
    coarse = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (300, 3, 4, 4), np.uint8))
    fine = coarse.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    train, test = _split(fine, coarse, 100)
    assert _learned(train, test).mean().item() < 0.1


def test_constant_images_need_no_bits_and_others_stay_finite():
    black = torch.zeros(20, 3, 4, 4, dtype=torch.uint8)
    density = train_density(LevelImages(black, black[..., :2, :2]), 0.005, seed=0)
    assert image_bits(density, LevelImages(black, black[..., :2, :2])).mean().item() / 48 < 0.2
    other = _random_level(20, (4, 4), (2, 2))
    # The uniform share of the mixture keeps every value below 18 bits.
    assert image_bits(density, other).max().item() <= 18.1 * 48


def test_the_same_seed_starts_the_same():
    level = _random_level(20, (4, 4), (2, 2))
    first, second = (image_bits(train_density(level, 0.0, seed=5), level) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.slow
def test_correlated_neighbours_cost_less_than_their_marginal():
    """A random walk with steps of -1, 0 and 1 along each row: log2(3) bits a value inside."""
    steps = np.random.default_rng(4).integers(-1, 2, (2000, 3, 8, 8))
    steps[..., 0] = np.random.default_rng(5).integers(60, 180, (2000, 3, 8))
    train, test = _split(torch.from_numpy(steps.cumsum(axis=3).astype(np.uint8)), None, 300)
    bits = _learned(train, test, minutes=0.3).mean().item()
    entropy = (7 * math.log2(3) + math.log2(120)) / 8
    assert entropy - 0.01 < bits < entropy + 0.35
