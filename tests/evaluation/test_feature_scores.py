import io
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image
from torch import Tensor

from lapgan.data import open_images
from lapgan.errors import LapganError
from lapgan.evaluation.features.extract import (
    ExtractorName,
    Features,
    extract_features,
    load_extractor,
)
from lapgan.evaluation.measurement import Estimate, Measurement
from lapgan.evaluation.metrics import density_coverage as density_coverage_module
from lapgan.evaluation.metrics import frechet, inception_score, kernel
from lapgan.evaluation.metrics import precision_recall as precision_recall_module
from lapgan.evaluation.metrics.density_coverage import density_coverage
from lapgan.evaluation.metrics.feature_scores import check_counts, report_scores
from lapgan.evaluation.metrics.frechet import frechet_distance
from lapgan.evaluation.metrics.kernel import kernel_distance
from lapgan.evaluation.metrics.precision_recall import precision_recall
from lapgan.evaluation.real import read_crops

SCORES = {
    module.SCORE.name: module.SCORE
    for module in (
        frechet,
        kernel,
        precision_recall_module,
        density_coverage_module,
        inception_score,
    )
}


def gaussian(n: int, seed: int, mean: float = 0.0, scale: float = 1.0, d: int = 6) -> Features:
    x = np.random.default_rng(seed).standard_normal((n, d)) * scale + mean
    return Features(torch.from_numpy(x).float())


def two_modes(n: int, seed: int, fraction: float = 0.5) -> Features:
    """Two clouds far apart; `fraction` of the points are in the first."""
    x = gaussian(n, seed).values
    x[: round(n * fraction)] += 100
    return Features(x)


def scipy_frechet(x: Tensor, y: Tensor) -> float:
    a, b = x.double().numpy(), y.double().numpy()
    c, d = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(c @ d).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c + d - 2 * root))


def test_frechet_distance_agrees_with_scipy():
    real, fake = gaussian(300, 0), gaussian(200, 1, mean=0.5, scale=1.3)
    estimate = frechet_distance(real, fake)
    assert estimate.value == pytest.approx(scipy_frechet(real.values, fake.values), rel=1e-9)


def test_frechet_distance_of_gaussians_lies_within_its_error_of_the_closed_form():
    d, mean, scale = 6, 0.5, 1.3
    truth = d * mean**2 + d * (scale - 1) ** 2
    estimates = [
        frechet_distance(gaussian(2000, 2 * s), gaussian(2000, 2 * s + 1, mean, scale))
        for s in range(20)
    ]
    values, errors = np.array([f.value for f in estimates]), np.array([f.error for f in estimates])
    assert abs(values.mean() - truth) < 0.05
    # The jackknife's error is the spread that repeated draws really have.
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.5)


def test_the_jackknife_is_that_of_left_out_groups():
    real, fake = gaussian(55, 0), gaussian(55, 1, mean=1)
    order = np.random.default_rng(3).permutation(55)
    left_out = []
    for group in range(10):
        rest = torch.from_numpy(np.delete(order, np.s_[group::10]))
        left_out.append(scipy_frechet(real.values[rest], fake.values[rest]))
    expected = math.sqrt(9 * np.var(left_out))
    assert frechet_distance(real, fake, seed=3).error == pytest.approx(expected, rel=1e-6)


def test_a_large_common_mean_does_not_spoil_the_covariance():
    real, fake = gaussian(300, 0), gaussian(300, 1)
    moved = [Features(f.values.double() + 1e4) for f in (real, fake)]
    expected = frechet_distance(real, fake).value
    assert frechet_distance(*moved).value == pytest.approx(expected, rel=1e-4)


def test_equal_sets_are_at_no_distance():
    real = gaussian(100, 0)
    fd, kid, precision, recall, density, coverage = measure_small(real, real)
    assert fd.value == pytest.approx(0, abs=1e-6)
    assert fd.error == pytest.approx(0, abs=1e-6)
    # Two subsets of one set share images, which takes 2 (E k(x, x) - E k(x, x')) / n off.
    kernel = (real.values @ real.values.T / 6 + 1) ** 3
    diagonal = kernel.diag().mean()
    others = (kernel.sum() - kernel.diag().sum()) / (100 * 99)
    assert kid.value == pytest.approx(float(-2 * (diagonal - others) / 100), abs=kid.error / 2)
    assert precision.value == recall.value == coverage.value == 1
    # Each image lies in its own ball and in those of about five others.
    assert density.value == pytest.approx(1.2, abs=0.1)


def measure_small(real: Features, fake: Features) -> list[Estimate]:
    """All scores that need no certain number of features."""
    return [
        frechet_distance(real, fake),
        kernel_distance(real, fake),
        *precision_recall(real, fake).values(),
        *density_coverage(real, fake).values(),
    ]


def test_kernel_distance_is_the_unbiased_formula():
    # Half of each set is the subset, so with four images each all subsets are pairs.
    x, y = gaussian(4, 0, d=2).values.double(), gaussian(4, 1, d=2).values.double()
    kernel = lambda a, b: float((a @ b / 2 + 1) ** 3)  # noqa: E731
    random = np.random.RandomState(5)
    values = []
    for _ in range(50):
        b, a = (random.choice(4, 2, replace=False) for _ in range(2))
        within = kernel(x[a[0]], x[a[1]]) + kernel(y[b[0]], y[b[1]])
        across = sum(kernel(x[i], y[j]) for i in a for j in b)
        values.append(within - across / 2)
    estimate = kernel_distance(Features(x), Features(y), seed=5)
    assert estimate.value == pytest.approx(np.mean(values))
    assert estimate.error == pytest.approx(np.std(values))


def test_kernel_distance_has_no_bias():
    estimates = [kernel_distance(gaussian(60, 2 * s), gaussian(60, 2 * s + 1)) for s in range(40)]
    values = np.array([f.value for f in estimates])
    assert abs(values.mean()) < 3 * values.std() / math.sqrt(len(values))
    apart = kernel_distance(gaussian(60, 0), gaussian(60, 1, mean=1))
    assert apart.value > 5 * apart.error


def test_one_mode_of_two_is_precise_but_recalls_half():
    real, fake = two_modes(400, 0), two_modes(400, 1, fraction=1.0)
    assert list(precision_recall(real, fake)) == ["precision", "recall"]
    precision, recall = precision_recall(real, fake).values()
    assert precision.value > 0.8
    assert recall.value == pytest.approx(0.5, abs=0.1)
    precision, recall = precision_recall(fake, real).values()
    assert precision.value == pytest.approx(0.5, abs=0.1)
    assert recall.value > 0.8


def test_one_mode_of_two_covers_half():
    real, fake = two_modes(400, 0), two_modes(400, 1, fraction=1.0)
    assert list(density_coverage(real, fake)) == ["density", "coverage"]
    density, coverage = density_coverage(real, fake).values()
    assert density.value == pytest.approx(1, abs=0.15)
    assert coverage.value == pytest.approx(0.5, abs=0.05)
    density, coverage = density_coverage(fake, real).values()
    assert density.value == pytest.approx(0.5, abs=0.1)
    assert coverage.value > 0.8


def test_density_and_coverage_agree_with_double_loops(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(density_coverage_module, "BLOCK", 7)
    real, fake = gaussian(30, 0, d=3), gaussian(20, 1, mean=0.5, d=3)
    balls, covered = 0, 0
    for x in real.values:
        radius = sorted(math.dist(x, other) for other in real.values)[5]
        inside = sum(math.dist(x, y) <= radius for y in fake.values)
        balls += inside
        covered += inside > 0
    density, coverage = density_coverage(real, fake).values()
    assert density.value == pytest.approx(balls / (5 * 20))
    assert coverage.value == pytest.approx(covered / 30)


def test_precision_and_recall_agree_with_double_loops(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(precision_recall_module, "BLOCK", 7)
    real, fake = gaussian(30, 0, d=3), gaussian(20, 1, mean=1, scale=0.5, d=3)

    def fraction(points: Tensor, of: Tensor) -> float:
        radii = [sorted(math.dist(x, other) for other in of)[3] for x in of]
        inside = [any(math.dist(p, x) <= r for x, r in zip(of, radii, strict=True)) for p in points]
        return sum(inside) / len(points)

    precision, recall = precision_recall(real, fake).values()
    assert precision.value == pytest.approx(fraction(fake.values, real.values))
    assert recall.value == pytest.approx(fraction(real.values, fake.values))


def test_errors_of_neighbor_scores_are_those_of_repeated_draws():
    """For the density, an error for the real images as they are would be far too small."""
    draws = [(gaussian(200, 2 * s, d=4), gaussian(200, 2 * s + 1, 0.3, d=4)) for s in range(25)]
    results = [precision_recall(*pair) | density_coverage(*pair) for pair in draws]
    for name in ("precision", "recall", "density", "coverage"):
        values = np.array([result[name].value for result in results])
        errors = np.array([result[name].error for result in results])
        assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.4), name


def test_no_error_is_given_for_sets_too_small_to_divide():
    precision = precision_recall(gaussian(7, 0), gaussian(7, 1))["precision"]
    assert math.isnan(precision.error)


def test_inception_score_counts_classes_that_are_sure():
    logits = torch.eye(5).repeat(100, 1) * 100
    features = torch.zeros(500, 4)
    sure = inception_score.inception_score(Features(features, "inception", logits))
    assert sure.value == pytest.approx(5, rel=0.05)
    unsure = inception_score.inception_score(Features(features, "inception", logits * 0))
    assert unsure.value == pytest.approx(1)
    assert unsure.n == 500


def measure(real: Features, fake: Features, *names: str, seed: int = 0) -> list[Measurement]:
    """The measurements of scores of a model."""
    return [
        measurement
        for name in names
        for measurement in report_scores(
            SCORES[name].compute(real, fake, seed), subject="model", extractor=fake.extractor,
            real_images=len(real), seed=seed,
        )
    ]  # fmt: skip


def test_scores_are_named_after_their_net():
    real, fake = gaussian(40, 0), gaussian(30, 1)
    names = ("fd", "kid", "precision-recall", "density-coverage")
    assert [m.metric for m in measure(real, fake, *names)] == [
        *("fd-lite0", "kid-lite0", "precision-lite0", "recall-lite0"),
        *("density-lite0", "coverage-lite0"),
    ]
    real, fake = (Features(f.values, "inception", torch.randn(len(f), 9)) for f in (real, fake))
    measurements = measure(real, fake, *names, "inception-score", seed=4)
    assert [m.metric for m in measurements] == [
        *("fid", "kid", "precision", "recall", "density", "coverage", "inception-score"),
    ]
    assert {(m.details["real_images"], m.n, m.seed, m.extractor) for m in measurements} == {
        (40, 30, 4, "inception")
    }
    assert all(m.error >= 0 and m.details["error_is"] for m in measurements)
    assert measurements[0].details["error_is"] == "jackknife over 10 groups"


@pytest.mark.parametrize(
    ("extractor", "name", "n_real", "n_fake", "message"),
    [
        ("lite0", "fd", 5000, 1280, "fd-lite0: 1280 generated images are too few.*Use 1281"),
        ("inception", "fd", 2048, 5000, "fid: 2048 real images are too few.*Use 2049"),
        ("lite0", "kid", 3, 9, "kid-lite0: 3 real images"),
        ("lite0", "density-coverage", 9, 5, "density-coverage-lite0: 5 generated"),
        ("inception", "inception-score", 0, 9, "inception-score: 9 generated"),
        ("lite0", "inception-score", 99, 99, "inception-score: is defined for inception only"),
    ],
)
def test_too_few_images_are_named_beforehand(
    extractor: ExtractorName, name: str, n_real: int, n_fake: int, message: str
):
    with pytest.raises(LapganError, match=message):
        check_counts(SCORES[name], extractor, real=n_real, fake=n_fake)


def test_enough_images_pass():
    for name in ("fd", "kid", "precision-recall"):
        check_counts(SCORES[name], "lite0", real=1281, fake=1281)
    check_counts(SCORES["inception-score"], "inception", real=0, fake=10)


def test_scores_check_their_features_themselves():
    with pytest.raises(LapganError, match="fd-lite0: 6 real images are too few"):
        frechet_distance(gaussian(6, 0), gaussian(30, 1))
    with pytest.raises(LapganError, match=r"6 features by lite0.*6 by inception"):
        kernel_distance(gaussian(9, 0), Features(gaussian(9, 1).values, "inception"))
    with pytest.raises(LapganError, match=r"6 features by lite0.*5 by lite0"):
        precision_recall(gaussian(9, 0), gaussian(9, 1, d=5))
    with pytest.raises(LapganError, match="without class scores"):
        inception_score.inception_score(Features(gaussian(50, 0).values, "inception"))


def jpeg(image: Tensor) -> Tensor:
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=25)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)


def some(features: Features) -> Features:
    return Features(features.values[:, :200])


@pytest.mark.data
def test_degraded_cifar10_falls_in_order():
    from torchvision.transforms.functional import gaussian_blur

    extractor, n = load_extractor(), 300
    train, test = (open_images("cifar10", split=split) for split in ("train", "test"))
    images = read_crops(test, range(n))
    real = extract_features(read_crops(train, range(n)), extractor)
    fakes = [
        real,
        *(
            extract_features(degraded, extractor)
            for degraded in (
                images,
                torch.stack([jpeg(image) for image in images]),
                gaussian_blur(images, [7, 7], [1.0, 1.0]),
                torch.randint_like(images, 0, 256),
            )
        ),
    ]
    # A covariance of all 1280 features needs minutes; benchmarks/distances.py takes them.
    fds = [frechet_distance(some(real), some(fake)).value for fake in fakes]
    kids = [kernel_distance(real, fake).value for fake in fakes]
    assert fds == sorted(fds)
    assert kids == sorted(kids)
    assert fds[0] == pytest.approx(0, abs=1e-3 * fds[1])
    assert abs(kids[1]) < 0.2 * kids[2]
    # Not precision: with so few real images the balls of outliers hold even noise.
    assert precision_recall(real, fakes[-1])["recall"].value < 0.01
