import math

import pytest
import torch

from lapgan.errors import LapganError
from lapgan.evaluation.agreement import Labelled, class_agreement
from lapgan.evaluation.features import Features


def clouds(n: int, seed: int, distance: float) -> Labelled:
    """Two normal clouds in 5 dimensions, `distance` apart along the first."""
    labels = torch.arange(n) % 2
    x = torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))
    x[:, 0] += distance * labels
    return Labelled(Features(x), labels)


def test_agreement_of_clouds_is_that_of_the_best_classifier():
    """Two unit normal clouds d apart are told apart with probability Phi(d / 2) at best."""
    found = class_agreement(clouds(4000, 0, 2.0), clouds(4000, 1, 2.0), clouds(4000, 2, 2.0))
    best = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    for estimate in (found.real, found.generated):
        assert abs(estimate.value - best) < 4 * estimate.standard_error
        assert estimate.standard_error == pytest.approx(
            math.sqrt(best * (1 - best) / 4000), rel=0.1
        )


def test_images_of_another_class_than_was_asked_for_do_not_agree():
    fake = clouds(200, 2, 50.0)
    wrong = fake.labels.clone()
    wrong[:60] = 1 - wrong[:60]
    found = class_agreement(
        clouds(400, 0, 50.0), clouds(400, 1, 50.0), Labelled(fake.features, wrong)
    )
    assert found.real.value == 1
    assert found.generated.value == 0.7
    assert found.generated.n == 200


def test_a_label_too_few_is_told():
    with pytest.raises(LapganError, match=r"expected one for each of 9 images, found \(8,\)"):
        Labelled(Features(torch.zeros(9, 2)), torch.zeros(8, dtype=torch.long))
