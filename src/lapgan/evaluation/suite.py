"""Runs an evaluation: every metric of every model, with reference rows beside."""

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from lapgan.cascade import Cascade
from lapgan.evaluation.agreement import Labelled, class_agreement
from lapgan.evaluation.dependence import LevelDependence, measure_dependence
from lapgan.evaluation.distances import Distance, class_distances, measure
from lapgan.evaluation.entropy import EntropyConfig, measure_entropy
from lapgan.evaluation.estimate import Estimate
from lapgan.evaluation.features import Extractor, Features, extract_features, load_extractor
from lapgan.evaluation.features import real_features as features_of_real
from lapgan.evaluation.gaussian import GaussianFit
from lapgan.evaluation.kmeans import centroids
from lapgan.evaluation.measurement import Detail, Measurement
from lapgan.evaluation.multiscale_parzen import multiscale_parzen
from lapgan.evaluation.neighbors import (
    memorization,
    nearest_by_features,
    nearest_by_pixels,
    neighbors_picture,
)
from lapgan.evaluation.parzen import (
    LogLikelihood,
    parzen_log_likelihood,
    scale_of,
)
from lapgan.evaluation.plan import Plan
from lapgan.evaluation.real import RealImages
from lapgan.evaluation.subject import Subject
from lapgan.normalization import Normalization
from lapgan.pictures import encode_png, sheet
from lapgan.progress import working
from lapgan.sizes import Size, size_text

__all__ = ["CENTROIDS", "GAUSSIAN", "HELD_OUT", "TRAINING", "Evaluation", "Picture", "evaluate"]

TRAINING = "real training images"
HELD_OUT = "real held-out images"
CENTROIDS = "k-means centroids"
GAUSSIAN = "Gaussian fit"

_SHOWN = 64
_NEIGHBORS_SHOWN, _NEIGHBORS_EACH = 8, 4


@dataclass(frozen=True)
class Picture:
    """A sheet of images as PNG, with a line about it."""

    caption: str
    png: bytes = field(repr=False)


@dataclass(frozen=True)
class Evaluation:
    """All that was found.

    Args:
        measurements: in the order in which they were made.
        pictures: samples and neighbours.
        settings: of the plan, for the record.
        versions: of the programs.
    """

    measurements: list[Measurement]
    pictures: list[Picture]
    settings: dict[str, Any]
    versions: dict[str, str]


def evaluate(plan: Plan, tell: Callable[[Measurement], None] = lambda _: None) -> Evaluation:
    """Evaluates models.

    Args:
        plan: what, on how many images.
        tell: called with each measurement as it is made.

    Raises:
        LapganError: something is missing or does not fit; most of that before any work.
    """
    plan.check()
    extractors = [
        load_extractor(name, weights=plan.inception_weights)
        for name in (plan.extractors if plan.needs_features else ())
    ]
    measurements: list[Measurement] = []
    pictures: list[Picture] = []
    for item in _findings(plan, extractors):
        if isinstance(item, Picture):
            pictures.append(item)
        else:
            measurements.append(item)
            tell(item)
    return Evaluation(measurements, pictures, _settings(plan), _versions())


def _findings(plan: Plan, extractors: Sequence[Extractor]) -> Iterator[Measurement | Picture]:
    for size in dict.fromkeys(subject.size for subject in plan.subjects):
        subjects = [subject for subject in plan.subjects if subject.size == size]
        real = plan.real(subjects[0])
        window = _Window.of(plan, real) if "parzen" in plan.metrics else None
        yield from _references(plan, real, window, extractors)
        for subject in subjects:
            yield from _of_subject(plan, subject, real, window, extractors)


def _of_subject(
    plan: Plan,
    subject: Subject,
    real: RealImages,
    window: "_Window | None",
    extractors: Sequence[Extractor],
) -> Iterator[Measurement | Picture]:
    images = subject.images(plan.counts.samples if plan.needs_samples else _SHOWN, plan.seed)
    shown = torch.linspace(0, len(images) - 1, _SHOWN).long()
    yield Picture(f"{subject.name}: {_SHOWN} samples, seed {plan.seed}",
                  encode_png(sheet(images[shown]), zoom=2))  # fmt: skip
    if window is not None:
        yield window.measure(subject.name, window.scale.normalize(images).flatten(1))
    if "multiscale-parzen" in plan.metrics and subject.cascade is not None and subject.has_levels:
        yield from _multiscale(plan, real, subject.name, subject.cascade)
    for extractor in extractors:
        yield from _features_of(plan, subject, real, extractor, images)
    if "dependence" in plan.metrics and subject.cascade is not None and subject.has_levels:
        yield from _dependence(plan, real, subject.name, subject.cascade)
    if "entropy" in plan.metrics and subject.cascade is not None:
        yield from _entropies(plan, subject.name, subject.cascade)


def _references(
    plan: Plan, real: RealImages, window: "_Window | None", extractors: Sequence[Extractor]
) -> Iterator[Measurement]:
    if window is not None:
        yield from _parzen_references(plan, real, window)
    for extractor in extractors:
        if plan.scores and len(plan.held_out) >= plan.counts.samples:
            held_out = _held_out_features(plan, real, extractor)
            reference = _reference_features(plan, real, extractor)
            yield from _distances(plan, HELD_OUT, held_out, reference)


@dataclass(frozen=True, eq=False)
class _Window:
    """What every Parzen estimate at one size shares: the scale, and real images in it."""

    plan: Plan
    size: Size
    scale: Normalization
    test: Tensor
    validation: Tensor

    @classmethod
    def of(cls, plan: Plan, real: RealImages) -> "_Window":
        scale = scale_of(plan.scale, plan.training, real.size, corners=real.cropped)
        test = scale.normalize(real.test(plan.counts.test)).flatten(1)
        validation = scale.normalize(real.validation(plan.counts.validation)).flatten(1)
        return cls(plan, real.size, scale, test, validation)

    def measure(self, name: str, samples: Tensor, **details: Detail) -> Measurement:
        """Measures samples that are in the scale already, (m, d)."""
        found = parzen_log_likelihood(samples, self.test, self.validation)
        scale = self.plan.scale
        return _likelihood(self.plan, name, "parzen", found, self.size, scale=scale, **details)


def _parzen_references(plan: Plan, real: RealImages, window: _Window) -> Iterator[Measurement]:
    counts, normalize = plan.counts, window.scale.normalize
    yield window.measure(TRAINING, normalize(real.train(counts.samples)).flatten(1))
    fitted = normalize(real.train(counts.fit)).flatten(1)
    with working("k-means"):
        found = centroids(fitted, counts.centroids, plan.seed)
    yield window.measure(CENTROIDS, found)
    if len(fitted) > fitted.shape[1]:
        with working("Gaussian fit"):
            fit = GaussianFit.of(fitted)
            exact = fit.log_likelihood(window.test).mean()
            samples = fit.sample(counts.samples, plan.seed)
        yield window.measure(GAUSSIAN, samples, exact_log_likelihood=exact.item())


def _multiscale(plan: Plan, real: RealImages, name: str, cascade: Cascade) -> Iterator[Measurement]:
    counts, normalize = plan.counts, cascade.normalization.normalize
    classes = real.labels(counts.multiscale)
    fits = cascade.class_names == plan.training.class_names and classes is not None
    test_labels, validation_labels = classes if fits and classes is not None else (None, None)
    found = multiscale_parzen(
        cascade,
        normalize(real.test(counts.multiscale)),
        normalize(real.validation(counts.multiscale)),
        samples=counts.samples,
        draws=counts.draws,
        seed=plan.seed,
        labels=test_labels,
        validation_labels=validation_labels,
    )
    shape: dict[str, Detail] = {"scale": cascade.recipe.data.normalisation, "draws": counts.draws}
    yield _likelihood(plan, name, "multiscale-parzen", found.total, real.size, **shape)
    for size, level in zip(cascade.sizes, found.levels, strict=True):
        metric = f"multiscale-parzen level {size_text(size)}"
        yield _likelihood(plan, name, metric, level, size, **shape)


def _likelihood(
    plan: Plan, name: str, metric: str, found: LogLikelihood, size: Size, **details: Detail
) -> Measurement:
    shape: dict[str, Detail] = {
        "spread": found.spread,
        "sigma": found.width.sigma,
        "sigma_on_edge": found.width.on_edge,
        "dimension": found.dimension,
        "test_images": len(found.values),
        "validation_images": found.validation,
        "size": size_text(size),
    }
    return Measurement(name, metric, found.mean, found.error, found.samples, plan.seed,
                       "nats an image", None, shape | details)  # fmt: skip


def _features_of(
    plan: Plan, subject: Subject, real: RealImages, extractor: Extractor, images: Tensor
) -> Iterator[Measurement | Picture]:
    fake = extract_features(images, extractor, subject.name)
    reference = _reference_features(plan, real, extractor)
    yield from _distances(plan, subject.name, fake, reference)
    if "classes" in plan.metrics:
        yield from _by_class(plan, subject, real, extractor, fake, reference)
    if "neighbours" in plan.metrics:
        yield from _neighbors(plan, subject.name, real, extractor, images, fake)


def _distances(plan: Plan, name: str, fake: Features, reference: Features) -> Iterator[Measurement]:
    scores = [s for s in plan.scores if s != "inception-score" or fake.logits is not None]
    for score in scores:
        with working(f"{score} of {name}"):
            found = measure(reference, fake, [score], plan.seed)
        yield from (_distance(name, one) for one in found)


def _by_class(
    plan: Plan,
    subject: Subject,
    real: RealImages,
    extractor: Extractor,
    fake: Features,
    reference: Features,
) -> Iterator[Measurement]:
    asked, known = subject.labels(len(fake)), plan.training.labels
    names = plan.training.class_names
    if asked is None or known is None or subject.cascade is None:
        return
    if subject.cascade.class_names != names:
        return
    labels = torch.from_numpy(known[: len(reference)].copy())
    for label, found in class_distances(reference, fake, labels, asked, names, plan.seed).items():
        yield from (_distance(subject.name, one, f" of class {label}") for one in found)
    held_out = _held_out_features(plan, real, extractor)
    classes = real.labels(len(held_out))
    if classes is not None:
        yield _agreement(
            plan,
            subject.name,
            Labelled(reference, labels),
            Labelled(held_out, classes[0]),
            Labelled(fake, asked),
        )


def _agreement(
    plan: Plan, name: str, train: Labelled, held_out: Labelled, fake: Labelled
) -> Measurement:
    with working(f"class agreement of {name}"):
        found = class_agreement(train, held_out, fake)
    details: dict[str, Detail] = {
        "accuracy_on_held_out": found.real.value,
        "training_images": len(train.labels),
    }
    return Measurement(name, f"class agreement by {fake.features.extractor}",
                       found.generated.value, found.generated.standard_error, found.generated.n,
                       plan.seed, "", fake.features.extractor, details)  # fmt: skip


def _distance(name: str, found: Distance, suffix: str = "") -> Measurement:
    details: dict[str, Detail] = {"error_is": found.error_is, "real_images": found.n_real}
    return Measurement(name, found.name + suffix, found.value, found.error, found.n_fake,
                       found.seed, "", found.extractor, details)  # fmt: skip


def _neighbors(
    plan: Plan, name: str, real: RealImages, extractor: Extractor, images: Tensor, fake: Features
) -> Iterator[Measurement | Picture]:
    """Compares with the training images whose features are at hand; pixels with more of them."""
    reference = _reference_features(plan, real, extractor)
    training, searched = real.train(len(reference)), real.train(plan.counts.searched)
    judged = torch.linspace(0, len(images) - 1, plan.counts.judged).long()
    held_out = real.test(plan.counts.judged)
    by_pixels = nearest_by_pixels(images[judged], searched, _NEIGHBORS_EACH)
    by_features = nearest_by_features(fake[judged], reference, _NEIGHBORS_EACH)
    told = [
        memorization(by_pixels, nearest_by_pixels(held_out, searched, 1)),
        memorization(
            by_features,
            nearest_by_features(_held_out_features(plan, real, extractor), reference, 1),
        ),
    ]
    for found in told:
        details: dict[str, Detail] = {
            "copies": found.copies,
            "training_images": found.n_train,
            "held_out_images": found.n_held_out,
        }
        yield Measurement(name, f"nearest-neighbour ratio by {found.space}", found.ratio, None,
                          found.n_fake, plan.seed, "", None, details)  # fmt: skip
    rows = torch.linspace(0, len(judged) - 1, _NEIGHBORS_SHOWN).long()
    picture = neighbors_picture(
        images[judged[rows]],
        searched[by_pixels.indices[rows]],
        training[by_features.indices[rows]],
    )
    yield Picture(
        f"{name}: generated images (left), their nearest training images by pixels (middle) and "
        f"by {extractor.name} features (right)",
        encode_png(picture, zoom=2),
    )


def _dependence(plan: Plan, real: RealImages, name: str, cascade: Cascade) -> Iterator[Measurement]:
    counts = plan.counts
    held_out = real.test(len(plan.held_out))
    for level in measure_dependence(cascade, held_out, counts.pairs, counts.critic, plan.seed):
        yield from _level_dependence(plan, name, level)


def _level_dependence(plan: Plan, name: str, level: LevelDependence) -> Iterator[Measurement]:
    at = f"at {size_text(level.size)}"
    for subject, tie in ((name, level.generated), (HELD_OUT, level.real)):
        figures = [
            ("distance to the level below", tie.fidelity.own, "grey levels"),
            ("distance to another level below", tie.fidelity.shuffled, "grey levels"),
            (
                "distance that a residual of zero would have",
                tie.fidelity.interpolated,
                "grey levels",
            ),
            ("distance ratio", tie.fidelity.ratio, ""),
            ("critic's accuracy on whole images", tie.information.accuracy, ""),
            ("information in whole images", tie.information.mutual_information, "bits"),
            ("critic's accuracy on patches", tie.local.accuracy, ""),
            ("information in patches", tie.local.mutual_information, "bits"),
        ]
        for what, found, unit in figures:
            yield _estimate(plan, subject, f"{what} {at}", found, unit, beside=name)
    diversity = level.diversity
    for subject, what, found, unit in (
        (name, "deviation of the residual", diversity.overall, "grey levels"),
        (HELD_OUT, "deviation of the residual", diversity.real, "grey levels"),
        (name, "its deviation given the level below", diversity.given_low, "grey levels"),
        (name, "share of noise in the residual", diversity.share, ""),
    ):
        yield _estimate(plan, subject, f"{what} {at}", found, unit, beside=name)


def _entropies(plan: Plan, name: str, cascade: Cascade) -> Iterator[Measurement]:
    """Bounds what the data need of each level, beside what the model's noise has."""
    settings = EntropyConfig.of_recipe(
        cascade.recipe, plan.counts.entropy_minutes, plan.counts.coded, plan.seed
    )
    for level in measure_entropy(plan.training, plan.held_out, settings).levels:
        details: dict[str, Detail] = {
            "beside": name,
            "learned": level.learned,
            "coder": level.coder,
            "coder_bits": level.standard,
            "minutes": level.minutes,
        }
        yield Measurement(HELD_OUT, f"entropy {level.name}", level.bits, level.standard_error,
                          level.n, plan.seed, "bits a pixel, at most", None, details)  # fmt: skip
        for metric, value, unit in (
            (f"noise at {size_text(level.size)}", level.noise, "bits a pixel"),
            (f"unused noise at {size_text(level.size)}", level.unused, "share, at least"),
        ):
            if value is not None:
                yield Measurement(name, metric, value, None, level.n, plan.seed, unit, None,
                                  {"beside": name})  # fmt: skip


def _estimate(
    plan: Plan, name: str, metric: str, found: Estimate, unit: str, **details: Detail
) -> Measurement:
    return Measurement(name, metric, found.value, found.standard_error, found.n, plan.seed, unit,
                       None, details)  # fmt: skip


def _reference_features(plan: Plan, real: RealImages, extractor: Extractor) -> Features:
    """Returns features of the training images that stand for the distribution, from the cache."""
    return features_of_real(plan.training, range(plan.counts.samples), extractor, size=real.size)


def _held_out_features(plan: Plan, real: RealImages, extractor: Extractor) -> Features:
    """Returns features of as many held-out images as are generated, or all there are."""
    n = min(plan.counts.samples, len(plan.held_out))
    return features_of_real(plan.held_out, range(n), extractor, size=real.size)


def _settings(plan: Plan) -> dict[str, Any]:
    return {
        "models": [subject.name for subject in plan.subjects],
        "training_data": plan.training.name,
        "training_fingerprint": plan.training.fingerprint,
        "held_out_fingerprint": plan.held_out.fingerprint,
        "metrics": list(plan.metrics),
        "counts": asdict(plan.counts),
        "scale": plan.scale,
        "extractors": list(plan.extractors),
        "seed": plan.seed,
    }


def _versions() -> dict[str, str]:
    packages = ("lapgan", "torch", "torchvision", "torch-fidelity", "scikit-learn", "numpy")
    return {name: _version(name) for name in packages} | {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
