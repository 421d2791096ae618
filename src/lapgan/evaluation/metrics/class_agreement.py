"""Scores of each class, and whether generated images show the class that they are meant to show."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from lapgan.errors import LapganError
from lapgan.evaluation.context import Context, EvaluatedModel
from lapgan.evaluation.features.extract import Extractor, Features, check_labels
from lapgan.evaluation.measurement import Detail, Estimate, Measurement, estimate_mean
from lapgan.evaluation.metrics import frechet, kernel
from lapgan.evaluation.metrics.base import Metric
from lapgan.evaluation.metrics.feature_scores import check_counts, report_scores
from lapgan.evaluation.sections import (
    COUNT_COLUMN,
    ERROR_COLUMN,
    VALUE_COLUMN,
    Column,
    ReportSection,
    format_number,
    tabulate_by_metric,
)
from lapgan.progress import working

__all__ = ["METRIC", "Agreement", "ClassScores", "Labelled", "class_agreement", "class_scores"]

# Details of a measured agreement.
_ON_HELD_OUT, _ON_TRAINING = "accuracy_on_held_out", "accuracy_on_training_images"


@dataclass(frozen=True)
class Labelled:
    """Features of images (n, d) and the class of each (n,)."""

    features: Features
    labels: Int64[Tensor, " n"]

    def __post_init__(self) -> None:
        check_labels("labels", self.features, self.labels)


@dataclass(frozen=True)
class Agreement:
    """How often a classifier agrees with the labels.

    Args:
        generated: the fraction of generated images that are classified as their label.
        real: the fraction of held-out real images that are classified correctly: what images drawn
            from the classes' own distributions would reach. It is no limit: images more typical of
            their class than real ones exceed it.
        training: the same of the images that the classifier was trained on: what copies of training
            images would reach.
    """

    generated: Estimate
    real: Estimate
    training: Estimate


def class_agreement(train: Labelled, held_out: Labelled, fake: Labelled) -> Agreement:
    """Trains a classifier on real images and applies it to generated ones.

        agreement = mean [argmax_c p(c | x~) = label]

    The classifier is a logistic regression on the standardised features of an extractor.

    Args:
        train: real images that the classifier is trained on.
        held_out: real images that it is not trained on.
        fake: generated images with the labels that they were generated for.

    Raises:
        LapganError: labels do not fit the features.

    References:
        Shmelkov et al. (2018), "How good is my GAN?", section 3: GAN-test.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=300))
    classifier.fit(train.features.values.numpy(), train.labels.numpy())

    def accuracy(images: Labelled) -> Estimate:
        classes = torch.from_numpy(classifier.predict(images.features.values.numpy()))
        return estimate_mean(classes == images.labels)

    return Agreement(accuracy(fake), accuracy(held_out), accuracy(train))


@dataclass(frozen=True)
class ClassScores:
    """The scores of one class.

    Args:
        estimates: by the name of each score without the net.
        real_images: the number of real images of the class.
    """

    estimates: dict[str, Estimate]
    real_images: int


def class_scores(
    real: Labelled, fake: Labelled, class_names: Sequence[str], seed: int = 0
) -> dict[str, ClassScores]:
    """Computes the kernel distance of each class, and the Frechet distance where n permits.

    Args:
        real: real images.
        fake: generated images, with features by the same net.
        class_names: the name of each label.
        seed: decides on groups and subsets.

    Returns:
        the scores by the class's name, in the order of the classes.

    Raises:
        LapganError: a class has fewer than four images.
    """
    scores = {}
    for index, name in enumerate(class_names):
        pair = real.features[real.labels == index], fake.features[fake.labels == index]
        try:
            scores[name] = ClassScores(_score_class(*pair, seed), len(pair[0]))
        except LapganError as error:
            raise LapganError(f"class {name}: {error}") from error
    return scores


def _score_class(real: Features, fake: Features, seed: int) -> dict[str, Estimate]:
    estimates = kernel.SCORE.compute(real, fake, seed)
    least, _ = frechet.SCORE.minimum(real.values.shape[1])
    if min(len(real), len(fake)) >= least:
        estimates |= frechet.SCORE.compute(real, fake, seed)
    return estimates


def _choose_labels(context: Context, model: EvaluatedModel) -> Tensor | None:
    """Returns the labels of a model's images, or None unless it has the data's classes."""
    if model.cascade is None or model.cascade.class_names != context.training.class_names:
        return None
    return model.labels(context.counts.samples)


def _check(context: Context) -> None:
    n = context.counts.samples
    for model in context.models:
        labels, real = _choose_labels(context, model), context.training.labels
        if labels is None or real is None:
            continue
        for index, name in enumerate(context.training.class_names):
            counts = int((real[:n] == index).sum()), int((labels == index).sum())
            try:
                for extractor in context.extractor_names:
                    check_counts(kernel.SCORE, extractor, real=counts[0], fake=counts[1])
            except LapganError as error:
                raise LapganError(f"class {name}: {error}") from error


def _measure(context: Context, model: EvaluatedModel) -> Iterator[Measurement]:
    labels = _choose_labels(context, model)
    if labels is None:
        return
    for extractor in context.extractors:
        fake = Labelled(context.features(model, extractor), labels)
        real = _label_training_images(context, model, extractor)
        yield from _report_classes(context, model, real, fake)
        held_out = _label_held_out_images(context, model, extractor)
        if held_out is not None:
            with working(f"class agreement of {model.name}"):
                agreement = class_agreement(real, held_out, fake)
            yield _report_agreement(context, model, real, agreement)


def _label_training_images(
    context: Context, model: EvaluatedModel, extractor: Extractor
) -> Labelled:
    features = context.training_features(model.size, extractor)
    assert context.training.labels is not None
    return Labelled(features, torch.from_numpy(context.training.labels[: len(features)].copy()))


def _label_held_out_images(
    context: Context, model: EvaluatedModel, extractor: Extractor
) -> Labelled | None:
    if not len(context.held_out):
        return None
    features = context.held_out_features(model.size, extractor)
    labels = context.real(model.size).labels(len(features))
    return None if labels is None else Labelled(features, labels[0])


def _report_classes(
    context: Context, model: EvaluatedModel, real: Labelled, fake: Labelled
) -> Iterator[Measurement]:
    scores = class_scores(real, fake, context.training.class_names, context.seed)
    for name, of_class in scores.items():
        yield from report_scores(
            of_class.estimates,
            subject=model.name,
            extractor=fake.features.extractor,
            real_images=of_class.real_images,
            seed=context.seed,
            section=SECTION.name,
            suffix=f" of class {name}",
        )


def _report_agreement(
    context: Context, model: EvaluatedModel, train: Labelled, agreement: Agreement
) -> Measurement:
    extractor = train.features.extractor
    details: dict[str, Detail] = {
        _ON_HELD_OUT: agreement.real.value,
        _ON_TRAINING: agreement.training.value,
        "training_images": len(train.labels),
    }
    return agreement.generated.report(
        subject=model.name,
        metric=f"class agreement by {extractor}",
        section=SECTION.name,
        seed=context.seed,
        extractor=extractor,
        details=details,
    )


def _show_detail(name: str) -> Callable[[Measurement], str]:
    def show(m: Measurement) -> str:
        value = m.details.get(name)
        return "" if value is None else format_number(float(value))

    return show


SECTION = ReportSection(
    name="classes",
    title="By class",
    introduction=(
        "The scores of each class alone, and the class agreement: the fraction of generated images "
        "that a classifier of real images assigns to the class they were generated for. Beside it "
        "stands the classifier's accuracy on real images, held out and trained on. Neither is a "
        "limit: a model that copies training images reaches the latter, and images more typical of "
        "their class than photographs exceed both. So a high value is no proof of good images; "
        "read it with the distances, with recall and coverage."
    ),
    tabulate=tabulate_by_metric(
        Column("model", lambda m: m.subject, left=True),
        VALUE_COLUMN,
        ERROR_COLUMN,
        Column("real held-out", _show_detail(_ON_HELD_OUT)),
        Column("real training", _show_detail(_ON_TRAINING)),
        COUNT_COLUMN,
    ),
)
METRIC = Metric("classes", SECTION, _measure, check=_check, needs="features")
