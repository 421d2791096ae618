"""Distances between real and generated images, as numbers with their errors.

Every score is computed from features (`lapgan.evaluation.features`) and named after the net they
come from: `fid`, `kid`, `precision` ... for Inception-v3 alone, `fd-lite0`, `kid-lite0` ... for
EfficientNet-Lite0. Values under different names cannot be compared.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from lapgan.errors import LapganError
from lapgan.evaluation.features import DIMENSIONS, ExtractorName, Features, check_labels

__all__ = [
    "Distance",
    "Score",
    "check_counts",
    "class_distances",
    "density_coverage",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "measure",
    "precision_recall",
]

Score = Literal["fd", "kid", "precision-recall", "density-coverage", "inception-score"]

# Delete-a-group jackknife for the Frechet distance.
_GROUPS = 10
_KID_SUBSETS = 50
_KID_SUBSET = 1000
# The neighbours that span a ball: those of the two papers.
_NEIGHBORS_PRECISION = 3
_NEIGHBORS_DENSITY = 5
_SPLITS = 10
# Rows of a block of distances: 1,000 x 50,000 in float32 are 200 MB.
_BLOCK = 1000


@dataclass(frozen=True)
class Distance:
    """One score of one model.

    Args:
        name: with the net in it, such as `fd-lite0`.
        value: the score.
        error: its spread.
        error_is: what kind of spread, in words.
        n_real: real images; 0 if the score uses none.
        n_fake: generated images.
        seed: decides on groups and subsets.
        extractor: the net that the features come from.
    """

    name: str
    value: float
    error: float
    error_is: str
    n_real: int
    n_fake: int
    seed: int
    extractor: ExtractorName


def check_counts(
    extractor: ExtractorName, scores: Collection[Score], *, n_real: int, n_fake: int
) -> None:
    """Tells whether there will be enough images, before anything is computed.

    Raises:
        LapganError: too few images for one of the scores, or a score that the net does not have.
    """
    for score in scores:
        if score == "inception-score" and extractor != "inception":
            raise LapganError(
                f"inception-score: is defined for Inception-v3 only, not for {extractor}."
            )
        counts = {"generated": n_fake} | ({} if score == "inception-score" else {"real": n_real})
        _check_enough(score, extractor, DIMENSIONS[extractor], counts)


def _check_enough(
    score: Score, extractor: ExtractorName, dimension: int, counts: dict[str, int]
) -> None:
    least, reason = _least_count(score, dimension)
    for kind, n in counts.items():
        if n < least:
            raise LapganError(
                f"{_name(score, extractor)}: {n} {kind} images are too few: {reason}. Take {least} "
                "or more (10,000 for a figure to compare)"
                + (", or use the kernel distance, which needs few." if score == "fd" else ".")
            )


def _least_count(score: Score, dimension: int) -> tuple[int, str]:
    return {
        "fd": (dimension + 1, f"a covariance of {dimension} features needs more images than that"),
        "kid": (4, "two subsets of two are needed"),
        "precision-recall": (_NEIGHBORS_PRECISION + 1, "each image needs that many neighbours"),
        "density-coverage": (_NEIGHBORS_DENSITY + 1, "each image needs that many neighbours"),
        "inception-score": (_SPLITS, "it is computed on ten splits"),
    }[score]


def _name(score: str, extractor: ExtractorName) -> str:
    if extractor == "inception":
        return "fid" if score == "fd" else score
    return f"{score}-{extractor}"


def measure(
    real: Features, fake: Features, scores: Sequence[Score] | None = None, seed: int = 0
) -> list[Distance]:
    """Computes several scores.

    Args:
        real: features of real images.
        fake: features of generated images, by the same net.
        scores: which; by default all that the net has.
        seed: decides on groups and subsets.

    Raises:
        LapganError: see `check_counts`; or the features come from different nets.
    """
    if scores is None:
        scores = [s for s in get_args(Score) if s != "inception-score" or fake.logits is not None]
    check_counts(fake.extractor, scores, n_real=len(real), n_fake=len(fake))
    return [distance for score in scores for distance in _SCORES[score](real, fake, seed)]


def frechet_distance(real: Features, fake: Features, seed: int = 0) -> Distance:
    """The Frechet distance of two Gaussians fitted to the features, by torch-fidelity.

        |m_r - m_f|^2 + tr(C_r + C_f - 2 (C_r C_f)^(1/2))

    0 for equal sets; too high by about c / n for n images, so compare equal n only. The error is a
    delete-a-group jackknife: a tenth of both sets left out at a time. It does not cover that bias.

    Raises:
        LapganError: no more images than features, or different nets.

    Source: Heusel et al. (2017), section 3; Busing et al. (1999) for the jackknife.
    """
    _check_pair(real, fake, "fd")
    x, y = (_Moments.of(features.values, seed) for features in (real, fake))
    left_out = [_frechet(x.without(group), y.without(group)) for group in range(_GROUPS)]
    error = np.sqrt((_GROUPS - 1) * np.var(left_out))
    return _distance("fd", _frechet(x.total(), y.total()), float(error),
                     f"jackknife over {_GROUPS} groups", real, fake, seed)  # fmt: skip


@dataclass(frozen=True)
class _Moments:
    """Sums over shuffled features, from which groups can be taken away."""

    x: NDArray[np.float64]
    shift: NDArray[np.float64]
    products: NDArray[np.float64]

    @classmethod
    def of(cls, values: Float[Tensor, "n d"], seed: int) -> "_Moments":
        # Equal seeds keep pairs together, should one set have been made from the other.
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


def kernel_distance(real: Features, fake: Features, seed: int = 0) -> Distance:
    """The kernel distance: the squared maximum mean discrepancy under (x.y / d + 1)^3.

    Unbiased, so about 0 (and at times below) for equal distributions, whatever n. The mean over 50
    subsets of 1,000 images each, or of half of the images where there are fewer than 2,000. The
    error is the standard deviation over the subsets, as is the custom: the spread of one subset,
    and so more than the error of their mean.

    Raises:
        LapganError: fewer than four images, or different nets.

    Source: Binkowski et al. (2018), section 4; torch-fidelity.
    """
    from torch_fidelity.metric_kid import (
        KEY_METRIC_KID_MEAN,
        KEY_METRIC_KID_STD,
        kid_features_to_metric,
    )

    _check_pair(real, fake, "kid")
    size = min(_KID_SUBSET, len(real) // 2, len(fake) // 2)
    found = kid_features_to_metric(
        fake.values, real.values, kid_subsets=_KID_SUBSETS, kid_subset_size=size, rng_seed=seed,
        verbose=False,
    )  # fmt: skip
    return _distance(
        "kid", found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD],
        f"standard deviation over {_KID_SUBSETS} subsets of {size}", real, fake, seed,
    )  # fmt: skip


def precision_recall(real: Features, fake: Features, seed: int = 0) -> list[Distance]:
    """Precision and recall in [0, 1], by torch-fidelity.

    Precision: the share of generated images that lie within the ball of some real image, up to its
    third neighbour among the real ones. Recall: the same with the sets exchanged. The errors are
    binomial, for the other set as it is.

    Raises:
        LapganError: fewer than four images, or different nets.

    Source: Kynkäänniemi et al. (2019), section 2.
    """
    from torch_fidelity.metric_prc import (
        KEY_METRIC_PRECISION,
        KEY_METRIC_RECALL,
        prc_features_to_metric,
    )

    _check_pair(real, fake, "precision-recall")
    found = prc_features_to_metric(
        fake.values, real.values, prc_neighborhood=_NEIGHBORS_PRECISION, prc_batch_size=_BLOCK,
        save_cpu_ram=True, verbose=False,
    )  # fmt: skip
    return [
        _share("precision", found[KEY_METRIC_PRECISION], len(fake), real, fake, seed),
        _share("recall", found[KEY_METRIC_RECALL], len(real), real, fake, seed),
    ]


def density_coverage(real: Features, fake: Features, seed: int = 0) -> list[Distance]:
    """Density and coverage, with the ball of a real image up to its fifth real neighbour.

        density  = 1 / (k M) sum_j sum_i 1[y_j in B(x_i)]     about 1 for equal distributions
        coverage = 1 / N sum_i 1[some y_j in B(x_i)]          in [0, 1]

    for N real images x and M generated ones y. Unlike precision and recall they hold out against
    single outliers, as only real images have balls. Distances are computed block by block.

    Raises:
        LapganError: fewer than six images, or different nets.

    Source: Naeem et al. (2020), equations 3 and 4.
    """
    _check_pair(real, fake, "density-coverage")
    balls = torch.zeros(len(fake), dtype=torch.int64)
    covered = torch.zeros(len(real), dtype=torch.bool)
    for span in _spans(len(real)):
        x = real.values[span]
        # The nearest real image is the image itself.
        radius = torch.cdist(x, real.values).kthvalue(_NEIGHBORS_DENSITY + 1).values
        inside = torch.cdist(x, fake.values) <= radius[:, None]
        balls += inside.sum(dim=0)
        covered[span] = inside.any(dim=1)
    density = balls.double() / _NEIGHBORS_DENSITY
    error = float(density.std() / len(fake) ** 0.5)
    return [
        _distance("density", float(density.mean()), error, "standard error over generated images",
                  real, fake, seed),
        _share("coverage", float(covered.double().mean()), len(real), real, fake, seed),
    ]  # fmt: skip


def inception_score(fake: Features, seed: int = 0) -> Distance:
    """The Inception score exp(E KL(p(y|x) || p(y))) in [1, 1008], by torch-fidelity.

    Mean and standard deviation over ten splits. It sees no real image.

    Raises:
        LapganError: fewer than ten images, or the features are not Inception's.

    Source: Salimans et al. (2016), section 4.
    """
    from torch_fidelity.metric_isc import (
        KEY_METRIC_ISC_MEAN,
        KEY_METRIC_ISC_STD,
        isc_features_to_metric,
    )

    check_counts(fake.extractor, ["inception-score"], n_real=0, n_fake=len(fake))
    if fake.logits is None:
        raise LapganError("inception-score: these features come without class scores.")
    found = isc_features_to_metric(fake.logits, splits=_SPLITS, rng_seed=seed)
    return Distance(
        "inception-score", found[KEY_METRIC_ISC_MEAN], found[KEY_METRIC_ISC_STD],
        f"standard deviation over {_SPLITS} splits", 0, len(fake), seed, fake.extractor,
    )  # fmt: skip


def class_distances(
    real: Features,
    fake: Features,
    real_labels: Int64[Tensor, " n"],
    fake_labels: Int64[Tensor, " m"],
    class_names: Sequence[str],
    seed: int = 0,
) -> dict[str, list[Distance]]:
    """Computes the kernel distance of each class alone, and the Frechet one where n permits.

    Args:
        real: features of real images.
        fake: features of generated images, by the same net.
        real_labels: the class of each real image, an index into `class_names`.
        fake_labels: the class that each generated image was asked for.
        class_names: the names.
        seed: decides on groups and subsets.

    Returns:
        the distances by the class's name, in the order of the classes.

    Raises:
        LapganError: labels do not fit the features, or a class has fewer than four images.
    """
    check_labels("real labels", real, real_labels)
    check_labels("generated labels", fake, fake_labels)
    found = {}
    for index, name in enumerate(class_names):
        pair = real[real_labels == index], fake[fake_labels == index]
        try:
            found[name] = list(_one_class(*pair, seed))
        except LapganError as error:
            raise LapganError(f"class {name}: {error}") from error
    return found


def _one_class(real: Features, fake: Features, seed: int) -> Iterator[Distance]:
    yield kernel_distance(real, fake, seed)
    if min(len(real), len(fake)) >= _least_count("fd", real.values.shape[1])[0]:
        yield frechet_distance(real, fake, seed)


_SCORES: dict[Score, Callable[[Features, Features, int], list[Distance]]] = {
    "fd": lambda real, fake, seed: [frechet_distance(real, fake, seed)],
    "kid": lambda real, fake, seed: [kernel_distance(real, fake, seed)],
    "precision-recall": precision_recall,
    "density-coverage": density_coverage,
    "inception-score": lambda _, fake, seed: [inception_score(fake, seed)],
}


def _check_pair(real: Features, fake: Features, score: Score) -> None:
    if real.extractor != fake.extractor or real.values.shape[1] != fake.values.shape[1]:
        raise LapganError(
            f"{score}: the real images have {real.values.shape[1]} features by {real.extractor}, "
            f"the generated ones {fake.values.shape[1]} by {fake.extractor}. Use one net for both."
        )
    counts = {"real": len(real), "generated": len(fake)}
    _check_enough(score, real.extractor, real.values.shape[1], counts)


def _distance(
    score: str, value: float, error: float, error_is: str, real: Features, fake: Features, seed: int
) -> Distance:
    return Distance(_name(score, real.extractor), value, error, error_is, len(real), len(fake),
                    seed, real.extractor)  # fmt: skip


def _share(score: str, share: float, n: int, real: Features, fake: Features, seed: int) -> Distance:
    error = (share * (1 - share) / n) ** 0.5
    return _distance(score, share, error, "binomial standard error", real, fake, seed)


def _spans(n: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK))
