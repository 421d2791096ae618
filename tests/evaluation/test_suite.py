"""The whole evaluation on tiny models: what stands in it, and what is refused beforehand."""

import dataclasses
import json
import math
import re
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from lapgan.cascade import Cascade
from lapgan.cascade.best_of import ClassifierGuide
from lapgan.cli import app
from lapgan.compute import choose_compute
from lapgan.data import Images
from lapgan.errors import LapganError
from lapgan.evaluation.config import EvaluationConfig, SampleCounts
from lapgan.evaluation.context import Context, EvaluatedModel, open_context, open_model
from lapgan.evaluation.measurement import HELD_OUT, TRAINING, Measurement
from lapgan.evaluation.metrics import METRICS, find_metrics, load_metrics
from lapgan.evaluation.metrics.parzen import CENTROIDS
from lapgan.evaluation.report import check_report_folder, write_report
from lapgan.evaluation.suite import (
    Evaluation,
    choose_usual_metrics,
    evaluate,
    evaluate_models,
)
from lapgan.models.classifier import ClassifierSection

COUNTS = SampleCounts(
    samples=24, test=40, validation=16, multiscale=8, draws=4, fit=100, centroids=10, pairs=64,
    critic=128, neighbor_queries=8, neighbor_candidates=80, entropy=20,
    entropy_minutes=0.01,
)  # fmt: skip


def photos(count: int, seed: int, size: int = 12) -> Images:
    """Colored gradients of two classes, with a little noise."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 1, size)
    colors = random.uniform(0, 220, (count, 3, 1, 1))
    pixels = colors * (ramp[:, None] + ramp) / 2 + random.uniform(0, 30, (count, 3, size, size))
    labels = np.arange(count) % 3
    names = ("cat", "dog", "7")
    return Images(pixels.astype(np.uint8), labels, names, f"photos-{seed}", f"{seed}" * 8)


@pytest.fixture(scope="module")
def training() -> Images:
    return photos(200, 1)


@pytest.fixture(scope="module")
def held_out() -> Images:
    return photos(180, 2)


@pytest.fixture
def context(cascade: Cascade, training: Images, held_out: Images) -> Context:
    return Context([EvaluatedModel("tiny", cascade=cascade)], training, held_out, COUNTS)


def run(context: Context, *names: str) -> Evaluation:
    return evaluate_models(context, find_metrics(names))


def find(evaluation: Evaluation, subject: str, metric: str) -> Measurement:
    (measurement,) = [
        m for m in evaluation.measurements if (m.subject, m.metric) == (subject, metric)
    ]
    return measurement


def test_a_model_that_gives_its_training_images_scores_as_they_do(
    training: Images, held_out: Images
):
    first = dataclasses.replace(training, pixels=training.pixels[:24], labels=None, class_names=())
    parrot = EvaluatedModel("parrot", source=first)
    context = Context([parrot], training, held_out, COUNTS)
    reported: list[Measurement] = []
    metrics = find_metrics(("parzen", "precision-recall", "neighbours"))
    evaluation = evaluate_models(context, metrics, reported.append)
    assert reported == evaluation.measurements
    assert find(evaluation, "parrot", "parzen").value == find(evaluation, TRAINING, "parzen").value
    assert find(evaluation, "parrot", "precision-lite0").value == 1
    for space in ("pixels", "lite0"):
        copies = find(evaluation, "parrot", f"nearest-neighbour ratio by {space}")
        assert copies.value == pytest.approx(0, abs=1e-3)
        assert find(evaluation, "parrot", f"copies by {space}").value == 1
    assert find(evaluation, HELD_OUT, "recall-lite0").value > 0.5


def without_test_split(context: Context) -> Context:
    held_out = dataclasses.replace(
        context.held_out, pixels=context.held_out.pixels[:0], labels=np.zeros(0, np.int64)
    )
    return dataclasses.replace(context, held_out=held_out)


def test_without_held_out_images_training_images_are_searched_among_each_other():
    """A copied image is found, mirrored or not; new images are as far away as others are."""
    training = photos(60, 1)
    mirrored = training.pixels[:10, :, :, ::-1]
    copies = dataclasses.replace(training, pixels=mirrored, labels=None, class_names=())
    models = [EvaluatedModel("parrot", source=copies), EvaluatedModel("new", source=photos(10, 5))]
    counts = dataclasses.replace(COUNTS, samples=10, neighbor_queries=8)
    context = without_test_split(Context(models, training, photos(4, 2), counts))
    evaluation = run(context, "neighbours")
    for space in ("pixels", "lite0"):
        parrot, new = (
            find(evaluation, name, f"nearest-neighbour ratio by {space}").value
            for name in ("parrot", "new")
        )
        assert parrot == pytest.approx(0, abs=1e-3)
        assert 0.5 < new < 2
        assert find(evaluation, "parrot", f"copies by {space}").value == 1
    assert evaluation.pictures[0].caption.startswith("real training images")


def test_usual_metrics_without_held_out_images(
    cascade_with_classes: Cascade,
    training: Images,
    held_out: Images,
    caplog: pytest.LogCaptureFixture,
):
    model = EvaluatedModel("tiny", cascade=cascade_with_classes)
    context = without_test_split(Context([model], training, held_out, COUNTS))
    metrics = choose_usual_metrics(context)
    assert [metric.name for metric in metrics] == [
        "kid", "precision-recall", "density-coverage", "classes", "neighbours"
    ]  # fmt: skip
    for name in ("parzen", "multiscale-parzen", "dependence"):
        assert f"{name} is left out: {name}: needs held-out images" in caplog.text
    measured = {m.metric for m in evaluate_models(context, metrics).measurements}
    assert {"kid-lite0", "kid-lite0 of class cat", "copies by pixels"} <= measured
    with pytest.raises(LapganError, match=r"parzen: needs held-out images.*--hold-out N"):
        run(context, "parzen")


def test_what_the_models_held_out_is_held_out(cascade: Cascade, tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    for index, pixels in enumerate(photos(40, 1).pixels):
        Image.fromarray(pixels.transpose(1, 2, 0)).save(data / f"{index:02}.png")
    recipe = cascade.recipe
    for count in (8, 0):
        section = recipe.data.model_copy(update={"hold_out": count})
        cascade.recipe = recipe.model_copy(update={"data": section})
        cascade.save(tmp_path / f"{count}.safetensors")
    paths = [str(tmp_path / f"{count}.safetensors") for count in (8, 0)]
    alone, both = (
        open_context(EvaluationConfig(models, str(data), images=16))
        for models in (paths[:1], paths)
    )
    assert (len(alone.training), len(alone.held_out)) == (32, 8)
    assert (len(both.training), len(both.held_out)) == (40, 0)
    seen = {image.tobytes() for image in alone.training.pixels}
    assert not seen & {image.tobytes() for image in alone.held_out.pixels}


def test_two_folders_are_compared_without_a_model(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for name, seed, count in (("mine", 1, 12), ("theirs", 2, 20)):
        (tmp_path / name).mkdir()
        for index, pixels in enumerate(photos(count, seed, 16).pixels):
            Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / name / f"{index}.png")
    command = ["evaluate", str(tmp_path / "mine"), "--data", str(tmp_path / "theirs"), "--quick"]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "report")])
    assert result.exit_code == 0, result.output
    assert "mine has 12 images, so 12 images per model are compared instead of 1,000" in caplog.text
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    rows = {row["metric"]: row["n"] for row in report["measurements"]}
    assert rows["kid-lite0"] == rows["copies by pixels"] == 12
    assert {row["subject"] for row in report["measurements"]} == {"mine"}


def test_every_metric_of_a_cascade_with_classes(
    cascade_with_classes: Cascade, training: Images, held_out: Images, tmp_path: Path
):
    names = [m.name for m in load_metrics() if m.name not in ("fd", "inception-score")]
    model = EvaluatedModel("tiny", cascade=cascade_with_classes)
    evaluation = run(Context([model], training, held_out, COUNTS), *names)
    mine = {m.metric for m in evaluation.measurements if m.subject == "tiny"}
    assert {"parzen", "multiscale-parzen", "multiscale-parzen level 12x12", "kid-lite0",
            "kid-lite0 of class cat", "class agreement by lite0", "coverage-lite0",
            "distance ratio at 12x12",
            "fraction of noise in the residual at 12x12"} <= mine  # fmt: skip
    levels = [find(evaluation, "tiny", f"multiscale-parzen level {s}") for s in ("12x12", "6x8")]
    total = find(evaluation, "tiny", "multiscale-parzen")
    assert total.value == pytest.approx(sum(level.value for level in levels))
    assert total.details["dimension"] == 3 * 12 * 12
    assert find(evaluation, CENTROIDS, "parzen").n == COUNTS.centroids
    bits = find(evaluation, HELD_OUT, "entropy H[12 | 6x8]").value
    assert 0 < bits < 8 * 3
    assert find(evaluation, "tiny", "noise at 12x12").value == 24
    unused = find(evaluation, "tiny", "unused noise at 12x12").value
    assert unused == pytest.approx(1 - bits / 24)

    html, js = write_report(evaluation, tmp_path / "report")
    read = json.loads(js.read_text(), parse_constant=pytest.fail)
    assert len(read["measurements"]) == len(evaluation.measurements)
    for row in read["measurements"]:
        assert {"value", "n", "seed", "extractor"} <= row.keys()
        assert row["value"] is None or math.isfinite(row["value"])
    assert read["versions"]["torch"]
    page = html.read_text()
    assert "-3572" not in page  # published values are CIFAR-10's, and these are other data
    links = re.findall(r'(?:src|href)="([^"#][^"]*)"', page)
    assert all(link.startswith("data:image/png;base64,") for link in links)
    # Held-out images, samples and neighbors, before any figure.
    assert len(links) == 3
    assert page.index("<img") < page.index("<h2")
    HTMLParser().feed(page)


def test_published_values_stand_beside_cifar10_alone_and_say_so(context: Context, tmp_path: Path):
    cifar10 = dataclasses.replace(context.training, name="cifar10")
    evaluation = run(dataclasses.replace(context, training=cifar10), "parzen")
    page = write_report(evaluation, tmp_path)[0].read_text()
    assert "-3572" in page
    assert page.count("published, not measured here") == 3


def test_the_same_seed_repeats_and_another_does_not(context: Context):
    first, again, other = (
        run(dataclasses.replace(context, seed=seed), "parzen", "multiscale-parzen").measurements
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first[-1].value != other[-1].value


def test_larger_images_are_cropped_as_in_training(cascade: Cascade):
    data = cascade.recipe.data.model_copy(update={"crop": "corners"})
    cascade.recipe = cascade.recipe.model_copy(update={"data": data})
    model = EvaluatedModel("tiny", cascade=cascade)
    evaluation = run(Context([model], photos(200, 1, 15), photos(60, 2, 15), COUNTS), "parzen")
    assert find(evaluation, TRAINING, "parzen").details["dimension"] == 3 * 12 * 12


@pytest.mark.parametrize(
    ("metric", "change", "message"),
    [
        ("fd", {}, "fd-lite0: 24 .* images are too few: a covariance of 1280"),
        ("inception-score", {}, "needs --extractor inception"),
        ("parzen", {"counts": dataclasses.replace(COUNTS, samples=201)}, "200 training images, ex"),
        ("dependence", {"held_out": photos(100, 3)}, "100 images are too few for n = 64"),
        ("parzen", {"held_out": photos(3, 3)}, "3 held-out images, expected at least 4"),
        ("parzen", {"training": photos(200, 3, 10)}, "are 10x10, too small for crops of 12x12"),
        ("parzen", {"training": photos(200, 3, 25)}, "crops of that size do not cover them"),
        ("parzen", {"training": photos(200, 3, 15)}, "its recipe takes no crops"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    metric: str,
    change: dict[str, object],
    message: str,
):
    monkeypatch.setattr(Cascade, "stream", lambda *_: pytest.fail("worked before it checked"))
    with pytest.raises(LapganError, match=message):
        run(dataclasses.replace(context, **change), metric)  # type: ignore[arg-type]


def test_a_class_with_too_few_images_is_refused_before_any_work(
    cascade_with_classes: Cascade,
    training: Images,
    held_out: Images,
    monkeypatch: pytest.MonkeyPatch,
):
    model = EvaluatedModel("tiny", cascade=cascade_with_classes)
    counts = dataclasses.replace(COUNTS, samples=10)
    monkeypatch.setattr(Cascade, "stream", lambda *_: pytest.fail("worked before it checked"))
    with pytest.raises(LapganError, match="class dog: kid-lite0: 3 generated images are too few"):
        run(Context([model], training, held_out, counts), "classes")


def test_only_as_many_samples_are_made_as_the_metrics_need(
    context: Context, monkeypatch: pytest.MonkeyPatch
):
    counts: list[int] = []
    stream = Cascade.stream
    monkeypatch.setattr(
        Cascade, "stream", lambda self, n, seed: counts.append(n) or stream(self, n, seed)
    )
    many = dataclasses.replace(context, counts=dataclasses.replace(COUNTS, samples=128))
    run(many, "multiscale-parzen")
    assert counts == [64]


def test_two_models_of_one_name_are_refused(cascade: Cascade, training: Images, held_out: Images):
    models = [EvaluatedModel("tiny", cascade=cascade), EvaluatedModel("tiny", source=training)]
    with pytest.raises(LapganError, match="two models have this name"):
        run(Context(models, training, held_out, COUNTS), "parzen")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["parzan"]}, "--metrics parzan: expected one of parzen, "),
        ({"scale": "grey"}, "--scale grey: expected one of standardised, unit, symmetric"),
        ({"extractors": ["vgg"]}, "--extractor vgg: expected one of lite0, inception"),
        ({"metrics": ["inception-score"]}, "needs --extractor inception"),
    ],
)
def test_unknown_names_are_told_the_known_ones(
    cascade: Cascade, tmp_path: Path, options: dict[str, object], message: str
):
    cascade.save(tmp_path / "tiny.safetensors")
    with pytest.raises(LapganError, match=message):
        evaluate(
            EvaluationConfig([str(tmp_path / "tiny.safetensors")], "dead-leaves:40", **options)
        )  # type: ignore[arg-type]


def test_models_are_named_and_opened(cascade: Cascade, tmp_path: Path):
    cascade.save(tmp_path / "tiny.safetensors")
    compute = choose_compute("cpu")
    assert open_model(str(tmp_path / "tiny.safetensors"), compute).name == "tiny"
    assert open_model(f"mine={tmp_path / 'tiny.safetensors'}", compute).name == "mine"
    other = open_model("theirs=dead-leaves:30", compute)
    assert other.source is not None
    assert other.sample(30, 0).shape == (30, 3, *other.size)
    with pytest.raises(LapganError, match="nowhere: there is no such file"):
        open_model(str(tmp_path / "nowhere"), compute)


def test_a_model_may_choose_among_candidates(cascade_with_classes: Cascade, tmp_path: Path):
    section = ClassifierSection(level="12", maps=4)
    cascade_with_classes.guide = ClassifierGuide(section, section.build(3))
    cascade_with_classes.save(tmp_path / "tiny.safetensors")
    model = open_model(str(tmp_path / "tiny.safetensors"), choose_compute("cpu"), 4)
    assert model.name == "tiny (best of 4)"
    expected = cascade_with_classes.best_of(4).sample(9, seed=2)
    assert torch.equal(model.sample(9, seed=2), expected)
    assert not torch.equal(expected, cascade_with_classes.sample(9, seed=2))


def test_a_path_with_an_equals_sign_is_a_path(cascade: Cascade, tmp_path: Path):
    compute, path = choose_compute("cpu"), tmp_path / "lr=0.1" / "tiny.safetensors"
    path.parent.mkdir()
    cascade.save(path)
    assert open_model(str(path), compute).name == "tiny"
    assert open_model(f"mine={path}", compute).name == "mine"


def test_a_folder_of_classes_is_judged_by_images_of_all_of_them():
    pixels = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None, None], (200, 3, 4, 4))
    labels = np.repeat(np.arange(10), 20)
    source = Images(pixels, labels, tuple("abcdefghij"), "folder", "f" * 8)
    model = EvaluatedModel("folder", source=source)
    drawn = model.sample(40, seed=0)[:, 0, 0, 0].tolist()
    assert len(set(drawn)) == 40
    assert len({color // 20 for color in drawn}) >= 9
    assert drawn != model.sample(40, seed=1)[:, 0, 0, 0].tolist()
    assert torch.equal(model.sample(200, seed=0), torch.from_numpy(pixels.copy()))


def test_the_report_says_when_only_some_images_were_used(
    training: Images, held_out: Images, tmp_path: Path
):
    model = EvaluatedModel("folder", source=training)
    evaluation = run(Context([model], training, held_out, COUNTS), "parzen")
    page = write_report(evaluation, tmp_path)[0].read_text()
    assert "folder: 24 of 200 images, drawn by seed 0." in page
    assert evaluation.pictures[0].caption.startswith("real held-out images")
    assert evaluation.pictures[1].caption == "folder: 24 of 24 of 200 images, drawn by seed 0"


def test_a_report_that_cannot_be_written_is_refused_before_any_work(
    cascade: Cascade, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cascade.save(tmp_path / "tiny.safetensors")
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr(Cascade, "stream", lambda *_: pytest.fail("worked before it checked"))
    command = ["evaluate", str(tmp_path / "tiny.safetensors"), "--data", "dead-leaves:40"]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "file" / "report")])
    assert result.exit_code == 1
    assert "cannot be written" in str(result.exception or result.output)
    check_report_folder(tmp_path / "new" / "report")
    assert not (tmp_path / "new").exists()


def test_few_images_lower_the_counts():
    few = SampleCounts().limit_to(training=2000, held_out=300)
    assert (few.test, few.validation, few.multiscale, few.pairs) == (225, 75, 150, 150)
    assert few.fit == 2000
    expected = dataclasses.replace(SampleCounts(), test=9_000, neighbor_candidates=50_000)
    assert SampleCounts().limit_to(50_000, 10_000) == expected


def test_the_frechet_distance_is_left_out_by_default_where_it_is_mostly_bias(context: Context):
    def usual(**changes: object) -> set[str]:
        changed = dataclasses.replace(context, **changes)  # type: ignore[arg-type]
        return {metric.name for metric in choose_usual_metrics(changed)}

    few, many = (usual(counts=SampleCounts(samples=n)) for n in (1000, 10_000))
    assert ("fd" in few, "fd" in many) == (False, True)
    assert not {"inception-score", "entropy", "noise", "swd"} & many
    every = {metric.name for metric in load_metrics()}
    enough = SampleCounts(pairs=64)
    assert "dependence" not in usual(counts=SampleCounts(pairs=128))
    assert usual(counts=enough, extractor_names=["inception"]) == every - {
        "entropy",
        "noise",
        "swd",
    }


@pytest.mark.parametrize("module", METRICS)
def test_every_metric_is_found_by_its_name_and_has_a_section_of_its_name(module: str):
    metric = import_module(f"lapgan.evaluation.metrics.{module}").METRIC
    assert find_metrics([f" {metric.name} "]) == [metric]
    same = {m.section for m in load_metrics() if m.section.name == metric.section.name}
    assert same == {metric.section}


def test_metrics_are_measured_in_their_own_order():
    names = [metric.name for metric in find_metrics(["neighbours", "kid", "parzen"])]
    assert names == ["parzen", "kid", "neighbours"]


def test_the_report_shows_every_measurement(context: Context, tmp_path: Path):
    evaluation = run(context, "parzen", "multiscale-parzen", "kid", "dependence")
    page = write_report(evaluation, tmp_path)[0].read_text()
    for title in ("Log-likelihood", "Scores on features", "Dependence on the level below"):
        assert page.count(f"<h2>{title}</h2>") == 1
    assert "<h2>By class</h2>" not in page
    rows = (
        page.count('<tr><th scope="row">')
        - len(evaluation.settings["counts"])
        - len(evaluation.versions)
    )
    beside = {m.metric for m in evaluation.measurements if m.section == "dependence"}
    others = [m for m in evaluation.measurements if m.section != "dependence"]
    assert rows == len(others) + len(beside)


def test_what_is_remembered_is_computed_once_until_it_is_forgotten(context: Context):
    calls: list[int] = []

    def compute(value: int) -> int:
        calls.append(value)
        return value + 1

    (model,) = context.models
    assert [context.remember(model, compute, 1) for _ in range(3)] == [2, 2, 2]
    assert context.remember(model, compute, 5) == 6
    assert context.remember((12, 12), compute, 1) == 2
    context.forget(model)
    context.remember(model, compute, 1)
    context.remember((12, 12), compute, 1)
    assert calls == [1, 5, 1, 1]
