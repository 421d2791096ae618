"""Reference rows of the Parzen log-likelihood: samples that are not a model's.

Centroids of k-means have a higher Parzen log-likelihood than real images and most models (Theis et
al., 2016, "A note on the evaluation of generative models"). A Gaussian fit to the pixels is the
simplest model, and its likelihood is known exactly.
"""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from lapgan.errors import LapganError, requires

__all__ = ["GaussianFit", "fit_centroids"]

# Added to the diagonal of the covariance, as a fraction of the mean variance.
_RIDGE = 1e-3


def fit_centroids(training: Float[Tensor, "m d"], n: int, seed: int) -> Float[Tensor, "n d"]:
    """Returns n centroids of k-means on training images, by scikit-learn.

    Raises:
        LapganError: scikit-learn is not installed, or there are fewer images than centroids.
    """
    if len(training) < n:
        raise LapganError(f"k-means: {n} centroids of only {len(training)} images; ask for fewer.")
    with requires("eval", "the reference row of k-means"):
        from sklearn.cluster import MiniBatchKMeans
    means = MiniBatchKMeans(
        n, init="random", batch_size=2048, max_iter=5, n_init=1, random_state=seed
    )
    return torch.from_numpy(means.fit(training.numpy()).cluster_centers_).to(training.dtype)


@dataclass(frozen=True, eq=False)
class GaussianFit:
    """N(mean, L L^T).

    Args:
        mean: (d,), float64.
        factor: L, lower triangular (d, d), float64.
    """

    mean: Float[Tensor, " d"] = field(repr=False)
    factor: Float[Tensor, "d d"] = field(repr=False)

    @classmethod
    def of(cls, training: Float[Tensor, "m d"], ridge: float = _RIDGE) -> "GaussianFit":
        """Fits mean and covariance.

        Args:
            training: flat images, (m, d), with m > d.
            ridge: added to the covariance's diagonal, as a fraction of the mean variance.

        Raises:
            LapganError: too few images for a covariance.
        """
        m, d = training.shape
        if m <= d:
            raise LapganError(
                f"gaussian fit: {m} training images, expected more than the {d} dimensions of one. "
                "Give more images, or leave this row out."
            )
        mean = training.mean(dim=0)
        centered = training - mean
        covariance = (centered.T @ centered).double() / (m - 1)
        covariance.diagonal().add_(ridge * covariance.diagonal().mean())
        return cls(mean.double(), torch.linalg.cholesky(covariance))

    def sample(self, n: int, seed: int) -> Float[Tensor, "n d"]:
        """Draws n samples, float32."""
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(n, len(self.mean), generator=generator)
        samples: Tensor = noise @ self.factor.float().T + self.mean.float()
        return samples

    def log_likelihood(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Computes log N(x; mean, L L^T) in nats, float64."""
        whitened = torch.linalg.solve_triangular(
            self.factor, (x.double() - self.mean).T, upper=False
        )
        log_determinant = 2 * self.factor.diagonal().log().sum()
        d = len(self.mean)
        values: Tensor = whitened.square().sum(dim=0) + log_determinant + d * math.log(2 * math.pi)
        return -0.5 * values
