import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from lapgan.data import Images
from lapgan.errors import LapganError
from lapgan.evaluation.config import SampleCounts
from lapgan.evaluation.context import Context, EvaluatedModel
from lapgan.evaluation.features.extract import Features
from lapgan.evaluation.metrics import find_metrics
from lapgan.evaluation.metrics.neighbors import (
    Neighbors,
    arrange_neighbors,
    compare_neighbors,
    nearest_by_features,
    nearest_by_pixels,
)
from lapgan.evaluation.real import TrainingExamples
from lapgan.evaluation.suite import evaluate_models


def random_images(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lapgan.evaluation.metrics.neighbors._BLOCK", 7)


def test_neighbours_by_pixels_are_those_of_a_full_search():
    train, images = random_images(40), random_images(5, 1)
    neighbors = nearest_by_pixels(images, train.numpy(), k=3)
    differences = images[:, None].numpy().astype(float) - train[None].numpy()
    distances = np.sqrt((differences**2).sum(axis=(2, 3, 4)))
    assert np.array_equal(neighbors.indices, np.argsort(distances)[:, :3])
    np.testing.assert_allclose(neighbors.distances, np.sort(distances)[:, :3], rtol=1e-12)
    assert (neighbors.space, neighbors.n_train) == ("pixels", 40)


def test_neighbours_by_features_are_those_of_a_full_search():
    train, images = torch.randn(40, 5), torch.randn(6, 5)
    neighbors = nearest_by_features(Features(images), Features(train), k=8)
    distances = (images[:, None].double() - train.double()).square().sum(dim=2).sqrt()
    expected = distances.sort(dim=1)
    assert torch.equal(neighbors.indices, expected.indices[:, :8])
    assert torch.allclose(neighbors.distances, expected.values[:, :8])
    assert neighbors.space == "lite0"


def test_planted_copies_are_found_at_no_distance():
    train = random_images(40)
    neighbors = nearest_by_pixels(train[[33, 4, 20]], train, k=2)
    assert neighbors.indices[:, 0].tolist() == [33, 4, 20]
    assert (neighbors.distances[:, 0] == 0).all()
    assert (neighbors.distances[:, 1] > 100).all()


def test_memorization_tells_copies_from_new_images():
    train, held_out, new = random_images(40), random_images(30, 1), random_images(30, 2)
    baseline = nearest_by_pixels(held_out, train)
    fresh = compare_neighbors(nearest_by_pixels(new, train), baseline)
    assert fresh.ratio == pytest.approx(1, abs=0.05)
    assert fresh.copies < 0.2
    copied = compare_neighbors(nearest_by_pixels(train[:20], train), baseline)
    assert (copied.ratio, copied.copies) == (0, 1)
    assert (copied.n_train, copied.n_held_out, copied.n_fake) == (40, 30, 20)
    some = torch.cat((train[:3], new[:27]))
    mixed = compare_neighbors(nearest_by_pixels(some, train), baseline)
    assert mixed.ratio > 0.9
    assert mixed.copies == pytest.approx(0.1 + fresh.copies, abs=0.05)


def test_searches_that_differ_cannot_be_compared():
    train, images = random_images(40), random_images(5, 1)
    by_pixels = nearest_by_pixels(images, train)
    with pytest.raises(LapganError, match="search the same way"):
        compare_neighbors(by_pixels, nearest_by_pixels(images, train[:30]))
    by_features = nearest_by_features(Features(torch.randn(5, 4)), Features(torch.randn(40, 4)))
    with pytest.raises(LapganError, match="search the same way"):
        compare_neighbors(by_features, by_pixels)
    with pytest.raises(LapganError, match="are training images themselves"):
        compare_neighbors(by_pixels, nearest_by_pixels(train, train))


def test_bad_searches_are_named():
    train = random_images(4)
    with pytest.raises(LapganError, match="real images are 8x8 and generated ones 6x8"):
        nearest_by_pixels(train[:, :, :6], train)
    with pytest.raises(LapganError, match="expected 1 to 4"):
        nearest_by_pixels(train, train, k=5)
    with pytest.raises(LapganError, match="expected pixels of 0 to 255"):
        nearest_by_pixels(train.float(), train)
    with pytest.raises(LapganError, match="by lite0 and by inception"):
        nearest_by_features(Features(torch.zeros(1, 2)), Features(torch.zeros(1, 2), "inception"))


def test_the_picture_has_a_row_for_each_image():
    train, images = random_images(40), random_images(2, 1)
    by_pixels, by_features = train[:6].view(2, 3, 3, 8, 8), train[6:12].view(2, 3, 3, 8, 8)
    picture = arrange_neighbors(images, by_pixels, by_features)
    assert picture.shape == (3, 2 * 10 - 2, 9 * 10 - 2)
    assert torch.equal(picture[:, 10:18, :8], images[1])
    assert torch.equal(picture[:, 10:18, 20:28], by_pixels[1, 0])
    assert torch.equal(picture[:, :8, 80:88], by_features[0, 2])
    assert (picture[:, :, 8:20] == 255).all()


def spotted(n: int, seed: int) -> Images:
    """Images of 14x14 in which no crop is near to another."""
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 3, 14, 14), dtype=np.uint8)
    return Images(pixels, None, (), f"spotted-{seed}", f"spots{seed}")


def test_a_model_that_copies_any_crop_or_mirror_image_is_found_out():
    """All copies count, by pixels and by features, also of images beyond the judged ones."""
    training, held_out = spotted(60, 1), spotted(30, 2)
    examples = TrainingExamples(training, (12, 12), count=60, mirrored=True)
    copied = examples[torch.randperm(len(examples))[:24]]
    source = Images(copied.numpy(), None, (), "copies", "c" * 8)
    counts = SampleCounts(samples=24, neighbor_queries=24).limit_to(60, 30)
    context = Context([EvaluatedModel("copies", source=source)], training, held_out, counts)
    values = {
        m.metric: m for m in evaluate_models(context, find_metrics(["neighbours"])).measurements
    }
    for space in ("pixels", "lite0"):
        assert values[f"copies by {space}"].value == 1
        assert values[f"nearest-neighbour ratio by {space}"].value == pytest.approx(0, abs=1e-3)
        assert values[f"copies by {space}"].n == 24
    searched = values["copies by pixels"].details
    assert searched["searched"] == searched["training_examples"] == 60 * 8


def test_no_image_is_judged_twice():
    """With fewer images than queries."""
    training, held_out = spotted(60, 1), spotted(60, 2)
    few = dataclasses.replace(spotted(60, 3), pixels=spotted(60, 3).pixels[:10])
    counts = SampleCounts(samples=10).limit_to(60, 60)
    context = Context([EvaluatedModel("few", source=few)], training, held_out, counts)
    metric = find_metrics(["neighbours"])
    assert {m.n for m in evaluate_models(context, metric).measurements} == {10}


def test_the_error_of_copies_is_that_of_repeated_draws():
    generator = torch.Generator().manual_seed(0)
    results = []
    for _ in range(300):
        near = torch.rand(2, 1000, 1, generator=generator)
        fake, held_out = (Neighbors(torch.zeros(1000, 1), x, "pixels", 9) for x in near)
        results.append(compare_neighbors(fake, held_out))
    copies = torch.tensor([result.copies for result in results])
    errors = torch.tensor([result.copies_error for result in results])
    assert float(copies.mean()) == pytest.approx(0.01, abs=0.003)
    assert float(errors.square().mean().sqrt()) == pytest.approx(float(copies.std()), rel=0.25)
