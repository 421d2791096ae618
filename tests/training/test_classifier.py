import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from PIL import Image

from lapgan.cascade import Cascade
from lapgan.data import open_images
from lapgan.errors import LapganError
from lapgan.normalization import symmetric_normalization
from lapgan.recipe import Recipe
from lapgan.training.classifier import ClassifierConfig, held_out_accuracy, train_classifier
from lapgan.training.job import Budget, Intervals
from lapgan.training.listener import Callback
from lapgan.training.log import AnyRecord
from lapgan.training.run import Order, train
from lapgan.weights import halved, read_weights, write_weights


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Eighty pictures of 12x12 with stripes across (class 0) or along (class 1)."""
    torch.manual_seed(0)
    for i in range(80):
        stripes = torch.randint(0, 256, (12, 1, 3), dtype=torch.uint8).expand(12, 12, 3)
        pixels = stripes if i % 2 == 0 else stripes.transpose(0, 1)
        folder = tmp_path / "pictures" / ("across" if i % 2 == 0 else "along")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.numpy()).save(folder / f"{i}.png")
    return str(tmp_path / "pictures")


@pytest.fixture
def order(tiny_with_classes: Recipe, data: str, run_folder: Path) -> ClassifierConfig:
    """The classifier of a run whose levels were trained for a step."""
    train(Order(tiny_with_classes, data, run_folder, images=8, device="cpu"), Callback())
    return ClassifierConfig(run_folder, data, Budget(128 * 12), level="12", maps=8, device="cpu")


def state(order: ClassifierConfig) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(order.out / "classifier" / "state.safetensors")


def test_it_learns_to_tell_classes_apart_and_joins_the_run(order: ClassifierConfig, data: str):
    cascade = train_classifier(replace(order, budget=Budget(128 * 60)), Callback())
    assert cascade is not None
    images = open_images(data)
    assert images.labels is not None
    found = Cascade.load(order.out)
    assert found.selector is not None
    x = symmetric_normalization((12, 12)).normalize(torch.from_numpy(images.pixels.copy()))
    right = found.selector.net(x).argmax(dim=1) == torch.from_numpy(images.labels)
    assert right.float().mean() > 0.9
    one = Cascade.load(order.out / "cascade.safetensors").best_of(3)
    assert torch.equal(one.sample(9, seed=1), found.best_of(3).sample(9, seed=1))
    assert found.training["classifier"]["images_seen"] == 128 * 60


def test_its_accuracy_on_held_out_images_is_counted(order: ClassifierConfig, data: str):
    train_classifier(order, Callback())
    assert held_out_accuracy(order) is None
    for split in ("train", "test"):
        shutil.copytree(data, Path(data).with_name("split") / split)
    # The split `test` is a copy, so that the share can be computed from the training images.
    again = replace(order, data=str(Path(data).with_name("split")))
    found, images = held_out_accuracy(again), open_images(data)
    cascade = Cascade.load(order.out)
    assert found is not None
    assert cascade.selector is not None
    assert images.labels is not None
    x = symmetric_normalization((12, 12)).normalize(torch.from_numpy(images.pixels.copy()))
    right = cascade.selector.net(x).argmax(dim=1) == torch.from_numpy(images.labels)
    assert found == (pytest.approx(right.float().mean().item()), 80)


def test_best_of_raises_the_probability_of_the_class(order: ClassifierConfig):
    cascade = train_classifier(order, Callback())
    assert cascade is not None
    assert cascade.selector is not None
    labels = torch.arange(64) % 2
    scores = []
    for candidates in (1, 8):
        (pairs,) = cascade.best_of(candidates).steps(64, labels=labels)
        scores.append(cascade.selector.scores(pairs[-1][1], labels, cascade.compute))
    assert (scores[1] >= scores[0] - 1e-6).all()
    assert scores[1].mean() > scores[0].mean()


def test_the_levels_are_left_alone(order: ClassifierConfig):
    before = Cascade.load(order.out).sample(4)
    train_classifier(order, Callback())
    assert torch.equal(Cascade.load(order.out).sample(4), before)


def test_a_stopped_training_goes_on_to_the_same_weights(order: ClassifierConfig, run_folder: Path):
    train_classifier(order, Callback())
    whole = state(order)
    other = replace(order, out=run_folder.with_name("other"))
    run_folder.rename(other.out)
    for path in (other.out / "classifier").iterdir():
        path.unlink()

    class Stops(Callback):
        def recorded(self, level: str, record: AnyRecord) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train_classifier(replace(other, intervals=Intervals(log=0)), Stops())
    assert read_weights(other.out).training["classifier"]["images_seen"] < 128 * 12
    train_classifier(other, Callback())
    resumed = state(other)
    assert resumed.keys() == whole.keys()
    for name, tensor in whole.items():
        assert torch.equal(resumed[name], tensor), name


def test_records_are_logged_and_told(order: ClassifierConfig):
    told: list[tuple[str, int]] = []

    class Notes(Callback):
        def recorded(self, level: str, record: AnyRecord) -> None:
            told.append((level, record.images_seen))

    train_classifier(replace(order, intervals=Intervals(log=0)), Notes())
    lines = (order.out / "classifier" / "log.jsonl").read_text().splitlines()
    assert told == [("classifier", json.loads(line)["images_seen"]) for line in lines]
    assert told[-1] == ("classifier", 128 * 12)


def test_a_packed_file_keeps_it_in_half_precision(order: ClassifierConfig, tmp_path: Path):
    train_classifier(order, Callback())
    packed = tmp_path / "packed.safetensors"
    write_weights(packed, halved(read_weights(order.out)))
    whole, half = Cascade.load(order.out), Cascade.load(packed)
    assert whole.selector is not None
    assert half.selector is not None
    assert half.selector.recipe == whole.selector.recipe
    x = torch.randn(8, 3, 12, 12)
    assert torch.allclose(whole.selector.net(x), half.selector.net(x), atol=0.05)


def test_another_classifier_in_the_same_folder_is_refused(order: ClassifierConfig):
    train_classifier(order, Callback())
    with pytest.raises(LapganError, match="judges level 12 with 8 maps, asked for is level 12"):
        train_classifier(replace(order, maps=4), Callback())
    # Left out, they are those of the classifier that is there.
    train_classifier(replace(order, level=None, maps=None), Callback())


def test_the_level_below_the_finest_is_judged_by_default(order: ClassifierConfig):
    train_classifier(replace(order, level=None, maps=4, budget=Budget(128)), Callback())
    found = Cascade.load(order.out).selector
    assert found is not None
    assert found.recipe.level == "6x8"


def test_what_does_not_fit_is_named(order: ClassifierConfig, tiny: Recipe, tmp_path: Path):
    with pytest.raises(LapganError, match="no run folder"):
        train_classifier(replace(order, out=tmp_path / "nothing"), Callback())
    with pytest.raises(LapganError, match="--level 7: recipe tiny has the levels 12, 6x8"):
        train_classifier(replace(order, level="7"), Callback())
    with pytest.raises(LapganError, match="learns from other images"):
        train_classifier(replace(order, data="dead-leaves:20"), Callback())
    train(Order(tiny, order.data, tmp_path / "plain", images=8, device="cpu"), Callback())
    with pytest.raises(LapganError, match="begun without classes"):
        train_classifier(replace(order, out=tmp_path / "plain"), Callback())


def test_a_folder_of_weights_without_levels_says_so(order: ClassifierConfig):
    train_classifier(order, Callback())
    for level in ("level-12", "level-6x8"):
        (order.out / level / "weights.safetensors").unlink()
    with pytest.raises(LapganError, match=r"12, 6x8 have no weights yet"):
        Cascade.load(order.out)


@pytest.mark.slow
def test_a_killed_training_goes_on(order: ClassifierConfig):
    command = [sys.executable, "-m", "lapgan", "classifier", str(order.out), "--data", order.data,
               "--level", "12", "--maps", "8", "--minutes", "5", "--device", "cpu"]  # fmt: skip
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not (order.out / "classifier" / "log.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    found = read_weights(order.out).training["classifier"]["images_seen"]
    assert found > 0
    done = replace(order, budget=Budget(found + 128), maps=None, level=None)
    assert train_classifier(done, Callback()) is not None
    assert read_weights(order.out).training["classifier"]["images_seen"] == found + 128
