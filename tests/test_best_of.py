from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from lapgan.cascade import Cascade, Level
from lapgan.cascade.best_of import Candidate, ClassifierGuide, keep_best
from lapgan.cascade.blocks import BLOCK
from lapgan.cascade.sampler import BlockKey, BlockSampler
from lapgan.compute import choose_compute
from lapgan.errors import LapganError
from lapgan.models.classifier import ClassifierSection
from lapgan.noise import PlaneNoise, VectorNoise
from lapgan.normalization import symmetric_normalization
from lapgan.pyramid import Stage
from lapgan.recipe import Recipe


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


def guided(recipe: Recipe, level: str = "6x8") -> Cascade:
    levels = [
        Level((12, 12), PlaneNoise(), Grain()),
        Level((6, 8), VectorNoise(dimension=5), Flat()),
    ]
    guide = ClassifierGuide(ClassifierSection(level=level), Brightness())
    return Cascade(
        recipe, levels, symmetric_normalization((12, 12)), ("bright", "dark"), guide=guide
    )


def coarsest(blocks: Iterator[list[Stage]]) -> Tensor:
    return torch.cat([stages[0].image for stages in blocks])


@pytest.mark.parametrize(("candidates", "expected"), [(1, 0.0), (2, 1 / 3), (4, 3 / 5)])
def test_the_best_of_uniform_numbers_is_as_large_as_their_order_statistics(
    tiny_with_classes: Recipe, candidates: int, expected: float
):
    # The greatest of K numbers from [-1, 1] is (K - 1) / (K + 1) on average.
    n = 4000
    cascade = guided(tiny_with_classes).best_of(candidates)
    value = coarsest(cascade.stages(n, labels=[0] * n)).mean(dim=(1, 2, 3))
    assert value.mean().item() == pytest.approx(expected, abs=0.04)
    dark = coarsest(cascade.stages(n, labels=[1] * n)).mean(dim=(1, 2, 3))
    assert dark.mean().item() == pytest.approx(-expected, abs=0.04)


def test_more_candidates_are_never_worse_and_the_first_is_the_plain_sample(
    tiny_with_classes: Recipe,
):
    cascade = guided(tiny_with_classes)
    images = [
        coarsest(cascade.best_of(k).stages(BLOCK + 5, seed=3, labels=[0] * (BLOCK + 5)))
        for k in (1, 2, 8)
    ]
    plain = coarsest(cascade.stages(BLOCK + 5, seed=3, labels=[0] * (BLOCK + 5)))
    assert torch.equal(images[0], plain)
    brightness = [x.mean(dim=(1, 2, 3)) for x in images]
    assert (brightness[1] >= brightness[0]).all()
    assert (brightness[2] >= brightness[1]).all()
    unchanged = brightness[1] == brightness[0]
    # Of two candidates each is the better one half of the time.
    assert 0.2 < unchanged.float().mean() < 0.8
    assert torch.equal(images[1][unchanged], plain[unchanged])


def test_finer_levels_refine_what_was_chosen(tiny_with_classes: Recipe):
    cascade = guided(tiny_with_classes)
    labels = [0] * 7
    (plain,) = cascade.stages(7, labels=labels)
    (chosen,) = cascade.best_of(4).stages(7, labels=labels)
    assert torch.equal(chosen[1].high, plain[1].high)
    assert not torch.equal(chosen[0].image, plain[0].image)
    *_, finest = cascade.best_of(4).chain(7, labels=labels)
    assert torch.equal(finest.image, cascade.best_of(4).sample(7, labels=labels))


def test_stages_that_stop_early_are_those_of_the_chosen_images(tiny_with_classes: Recipe):
    cascade = guided(tiny_with_classes, level="12").best_of(3)
    (whole,), (short,) = cascade.stages(7), cascade.stages(7, finest=1)
    assert len(short) == 1
    assert torch.equal(short[0].image, whole[0].image)


def test_images_of_the_finest_level_are_scored_where_the_coarse_image_is_given(
    tiny_with_classes: Recipe,
):
    cascade = guided(tiny_with_classes, level="12")
    images = torch.full((50, 3, 6, 8), 128, dtype=torch.uint8)
    plain = cascade.sample(50, labels=[0] * 50, start=images).float().mean()
    assert cascade.best_of(8).sample(50, labels=[0] * 50, start=images).float().mean() > plain
    with pytest.raises(LapganError, match="6x8, and the classifier chooses among images of 6x8"):
        guided(tiny_with_classes).best_of(2).sample(50, labels=[0] * 50, start=images)


def test_threads_and_counts_change_nothing(tiny_with_classes: Recipe):
    cascade = guided(tiny_with_classes).best_of(3)
    expected = cascade.sample(3 * BLOCK, labels=[0] * (3 * BLOCK))
    assert torch.equal(cascade.sample(5, labels=[0] * 5), expected[:5])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(cascade.sample(3 * BLOCK, labels=[0] * (3 * BLOCK)), expected)
    finally:
        torch.set_num_threads(before)


def test_the_first_of_the_highest_scores_is_kept():
    images = torch.randn(5, 6, 3, 2, 2)
    scores = torch.randint(0, 3, (5, 6)).float()
    blocks: list[Candidate] = [
        ([Stage(None, x, x), Stage(x + 1, x + 2, x + 3)], s)
        for x, s in zip(images, scores, strict=True)
    ]
    expected = images[scores.argmax(dim=0), torch.arange(6)]
    coarse, fine = keep_best(blocks)
    assert coarse.low is None
    assert fine.low is not None
    assert torch.equal(coarse.image, expected)
    assert torch.equal(coarse.high, expected)
    assert torch.equal(fine.low, expected + 1)
    assert torch.equal(fine.high, expected + 2)
    assert torch.equal(fine.image, expected + 3)


def test_scores_are_those_of_the_label():
    guide = ClassifierGuide(ClassifierSection(level="6x8"), Brightness())
    images = torch.tensor([1.0, 2.0, 3.0])[:, None, None, None].expand(-1, 3, 6, 8)
    scores = guide.score(images, torch.tensor([0, 1, 0]), choose_compute("cpu"))
    assert scores.tolist() == [1.0, -2.0, 3.0]


def test_what_cannot_be_chosen_is_explained(cascade: Cascade, cascade_with_classes: Cascade):
    with pytest.raises(LapganError, match="best of 0: expected 1 candidate or more"):
        cascade.best_of(0)
    with pytest.raises(LapganError, match="trained without classes"):
        cascade.best_of(2)
    with pytest.raises(LapganError, match="train one with `lapgan classifier`"):
        cascade_with_classes.best_of(2)
    assert torch.equal(cascade.best_of(1).sample(2), cascade.sample(2))


@pytest.mark.parametrize("candidates", [1, 3])
def test_blocks_that_are_generated_together_are_those_that_are_generated_alone(
    tiny_with_classes: Recipe, candidates: int
):
    model = guided(tiny_with_classes)
    sampler = BlockSampler(model.levels, "block-mean", model.compute, model.guide, candidates)
    label = torch.arange(3 * BLOCK) % 2
    together = sampler.run(None, label[: 2 * BLOCK + 5], BlockKey(7, range(4, 7)), 0)
    for i, block in enumerate((4, 5)):
        alone = sampler.run(
            None, label[i * BLOCK : (i + 1) * BLOCK], BlockKey(7, range(block, block + 1)), 0
        )
        for one, several in zip(alone, together, strict=True):
            assert several.image.shape[0] == 3 * BLOCK
            assert torch.equal(one.image, several.image[i * BLOCK : (i + 1) * BLOCK])
