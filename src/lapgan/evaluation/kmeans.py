"""Centroids of k-means: samples that are no model's, to read a model's likelihood against.

They beat real images by their Parzen log-likelihood, and so do most models
(Theis et al., 2016, "A note on the evaluation of generative models").
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lapgan.errors import LapganError

__all__ = ["centroids"]


def centroids(training: Float[Tensor, "m d"], n: int, seed: int) -> Float[Tensor, "n d"]:
    """Returns n centroids of k-means on the training images, by scikit-learn.

    Raises:
        LapganError: scikit-learn is not installed, or there are fewer images than centroids.
    """
    if len(training) < n:
        raise LapganError(f"k-means: {n} centroids of only {len(training)} images; ask for fewer.")
    try:
        from sklearn.cluster import MiniBatchKMeans
    except ImportError:
        raise LapganError(
            "the row of k-means needs a package that is not installed: pip install 'lapgan[eval]'."
        ) from None
    means = MiniBatchKMeans(
        n, init="random", batch_size=2048, max_iter=5, n_init=1, random_state=seed
    )
    return torch.from_numpy(means.fit(training.numpy()).cluster_centers_).to(training.dtype)
