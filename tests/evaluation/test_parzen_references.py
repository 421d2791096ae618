"""The Gaussian fit against PyTorch's own distribution; k-means on clusters that are known."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from lapgan.errors import LapganError
from lapgan.evaluation.metrics.parzen_references import GaussianFit, fit_centroids


def correlated(n: int) -> torch.Tensor:
    mixing = torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.randn(n, 6, dtype=torch.float64) @ mixing + 3


def test_its_likelihood_is_that_of_a_multivariate_normal():
    training, test = correlated(500), correlated(9)
    truth = MultivariateNormal(training.mean(dim=0), training.T.cov()).log_prob(test)
    torch.testing.assert_close(GaussianFit.of(training, ridge=0.0).log_likelihood(test), truth)


def test_its_samples_have_the_mean_and_covariance_of_the_images():
    training = correlated(5000)
    samples = GaussianFit.of(training).sample(50_000, seed=0).double()
    torch.testing.assert_close(samples.mean(dim=0), training.mean(dim=0), atol=0.08, rtol=0)
    torch.testing.assert_close(samples.T.cov(), training.T.cov(), atol=0.3, rtol=0.03)


def test_too_few_images_for_a_covariance_are_refused():
    with pytest.raises(LapganError, match="6 training images, expected more than the 6 dim"):
        GaussianFit.of(torch.zeros(6, 6))


def test_it_finds_clusters_that_lie_apart():
    truth = torch.tensor([[0.0, 0.0], [0.0, 50.0], [50.0, 0.0]])
    images = truth.repeat_interleave(400, dim=0) + torch.randn(1200, 2)
    centers = min(
        (fit_centroids(images, 3, seed) for seed in range(5)),
        key=lambda c: float(torch.cdist(images, c).min(dim=1).values.mean()),
    )
    assert centers.dtype == images.dtype
    assert float(torch.cdist(truth, centers).min(dim=1).values.max()) < 1


def test_more_centroids_than_images_are_refused():
    with pytest.raises(LapganError, match="9 centroids of only 4 images"):
        fit_centroids(torch.zeros(4, 2), 9, 0)
