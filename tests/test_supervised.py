import math

import cv2
import numpy as np
import pytest
import torch

from lapgan.errors import LapganError
from lapgan.recipe import check_recipe, read_recipe
from lapgan.supervised import Supervised, residual_deviations


@pytest.mark.parametrize(
    ("schedule", "weights"),
    [
        ("constant", [2.0, 2.0, 2.0, 2.0]),
        ("linear", [2.0, 1.75, 1.5, 1.0]),
        # (1 + cos(pi / 4)) / 2 of the way back from the end at a quarter.
        ("cosine", [2.0, 1 + (1 + math.cos(math.pi / 4)) / 2, 1.5, 1.0]),
    ],
)
def test_the_weight_goes_from_the_first_to_the_last(schedule: str, weights: list[float]):
    final = 0.0 if schedule == "constant" else 1.0
    term = Supervised(weight=2.0, schedule=schedule, final=final)
    assert [term.weight_at(p) for p in (0, 0.25, 0.5, 1)] == pytest.approx(weights)
    # A budget may be overdrawn by one step.
    assert term.weight_at(1.01) == term.weight_at(1)


def test_the_distance_of_pyramids_is_that_of_opencv():
    random = np.random.default_rng(0)
    high, other = random.normal(size=(2, 1, 3, 16, 16)).astype(np.float32)
    expected, image = 0.0, (high - other)[0].transpose(1, 2, 0)
    for _ in range(2):
        coarse = cv2.pyrDown(image)
        expected += float(np.abs(image - cv2.pyrUp(coarse, dstsize=image.shape[1::-1])).mean())
        image = coarse
    expected += float(np.abs(image).mean())
    maps = residual_deviations("pyramid", torch.from_numpy(high), torch.from_numpy(other))
    assert [x.shape[-1] for x in maps] == [16, 8, 4]
    assert sum(x.mean().item() for x in maps) == pytest.approx(expected, rel=1e-5)


def test_l1_and_l2_are_means_over_all_values():
    high, other = (
        torch.tensor([1.0, 5.0]).view(1, 2, 1, 1),
        torch.tensor([2.0, 3.0]).view(1, 2, 1, 1),
    )
    (l1,) = residual_deviations("l1", high, other)
    (l2,) = residual_deviations("l2", high, other)
    assert (l1.mean(), l2.mean()) == (1.5, 2.5)


def test_a_weight_alone_is_a_table_with_that_weight_and_is_written_as_it_was():
    number = read_recipe("paper-cifar10", ["levels.28.supervised=3"])
    table = read_recipe("paper-cifar10", ["levels.28.supervised.weight=3"])
    assert number == table
    content = number.model_dump(mode="json")
    assert [level["supervised"] for level in content["levels"].values()] == [3.0, 0.0, 0.0]
    changes = ["levels.14.supervised.weight=3", "levels.14.supervised.best_of=4"]
    other = read_recipe("paper-cifar10", changes)
    assert check_recipe(other.model_dump(mode="json"), "again") == other


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["distance=l3"], r"supervised\.distance: .*'pyramid' or 'features', found 'l3'"),
        (["weight=1", "final=2"], r"final = 2 needs schedule = 'linear' or 'cosine'"),
        (["best_of=0"], r"supervised\.best_of: .*greater than 0"),
    ],
)
def test_a_term_that_makes_no_sense_is_refused(changes: list[str], message: str):
    with pytest.raises(LapganError, match=message):
        read_recipe("paper-cifar10", [f"levels.28.supervised.{change}" for change in changes])


def test_the_coarsest_level_takes_the_best_of_several_only():
    changes = ["levels.8.supervised.weight=1", "levels.8.supervised.best_of=2"]
    assert read_recipe("paper-cifar10", changes).level("8").supervised.best_of == 2
    with pytest.raises(LapganError, match=r"levels\.8\.supervised: .*best_of to 2 or more"):
        read_recipe("paper-cifar10", changes[:1])
