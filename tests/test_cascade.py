from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lapgan.cascade import BLOCK, Cascade, Level
from lapgan.errors import LapganError
from lapgan.noise import PlaneNoise_, VectorNoise_
from lapgan.normalization import symmetric_normalization
from lapgan.pyramid import laplacian_pyramid
from lapgan.recipe import Recipe


class Oracle(nn.Module):
    """A generator that knows the residual of the one image it shall make."""

    def __init__(self, high: Tensor) -> None:
        super().__init__()
        self.high = high

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        return self.high.expand(len(z), -1, -1, -1)


def test_with_oracles_the_cascade_returns_the_image(tiny: Recipe):
    pixels = torch.randint(0, 256, (1, 3, 12, 12), dtype=torch.uint8)
    normalization = symmetric_normalization((12, 12))
    highs = laplacian_pyramid(normalization.normalize(pixels), tiny.sizes, tiny.pyramid.operator)
    noises = (PlaneNoise_(), VectorNoise_())
    levels = [Level(s, z, Oracle(h)) for s, z, h in zip(tiny.sizes, noises, highs, strict=True)]
    cascade = Cascade(tiny, levels, normalization)
    assert torch.equal(cascade.sample(3), pixels.expand(3, -1, -1, -1))
    coarse, fine = cascade.chain(3)
    assert coarse.low is None
    assert torch.equal(fine.image, pixels.expand(3, -1, -1, -1))
    refined = cascade.refine(coarse.image)
    # The coarse image was rounded to whole pixel values before it was refined.
    assert (refined.int() - pixels.int()).abs().max() <= 2


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_images_are_the_same_on_any_number_of_threads(cascade: Cascade, threads: int):
    before = torch.get_num_threads()
    expected = cascade.sample(3 * BLOCK, seed=5)
    torch.set_num_threads(threads)
    try:
        assert torch.equal(cascade.sample(3 * BLOCK, seed=5), expected)
    finally:
        torch.set_num_threads(before)


def test_a_seed_gives_the_same_images_however_many_are_made(cascade: Cascade):
    many = cascade.sample(BLOCK + 10, seed=5)
    assert torch.equal(cascade.sample(7, seed=5), many[:7])
    assert torch.equal(cascade.sample(BLOCK + 1, seed=5), many[: BLOCK + 1])
    assert not torch.equal(cascade.sample(7, seed=6), many[:7])
    assert not torch.equal(many[:10], many[BLOCK:])
    assert cascade.sample(0).shape == (0, 3, 12, 12)


def test_a_chain_ends_in_the_sample(cascade: Cascade):
    links = cascade.chain(BLOCK + 3, seed=1)
    assert [link.size for link in links] == [(6, 8), (12, 12)]
    assert torch.equal(links[-1].image, cascade.sample(BLOCK + 3, seed=1))


def test_a_coarse_image_is_refined_in_different_ways(cascade: Cascade):
    coarse = torch.randint(0, 256, (1, 3, 6, 8), dtype=torch.uint8).expand(4, -1, -1, -1)
    refined = cascade.refine(coarse)
    assert refined.shape == (4, 3, 12, 12)
    assert not torch.equal(refined[0], refined[1])
    assert torch.equal(refined, cascade.refine(coarse))
    assert not torch.equal(refined, cascade.refine(coarse, seed=1))


@pytest.mark.parametrize("size", [(12, 12), (8, 6), (5, 5)], ids=str)
def test_images_of_another_size_are_not_refined(cascade: Cascade, size: tuple[int, int]):
    with pytest.raises(LapganError, match=f"{size[0]}x{size[1]}; this model refines images of 6x8"):
        cascade.refine(torch.zeros(1, 3, *size, dtype=torch.uint8))


def test_labels_are_balanced_and_change_the_images(cascade_with_classes: Cascade):
    cascade = cascade_with_classes
    labels = cascade.labels(8)
    assert labels is not None
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    for classes, index in ((["dog"], 1), ([0], 0), (["2"], 2), (["7"], 2)):
        chosen = cascade.labels(2, classes)
        assert chosen is not None
        assert chosen.tolist() == [index, index]
    cats, dogs = cascade.sample(3, labels=[0] * 3), cascade.sample(3, labels=[1] * 3)
    assert not torch.equal(cats, dogs)


def test_wrong_labels_are_named(cascade_with_classes: Cascade, cascade: Cascade):
    with_classes = cascade_with_classes
    with pytest.raises(LapganError, match="class 'cow': not one of this model's: cat, dog, 7"):
        with_classes.labels(3, ["cow"])
    with pytest.raises(LapganError, match="class '3'"):
        with_classes.labels(3, ["3"])
    with pytest.raises(LapganError, match=r"expected 3 indices from 0 to 2, found \[0, 3, 1\]"):
        with_classes.sample(3, labels=[0, 3, 1])
    with pytest.raises(LapganError, match="has no classes"):
        cascade.sample(3, labels=[0, 0, 0])
    with pytest.raises(LapganError, match="trained without classes"):
        cascade.labels(3, ["cat"])


def test_one_file_rebuilds_the_model(tmp_path: Path, cascade_with_classes: Cascade):
    cascade = cascade_with_classes
    cascade.training = {"12": {"images_seen": 3}}
    cascade.save(tmp_path / "c.safetensors")
    again = Cascade.load(tmp_path / "c.safetensors")
    assert torch.equal(again.sample(5, seed=2), cascade.sample(5, seed=2))
    assert again.class_names == ("cat", "dog", "7")
    assert again.recipe == cascade.recipe
    assert again.training == cascade.training


def test_residuals_are_what_the_cascade_adds(cascade: Cascade):
    (_, (low, image)) = next(cascade.steps(3, seed=5))
    assert low is not None
    torch.testing.assert_close(low + cascade.residuals(0, low, seed=5), image)
    with pytest.raises(LapganError, match="level 6x8: no residuals"):
        cascade.residuals(1, low)
    with pytest.raises(LapganError, match="of 6x8"):
        cascade.residuals(0, torch.zeros(1, 3, 6, 8))


def test_steps_may_stop_at_a_level(cascade: Cascade):
    coarsest, _ = next(cascade.steps(3, seed=5))
    (alone,) = next(cascade.steps(3, seed=5, finest=1))
    assert torch.equal(alone[1], coarsest[1])
