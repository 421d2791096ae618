import math

import numpy as np
import pytest
import torch

from lapgan.errors import LapganError
from lapgan.evaluation.features.extract import Features
from lapgan.evaluation.metrics.class_agreement import Labelled, class_agreement, class_scores
from lapgan.evaluation.metrics.kernel import kernel_distance


def clouds(n: int, seed: int, distance: float) -> Labelled:
    """Two normal clouds in 5 dimensions, `distance` apart along the first."""
    labels = torch.arange(n) % 2
    x = torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))
    x[:, 0] += distance * labels
    return Labelled(Features(x), labels)


def test_agreement_of_clouds_is_that_of_the_best_classifier():
    """Two unit normal clouds d apart are told apart with probability Phi(d / 2) at best."""
    agreement = class_agreement(clouds(4000, 0, 2.0), clouds(4000, 1, 2.0), clouds(4000, 2, 2.0))
    best = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    for estimate in (agreement.real, agreement.generated):
        assert abs(estimate.value - best) < 4 * estimate.error
        assert estimate.error == pytest.approx(math.sqrt(best * (1 - best) / 4000), rel=0.1)


def test_held_out_accuracy_is_no_ceiling():
    """Copies of training images exceed it, and so do images more typical than real ones."""
    x = torch.randn(240, 60, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(240) % 2
    x[:, 0] += 1.5 * labels
    every = Features(x)
    train, held_out = (Labelled(every[half], labels[half]) for half in torch.arange(240).split(120))
    copies = class_agreement(train, held_out, train)
    assert copies.generated == copies.training
    assert copies.generated.value > copies.real.value + 0.1
    typical = torch.zeros(240, 60)
    typical[:, 0] = 8.0 * (labels - 0.5) + 0.75
    best = class_agreement(train, held_out, Labelled(Features(typical), labels))
    assert best.generated.value == 1


def test_images_of_another_class_than_was_asked_for_do_not_agree():
    fake = clouds(200, 2, 50.0)
    wrong = fake.labels.clone()
    wrong[:60] = 1 - wrong[:60]
    agreement = class_agreement(
        clouds(400, 0, 50.0), clouds(400, 1, 50.0), Labelled(fake.features, wrong)
    )
    assert agreement.real.value == 1
    assert agreement.generated.value == 0.7
    assert agreement.generated.n == 200


def test_a_label_too_few_is_told():
    with pytest.raises(LapganError, match=r"expected one for each of 9 images, found \(8,\)"):
        Labelled(Features(torch.zeros(9, 2)), torch.zeros(8, dtype=torch.long))


def labelled_gaussians(n: int, seed: int, classes: int) -> Labelled:
    x = np.random.default_rng(seed).standard_normal((n, 6))
    return Labelled(Features(torch.from_numpy(x).float()), torch.arange(n) % classes)


def test_classes_are_compared_one_by_one():
    real, fake = labelled_gaussians(60, 0, 3), labelled_gaussians(60, 1, 3)
    fake.features.values[fake.labels == 2] += 2
    scores = class_scores(real, fake, ("cat", "dog", "ship"))
    assert list(scores) == ["cat", "dog", "ship"]
    assert list(scores["dog"].estimates) == ["kid", "fd"]
    alone = kernel_distance(real.features[real.labels == 1], fake.features[fake.labels == 1])
    assert scores["dog"].estimates["kid"] == alone
    assert (alone.n, scores["dog"].real_images) == (20, 20)
    kids = {name: of_class.estimates["kid"].value for name, of_class in scores.items()}
    assert kids["ship"] > 10 * abs(kids["cat"])


def test_small_classes_have_no_frechet_distance():
    real, fake = labelled_gaussians(12, 0, 2), labelled_gaussians(12, 1, 2)
    scores = class_scores(real, fake, ("cat", "dog"))
    assert list(scores["cat"].estimates) == ["kid"]
    with pytest.raises(LapganError, match=r"class ship: .* 0 generated images are too few"):
        class_scores(real, fake, ("cat", "dog", "ship"))
