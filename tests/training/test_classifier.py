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
from lapgan.cascade.best_of import ClassifierGuide
from lapgan.data import open_images
from lapgan.errors import LapganError
from lapgan.models.classifier import ImageClassifier
from lapgan.normalization import symmetric_normalization
from lapgan.recipe import Recipe
from lapgan.run_folder import RunFolder
from lapgan.training.callbacks import Callback
from lapgan.training.classifier import ClassifierConfig, held_out_accuracy, train_classifier
from lapgan.training.config import Budget, LogIntervals, RunConfig
from lapgan.training.log import Record
from lapgan.training.run import train
from lapgan.weights import halve_precision, read_weights, write_tensors, write_weights


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
def config(tiny_with_classes: Recipe, data: str, run_folder: Path) -> ClassifierConfig:
    """The classifier of a run whose levels were trained for a step."""
    train(RunConfig(tiny_with_classes, run_folder, data, images=8, device="cpu"), Callback())
    return ClassifierConfig(run_folder, Budget(128 * 12), data, level="12", maps=8, device="cpu")


def state(config: ClassifierConfig) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(RunFolder(config.out).part("classifier").state)


def test_it_learns_to_tell_classes_apart_and_joins_the_run(config: ClassifierConfig, data: str):
    cascade = train_classifier(replace(config, budget=Budget(128 * 60)), Callback())
    assert cascade is not None
    images = open_images(data)
    assert images.labels is not None
    loaded = Cascade.load(config.out)
    assert loaded.guide is not None
    x = symmetric_normalization((12, 12)).normalize(torch.from_numpy(images.pixels.copy()))
    right = loaded.guide.net(x).argmax(dim=1) == torch.from_numpy(images.labels)
    assert right.float().mean() > 0.9
    single = Cascade.load(config.out / "cascade.safetensors").best_of(3)
    assert torch.equal(single.sample(9, seed=1), loaded.best_of(3).sample(9, seed=1))
    assert loaded.training["classifier"]["images_seen"] == 128 * 60


def test_its_accuracy_on_held_out_images_is_counted(config: ClassifierConfig, data: str):
    train_classifier(config, Callback())
    assert held_out_accuracy(config) is None
    for split in ("train", "test"):
        shutil.copytree(data, Path(data).with_name("split") / split)
    # The split `test` is a copy, so that the fraction can be computed from the training images.
    again = replace(config, data=str(Path(data).with_name("split")))
    accuracy, images = held_out_accuracy(again), open_images(data)
    cascade = Cascade.load(config.out)
    assert cascade.guide is not None
    assert images.labels is not None
    x = symmetric_normalization((12, 12)).normalize(torch.from_numpy(images.pixels.copy()))
    right = cascade.guide.net(x).argmax(dim=1) == torch.from_numpy(images.labels)
    assert accuracy == (pytest.approx(right.float().mean().item()), 80)


def test_best_of_raises_the_probability_of_the_class(config: ClassifierConfig):
    cascade = train_classifier(config, Callback())
    assert cascade is not None
    assert cascade.guide is not None
    labels = torch.arange(64) % 2
    scores = []
    for candidates in (1, 8):
        (stages,) = cascade.best_of(candidates).stages(64, labels=labels)
        scores.append(cascade.guide.score(stages[-1].image, labels, cascade.compute))
    assert (scores[1] >= scores[0] - 1e-6).all()
    assert scores[1].mean() > scores[0].mean()


def test_the_levels_are_left_alone(config: ClassifierConfig):
    before = Cascade.load(config.out).sample(4)
    train_classifier(config, Callback())
    assert torch.equal(Cascade.load(config.out).sample(4), before)


def test_a_stopped_training_continues_to_the_same_weights(
    config: ClassifierConfig, run_folder: Path
):
    train_classifier(config, Callback())
    whole = state(config)
    other = replace(config, out=run_folder.with_name("other"))
    run_folder.rename(other.out)
    for path in (other.out / "classifier").iterdir():
        path.unlink()

    class Stopping(Callback):
        def recorded(self, part: str, record: Record) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train_classifier(replace(other, intervals=LogIntervals(log=0)), Stopping())
    assert read_weights(other.out).training["classifier"]["images_seen"] < 128 * 12
    train_classifier(other, Callback())
    resumed = state(other)
    assert resumed.keys() == whole.keys()
    for name, tensor in whole.items():
        assert torch.equal(resumed[name], tensor), name


def test_records_are_logged_and_passed_on(config: ClassifierConfig):
    records: list[tuple[str, int]] = []

    class Recorder(Callback):
        def recorded(self, part: str, record: Record) -> None:
            records.append((part, record.images_seen))

    train_classifier(replace(config, intervals=LogIntervals(log=0)), Recorder())
    lines = (config.out / "classifier" / "log.jsonl").read_text().splitlines()
    assert records == [("classifier", json.loads(line)["images_seen"]) for line in lines]
    assert records[-1] == ("classifier", 128 * 12)


def test_a_packed_file_keeps_it_in_half_precision(config: ClassifierConfig, tmp_path: Path):
    train_classifier(config, Callback())
    packed = tmp_path / "packed.safetensors"
    write_weights(packed, halve_precision(read_weights(config.out)))
    whole, half = Cascade.load(config.out), Cascade.load(packed)
    assert whole.guide is not None
    assert half.guide is not None
    assert half.guide.section == whole.guide.section
    x = torch.randn(8, 3, 12, 12)
    assert torch.allclose(whole.guide.net(x), half.guide.net(x), atol=0.05)


def test_another_classifier_in_the_same_folder_is_refused(config: ClassifierConfig):
    train_classifier(config, Callback())
    with pytest.raises(LapganError, match="is for level 12 and has 8 maps, not level 12 and 4;"):
        train_classifier(replace(config, maps=4), Callback())
    # Left out, they are those of the classifier that is there.
    train_classifier(replace(config, level=None, maps=None), Callback())


def test_the_level_next_to_the_finest_is_classified_by_default(config: ClassifierConfig):
    train_classifier(replace(config, level=None, maps=4, budget=Budget(128)), Callback())
    guide = Cascade.load(config.out).guide
    assert guide is not None
    assert guide.section.level == "6x8"


def test_what_does_not_fit_is_named(config: ClassifierConfig, tiny: Recipe, tmp_path: Path):
    with pytest.raises(LapganError, match="no run folder"):
        train_classifier(replace(config, out=tmp_path / "nothing"), Callback())
    with pytest.raises(LapganError, match="--level 7: recipe tiny has the levels 12, 6x8"):
        train_classifier(replace(config, level="7"), Callback())
    with pytest.raises(
        LapganError,
        match=r"--data dead-leaves: the run in .* is trained on other images \(pictures\)",
    ):
        train_classifier(replace(config, data="dead-leaves:20"), Callback())
    train(RunConfig(tiny, tmp_path / "plain", config.data, images=8, device="cpu"), Callback())
    with pytest.raises(LapganError, match="trained without classes"):
        train_classifier(replace(config, out=tmp_path / "plain"), Callback())


@pytest.fixture
def of_model(config: ClassifierConfig, tmp_path: Path) -> ClassifierConfig:
    """A classifier for the levels of that run, as a packed file, in a folder of its own."""
    packed = tmp_path / "packed.safetensors"
    write_weights(packed, halve_precision(read_weights(config.out)))
    return replace(config, out=tmp_path / "own", model=packed)


def test_a_trained_model_is_given_one(of_model: ClassifierConfig, config: ClassifierConfig):
    assert of_model.model is not None
    cascade = train_classifier(of_model, Callback())
    assert cascade is not None
    before, after = Cascade.load(of_model.model), Cascade.load(of_model.out / "cascade.safetensors")
    labels = [i % 2 for i in range(9)]
    assert torch.equal(after.sample(9, labels=labels), before.sample(9, labels=labels))
    assert after.training.keys() == {"12", "6x8", "classifier"}
    best = after.best_of(3).sample(9, labels=labels)
    assert torch.equal(best, cascade.best_of(3).sample(9, labels=labels))
    # It is the classifier that the run itself would have had.
    own = train_classifier(config, Callback())
    assert own is not None
    assert own.guide is not None
    assert cascade.guide is not None
    expected = own.guide.net.state_dict()
    for name, tensor in cascade.guide.net.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_the_classifier_of_a_trained_model_is_replaced(of_model: ClassifierConfig):
    train_classifier(of_model, Callback())
    written = of_model.out / "cascade.safetensors"
    other = replace(of_model, out=of_model.out.parent / "other", model=written, maps=4)
    cascade = train_classifier(other, Callback())
    assert cascade is not None
    assert cascade.guide is not None
    assert cascade.guide.section.maps == 4
    guide = Cascade.load(written).guide
    assert guide is not None
    assert guide.section.maps == 8


def test_what_does_not_fit_a_trained_model_is_named(
    of_model: ClassifierConfig, config: ClassifierConfig, data: str
):
    with pytest.raises(LapganError, match=r"own: this is no run folder .* say with --out in which"):
        train_classifier(replace(of_model, model=None), Callback())
    with pytest.raises(LapganError, match="has levels of its own"):
        train_classifier(replace(of_model, out=config.out), Callback())
    (config.out / "level-12").rename(config.out / "elsewhere")
    with pytest.raises(LapganError, match=r"the level\(s\) 12 have no weights yet"):
        train_classifier(replace(of_model, model=config.out), Callback())
    train_classifier(of_model, Callback())
    with pytest.raises(LapganError, match=r"this folder holds another run\. It differs in seed"):
        train_classifier(replace(of_model, seed=1), Callback())
    (Path(data) / "along").rename(Path(data) / "down")
    with pytest.raises(LapganError, match=r"classes across, down; .*packed.* on across, along"):
        train_classifier(of_model, Callback())


def test_a_folder_of_weights_without_levels_says_so(config: ClassifierConfig):
    train_classifier(config, Callback())
    for level in ("12", "6x8"):
        RunFolder(config.out).part(level).weights.unlink()
    with pytest.raises(LapganError, match=r"12, 6x8 have no weights yet"):
        Cascade.load(config.out)


def with_retired_buffers(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Adds the batch norm whose results nobody used, as files of earlier versions have it."""
    net = ImageClassifier((12, 12), 8, 2)
    retired = {}
    for i, stage in enumerate(net.stages):
        name, maps = f"{prefix}stages.{i}.shown_norm", stage.first.out_channels
        retired[f"{name}.running_mean"] = torch.full((maps,), 7.0)
        retired[f"{name}.running_var"] = torch.full((maps,), 9.0)
        retired[f"{name}.num_batches_tracked"] = torch.tensor(3)
    return tensors | retired


def test_files_of_earlier_versions_are_read_and_continued(config: ClassifierConfig):
    train_classifier(replace(config, budget=Budget(128 * 6)), Callback())
    folder = RunFolder(config.out).part("classifier")
    weights = read_weights(folder.weights)
    old = replace(weights, tensors=with_retired_buffers(weights.tensors, "classifier."))
    write_weights(folder.weights, old)
    with safetensors.safe_open(folder.state, framework="pt") as file:
        metadata = file.metadata()
    write_tensors(folder.state, with_retired_buffers(state(config), "net."), metadata)
    x = torch.randn(8, 3, 12, 12)
    guide = Cascade.load(config.out).guide
    assert guide is not None
    new = ClassifierGuide.from_weights(weights, folder.weights)
    assert new is not None
    assert torch.equal(guide.net(x), new.net(x))
    assert not any("shown_norm" in name for name in guide.net.state_dict())
    assert train_classifier(config, Callback()) is not None
    # The files that are written from now on are without them.
    for tensors in (state(config), read_weights(config.out).tensors):
        assert not any("shown_norm" in name for name in tensors)


def test_the_classifier_has_the_precision_of_the_run(
    config: ClassifierConfig, monkeypatch: pytest.MonkeyPatch
):
    run = json.loads((config.out / "run.json").read_text())
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    for precision in ("bfloat16", "float32"):
        (config.out / "run.json").write_text(json.dumps(run | {"precision": precision}))
        train_classifier(replace(config, budget=Budget(128)), Callback())
        assert precision in read_weights(config.out).training["classifier"]["compute"]
        shutil.rmtree(config.out / "classifier")
    with pytest.raises(LapganError, match=r"--precision bfloat16: the run in .* in float32"):
        train_classifier(replace(config, precision="bfloat16"), Callback())
    # What an earlier version chose nobody knows.
    del run["precision"]
    (config.out / "run.json").write_text(json.dumps(run))
    assert train_classifier(replace(config, precision="bfloat16"), Callback()) is not None


@pytest.mark.slow
def test_a_killed_training_continues(config: ClassifierConfig):
    command = [sys.executable, "-m", "lapgan", "classifier", str(config.out), "--data", config.data,
               "--level", "12", "--maps", "8", "--minutes", "5", "--device", "cpu"]  # fmt: skip
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not (config.out / "classifier" / "log.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    images_seen = read_weights(config.out).training["classifier"]["images_seen"]
    assert images_seen > 0
    done = replace(config, budget=Budget(images_seen + 128), maps=None, level=None)
    assert train_classifier(done, Callback()) is not None
    assert read_weights(config.out).training["classifier"]["images_seen"] == images_seen + 128
