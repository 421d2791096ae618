from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from lapgan.cascade import BLOCK, Cascade, Level
from lapgan.compute import choose_compute
from lapgan.errors import LapganError
from lapgan.noise import PlaneNoise_, VectorNoise_
from lapgan.normalization import symmetric_normalization
from lapgan.recipe import ClassifierRecipe, Recipe
from lapgan.selection import Selector, Step, best


class Flat(nn.Module):
    """A coarsest generator of grey images, as bright as one of its numbers."""

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        return z[:, :1, None, None].expand(-1, 3, 6, 8)


class Grain(nn.Module):
    """A finer generator whose residual is its noise."""

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        return 0.1 * z.expand(-1, 3, -1, -1)


class Brightness(nn.Module):
    """A stand-in for a classifier: class 0 is as likely as an image is bright, class 1 dark."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack((mean, -mean), dim=1)


def choosing(recipe: Recipe, level: str = "6x8") -> Cascade:
    levels = [Level((12, 12), PlaneNoise_(), Grain()), Level((6, 8), VectorNoise_(5), Flat())]
    selector = Selector(ClassifierRecipe(level=level), Brightness())
    return Cascade(
        recipe, levels, symmetric_normalization((12, 12)), ("bright", "dark"), selector=selector
    )


def coarse(steps: Iterator[list[Step]]) -> Tensor:
    return torch.cat([pairs[0][1] for pairs in steps])


@pytest.mark.parametrize(("candidates", "expected"), [(1, 0.0), (2, 1 / 3), (4, 3 / 5)])
def test_the_best_of_uniform_numbers_is_as_large_as_their_order_statistics(
    tiny_with_classes: Recipe, candidates: int, expected: float
):
    # The greatest of K numbers from [-1, 1] is (K - 1) / (K + 1) on average.
    n = 4000
    cascade = choosing(tiny_with_classes).best_of(candidates)
    value = coarse(cascade.steps(n, labels=[0] * n)).mean(dim=(1, 2, 3))
    assert value.mean().item() == pytest.approx(expected, abs=0.04)
    dark = coarse(cascade.steps(n, labels=[1] * n)).mean(dim=(1, 2, 3))
    assert dark.mean().item() == pytest.approx(-expected, abs=0.04)


def test_more_candidates_are_never_worse_and_the_first_is_the_plain_sample(
    tiny_with_classes: Recipe,
):
    cascade = choosing(tiny_with_classes)
    found = [
        coarse(cascade.best_of(k).steps(BLOCK + 5, seed=3, labels=[0] * (BLOCK + 5)))
        for k in (1, 2, 8)
    ]
    plain = coarse(cascade.steps(BLOCK + 5, seed=3, labels=[0] * (BLOCK + 5)))
    assert torch.equal(found[0], plain)
    brightness = [x.mean(dim=(1, 2, 3)) for x in found]
    assert (brightness[1] >= brightness[0]).all()
    assert (brightness[2] >= brightness[1]).all()
    kept = brightness[1] == brightness[0]
    # Of two candidates each is the better one half of the time.
    assert 0.2 < kept.float().mean() < 0.8
    assert torch.equal(found[1][kept], plain[kept])


def test_finer_levels_refine_what_was_chosen(tiny_with_classes: Recipe):
    cascade = choosing(tiny_with_classes)
    labels = [0] * 7
    (plain,) = cascade.steps(7, labels=labels)
    (chosen,) = cascade.best_of(4).steps(7, labels=labels)
    grain = [image - low for low, image in (plain[1], chosen[1]) if low is not None]
    assert torch.allclose(grain[0], grain[1], atol=1e-6)
    *_, finest = cascade.best_of(4).chain(7, labels=labels)
    assert torch.equal(finest.image, cascade.best_of(4).sample(7, labels=labels))


def test_steps_that_stop_early_are_those_of_the_chosen_images(tiny_with_classes: Recipe):
    cascade = choosing(tiny_with_classes, level="12").best_of(3)
    (whole,), (short,) = cascade.steps(7), cascade.steps(7, finest=1)
    assert len(short) == 1
    assert torch.equal(short[0][1], whole[0][1])


def test_the_finest_level_can_be_judged_for_a_given_coarse_image(tiny_with_classes: Recipe):
    cascade = choosing(tiny_with_classes, level="12")
    images = torch.full((50, 3, 6, 8), 128, dtype=torch.uint8)
    plain = cascade.refine(images, labels=[0] * 50).float().mean()
    assert cascade.best_of(8).refine(images, labels=[0] * 50).float().mean() > plain
    with pytest.raises(LapganError, match="6x8, and the classifier chooses among images of 6x8"):
        choosing(tiny_with_classes).best_of(2).refine(images, labels=[0] * 50)


def test_threads_and_counts_change_nothing(tiny_with_classes: Recipe):
    cascade = choosing(tiny_with_classes).best_of(3)
    expected = cascade.sample(3 * BLOCK, labels=[0] * (3 * BLOCK))
    assert torch.equal(cascade.sample(5, labels=[0] * 5), expected[:5])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(cascade.sample(3 * BLOCK, labels=[0] * (3 * BLOCK)), expected)
    finally:
        torch.set_num_threads(before)


def test_best_is_the_first_of_the_highest():
    images = torch.randn(5, 6, 3, 2, 2)
    scores = torch.randint(0, 3, (5, 6)).float()
    blocks = [([(None, x), (x + 1, x + 2)], s) for x, s in zip(images, scores, strict=True)]
    expected = images[scores.argmax(dim=0), torch.arange(6)]
    (low, coarse), (finer, image) = best(blocks)
    assert low is None
    assert finer is not None
    assert torch.equal(coarse, expected)
    assert torch.equal(finer, expected + 1)
    assert torch.equal(image, expected + 2)


def test_scores_are_those_of_the_class_that_was_asked_for():
    selector = Selector(ClassifierRecipe(level="6x8"), Brightness())
    images = torch.tensor([1.0, 2.0, 3.0])[:, None, None, None].expand(-1, 3, 6, 8)
    found = selector.scores(images, torch.tensor([0, 1, 0]), choose_compute("cpu"))
    assert found.tolist() == [1.0, -2.0, 3.0]


def test_what_cannot_be_chosen_is_explained(cascade: Cascade, cascade_with_classes: Cascade):
    with pytest.raises(LapganError, match="best of 0: expected 1 candidate or more"):
        cascade.best_of(0)
    with pytest.raises(LapganError, match="trained without classes"):
        cascade.best_of(2)
    with pytest.raises(LapganError, match="train one with `lapgan classifier RUN`"):
        cascade_with_classes.best_of(2)
    assert torch.equal(cascade.best_of(1).sample(2), cascade.sample(2))
