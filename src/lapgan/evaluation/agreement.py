"""Whether generated images show the class that they were asked for, as a classifier sees it."""

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from lapgan.evaluation.estimate import Estimate, mean_estimate
from lapgan.evaluation.features import Features, check_labels

__all__ = ["Agreement", "Labelled", "class_agreement"]


@dataclass(frozen=True)
class Labelled:
    """Features of images (n, d) and the class of each (n,)."""

    features: Features
    labels: Int64[Tensor, " n"]

    def __post_init__(self) -> None:
        check_labels("labels", self.features, self.labels)


@dataclass(frozen=True)
class Agreement:
    """How often a classifier finds the class that is meant.

    Args:
        generated: share of generated images that show the class they were asked for.
        real: share of held-out real images that are classified right: what a perfect generator
            would reach.
    """

    generated: Estimate
    real: Estimate


def class_agreement(train: Labelled, held_out: Labelled, fake: Labelled) -> Agreement:
    """Trains a classifier on real images and asks it for the class of generated ones.

        agreement = mean [argmax_c p(c | x~) = c asked]

    The classifier is a logistic regression on the features of an extractor, standardised.

    Args:
        train: real images that the classifier is trained on.
        held_out: real images that it has not seen.
        fake: generated images with the classes that were asked for.

    Raises:
        LapganError: labels do not fit the features.

    Source: Shmelkov et al. (2018), "How good is my GAN?", section 3: GAN-test.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=300))
    classifier.fit(train.features.values.numpy(), train.labels.numpy())

    def accuracy(asked: Labelled) -> Estimate:
        found = torch.from_numpy(classifier.predict(asked.features.values.numpy()))
        return mean_estimate(found == asked.labels)

    return Agreement(generated=accuracy(fake), real=accuracy(held_out))
