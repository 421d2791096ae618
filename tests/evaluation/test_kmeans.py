"""Centroids of k-means on clusters that are known."""

import pytest
import torch

from lapgan.errors import LapganError
from lapgan.evaluation.kmeans import centroids


def test_it_finds_clusters_that_lie_apart():
    truth = torch.tensor([[0.0, 0.0], [0.0, 50.0], [50.0, 0.0]])
    images = truth.repeat_interleave(400, dim=0) + torch.randn(1200, 2)
    found = min(
        (centroids(images, 3, seed) for seed in range(5)),
        key=lambda c: float(torch.cdist(images, c).min(dim=1).values.mean()),
    )
    assert found.dtype == images.dtype
    assert float(torch.cdist(truth, found).min(dim=1).values.max()) < 1


def test_more_centroids_than_images_are_refused():
    with pytest.raises(LapganError, match="9 centroids of only 4 images"):
        centroids(torch.zeros(4, 2), 9, 0)
