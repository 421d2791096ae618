"""The Frechet distance of features (`fd`; FID for Inception's)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from lapgan.evaluation.context import Context
from lapgan.evaluation.features.extract import Features
from lapgan.evaluation.measurement import Estimate
from lapgan.evaluation.metrics.feature_scores import FeatureScore, check_pair, make_metric

__all__ = ["METRIC", "SCORE", "frechet_distance"]

# Delete-a-group jackknife.
_GROUPS = 10
# With fewer images the distance is mostly its bias.
_USUAL_SAMPLES = 5_000


def frechet_distance(real: Features, fake: Features, seed: int = 0) -> Estimate:
    """Computes the Frechet distance of two Gaussians fitted to the features, by torch-fidelity.

        |m_r - m_f|^2 + tr(C_r + C_f - 2 (C_r C_f)^(1/2))

    It is 0 for equal sets, and too high by about c / n for n images, so compare equal n only. The
    error is a delete-a-group jackknife: one tenth of both sets is left out at a time. It does not
    cover that bias.

    Args:
        real: features of real images, (n, d).
        fake: features of generated images, (m, d), by the same net.
        seed: decides on the groups.

    Raises:
        LapganError: no more images than features, or different nets.

    References:
        Heusel et al. (2017), section 3; Busing et al. (1999) for the jackknife.
    """
    check_pair(SCORE, real, fake)
    x, y = (_Moments.of(features.values, seed) for features in (real, fake))
    replicates = [_frechet(x.without(group), y.without(group)) for group in range(_GROUPS)]
    error = float(np.sqrt((_GROUPS - 1) * np.var(replicates)))
    value = _frechet(x.total(), y.total())
    return Estimate(value, error, len(fake), f"jackknife over {_GROUPS} groups")


@dataclass(frozen=True)
class _Moments:
    """Sums over shuffled features, from which groups can be left out."""

    x: NDArray[np.float64]
    shift: NDArray[np.float64]
    products: NDArray[np.float64]

    @classmethod
    def of(cls, values: Float[Tensor, "n d"], seed: int) -> "_Moments":
        # One permutation for both sets keeps pairs together, if one was derived from the other.
        order = np.random.default_rng(seed).permutation(len(values))
        x = values.double().numpy()[order]
        shift = x.mean(axis=0)
        x -= shift  # or the covariance is the small difference of large sums
        return cls(x, shift, x.T @ x)

    def total(self) -> dict[str, NDArray[np.float64]]:
        return self._statistics(len(self.x), np.zeros_like(self.shift), self.products)

    def without(self, group: int) -> dict[str, NDArray[np.float64]]:
        out = self.x[group::_GROUPS]
        n = len(self.x) - len(out)
        return self._statistics(n, -out.sum(axis=0), self.products - out.T @ out)

    def _statistics(
        self, n: int, total: NDArray[np.float64], products: NDArray[np.float64]
    ) -> dict[str, NDArray[np.float64]]:
        """Returns mean and unbiased covariance of n rows from their sums, for torch-fidelity."""
        mean = total / n
        return {
            "mu": self.shift + mean,
            "sigma": (products - n * np.outer(mean, mean)) / (n - 1),
        }


def _frechet(x: dict[str, NDArray[np.float64]], y: dict[str, NDArray[np.float64]]) -> float:
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    return float(fid_statistics_to_metric(x, y, verbose=False)[KEY_METRIC_FID])


def _compute(real: Features, fake: Features, seed: int) -> dict[str, Estimate]:
    return {"fd": frechet_distance(real, fake, seed)}


def _minimum(dimension: int) -> tuple[int, str]:
    reason = f"a covariance of {dimension} features needs more images than that (kid needs only 4)"
    return dimension + 1, reason


def _has_enough_samples(context: Context) -> bool:
    return context.counts.samples >= _USUAL_SAMPLES


SCORE = FeatureScore("fd", _compute, _minimum)
METRIC = make_metric(SCORE, is_usual=_has_enough_samples)
