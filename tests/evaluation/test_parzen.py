"""The Parzen estimate against closed forms, scikit-learn, and what is known of CIFAR-10."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from lapgan.data import Images, open_images
from lapgan.errors import LapganError
from lapgan.evaluation.metrics.parzen import (
    choose_scale,
    choose_width,
    parzen_log_density,
    parzen_log_likelihood,
)


def test_one_sample_gives_one_gaussian():
    x, c = torch.randn(5, 7), torch.randn(1, 7)
    truth = Normal(c.double(), 0.3).log_prob(x.double()).sum(dim=1)
    torch.testing.assert_close(parzen_log_density(x, c, 0.3), truth, rtol=1e-5, atol=1e-4)


def test_the_density_is_a_mixture_of_gaussians():
    x, c = torch.randn(700, 4), torch.randn(1500, 4)
    mixture = MixtureSameFamily(
        Categorical(torch.ones(1500)),
        torch.distributions.Independent(Normal(c.double(), 0.5), 1),
    )
    truth = mixture.log_prob(x.double())
    torch.testing.assert_close(parzen_log_density(x, c, 0.5), truth, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_it_agrees_with_scikit_learn(offset: float):
    neighbors = pytest.importorskip("sklearn.neighbors")
    # One leaf: the bounds of a deep tree cancel in many dimensions, by hundreds of nats here.
    x, c, v = (torch.randn(n, 192) * 20 + offset for n in (40, 1100, 30))
    likelihood = parzen_log_likelihood(c, x, v, sigma=15.0)
    density = neighbors.KernelDensity(bandwidth=15.0, leaf_size=1100).fit(c.double().numpy())
    truth = torch.from_numpy(density.score_samples(x.double().numpy()))
    torch.testing.assert_close(likelihood.values, truth, rtol=1e-5, atol=0)


def test_it_finds_the_entropy_of_a_known_gaussian():
    d, s = 2, 1.7
    samples, test, validation = (torch.randn(n, d) * s for n in (6_000, 1_000, 400))
    likelihood = parzen_log_likelihood(samples, test, validation)
    truth = -d / 2 * math.log(2 * math.pi * math.e * s**2)
    assert abs(likelihood.mean - truth) < 4 * likelihood.error
    assert likelihood.std == pytest.approx(math.sqrt(d / 2), rel=0.1)
    assert not likelihood.width.on_edge
    assert likelihood.error == pytest.approx(likelihood.std / math.sqrt(1_000))


def test_the_best_width_is_found_between_the_grids_points():
    width = choose_width(lambda sigmas: -(sigmas.log() - math.log(0.777)).square(), unit=1.0)
    assert width.sigma == pytest.approx(0.777, rel=0.02)
    assert not width.on_edge


@pytest.mark.parametrize("best", [1e-4, 1e4])
def test_a_width_on_the_edge_of_the_grid_is_said_to_be(best: float):
    assert choose_width(lambda sigmas: -(sigmas.log() - math.log(best)).square(), 1.0).on_edge


def test_identical_samples_and_validation_images_have_a_finite_width():
    likelihood = parzen_log_likelihood(torch.zeros(3, 4), torch.randn(2, 4), torch.zeros(2, 4))
    assert math.isfinite(likelihood.mean)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": torch.zeros(0, 4)}, "no samples images"),
        ({"test": torch.full((2, 4), math.nan)}, "test images hold values that are not finite"),
        ({"validation": torch.zeros(2, 5)}, "validation images have 5 values, test images 4"),
    ],
)
def test_bad_sets_are_named(change: dict[str, torch.Tensor], message: str):
    sets = {name: torch.randn(3, 4) for name in ("samples", "test", "validation")}
    with pytest.raises(LapganError, match=message):
        parzen_log_likelihood(**(sets | change))


def test_scales(images: Images):
    pixels = torch.from_numpy(np.array(images.pixels))
    unit, symmetric, standardised = (
        choose_scale(name, images, (12, 12)).normalize(pixels)
        for name in ("unit", "symmetric", "standardised")
    )
    torch.testing.assert_close(unit, pixels / 255)
    torch.testing.assert_close(symmetric, pixels / 127.5 - 1)
    torch.testing.assert_close(standardised.mean(dim=0), torch.zeros(3, 12, 12), atol=1e-5, rtol=0)


@pytest.mark.data
def test_real_training_images_of_cifar10_as_samples():
    """-3449 with sigma .77 is what an independent program gave; see also Theis et al. (2016)."""
    training, held_out = (open_images("cifar10", split=split) for split in ("train", "test"))
    scale = choose_scale("standardised", training, (32, 32))
    samples, validation, test = (
        scale.normalize(torch.from_numpy(np.array(pixels)))
        for pixels in (training.pixels[:10_000], training.pixels[-500:], held_out.pixels[:2_000])
    )
    likelihood = parzen_log_likelihood(samples, test, validation)
    assert abs(likelihood.mean - -3449) < 30 + 2 * likelihood.error
    assert likelihood.width.sigma == pytest.approx(0.77, abs=0.06)
