"""The whole evaluation on tiny models: what stands in it, and what is refused beforehand."""

import dataclasses
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from lapgan.cascade import Cascade
from lapgan.compute import choose_compute
from lapgan.data import Images
from lapgan.errors import LapganError
from lapgan.evaluation.measurement import Measurement
from lapgan.evaluation.plan import METRICS, Counts, Plan, make_config, usual_metrics
from lapgan.evaluation.report import write_report
from lapgan.evaluation.subject import Subject, open_subject
from lapgan.evaluation.suite import CENTROIDS, HELD_OUT, TRAINING, Evaluation, evaluate
from lapgan.recipe import ClassifierRecipe
from lapgan.selection import Selector

COUNTS = Counts(
    samples=24, test=40, validation=16, multiscale=8, draws=4, fit=100, centroids=10, pairs=64,
    critic=128, judged=8, searched=80, coded=20,
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


def plan_of(subjects: list[Subject], training: Images, held_out: Images, *metrics: str) -> Plan:
    return Plan(subjects, training, held_out, metrics, COUNTS)  # type: ignore[arg-type]


def find(evaluation: Evaluation, subject: str, metric: str) -> Measurement:
    (found,) = [m for m in evaluation.measurements if (m.subject, m.metric) == (subject, metric)]
    return found


def test_a_model_that_gives_its_training_images_scores_as_they_do(
    training: Images, held_out: Images
):
    parrot = Subject("parrot", source=training)
    metrics = ("parzen", "precision-recall", "neighbours")
    told: list[Measurement] = []
    found = evaluate(plan_of([parrot], training, held_out, *metrics), told.append)
    assert told == found.measurements
    assert find(found, "parrot", "parzen").value == find(found, TRAINING, "parzen").value
    assert find(found, "parrot", "precision-lite0").value == 1
    for space in ("pixels", "lite0"):
        copies = find(found, "parrot", f"nearest-neighbour ratio by {space}")
        assert copies.value == pytest.approx(0, abs=1e-3)
        assert copies.details["copies"] == 1
    assert find(found, HELD_OUT, "recall-lite0").value > 0.5


def test_every_metric_of_a_cascade_with_classes(
    cascade_with_classes: Cascade, training: Images, held_out: Images, tmp_path: Path
):
    metrics = [m for m in METRICS if m not in ("fd", "inception-score")]
    subject = Subject("tiny", cascade=cascade_with_classes)
    evaluation = evaluate(plan_of([subject], training, held_out, *metrics))
    mine = {m.metric for m in evaluation.measurements if m.subject == "tiny"}
    assert {"parzen", "multiscale-parzen", "multiscale-parzen level 12x12", "kid-lite0",
            "kid-lite0 of class cat", "class agreement by lite0", "coverage-lite0",
            "distance ratio at 12x12",
            "share of noise in the residual at 12x12"} <= mine  # fmt: skip
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
    assert len(links) == 2
    HTMLParser().feed(page)


def test_published_values_stand_beside_cifar10_alone_and_say_so(
    cascade: Cascade, training: Images, held_out: Images, tmp_path: Path
):
    named = dataclasses.replace(training, name="cifar10")
    plan = plan_of([Subject("tiny", cascade=cascade)], named, held_out, "parzen")
    page = write_report(evaluate(plan), tmp_path)[0].read_text()
    assert "-3572" in page
    assert page.count("published, not measured here") == 3


def test_the_same_seed_repeats_and_another_does_not(
    cascade: Cascade, training: Images, held_out: Images
):
    plan = plan_of([Subject("tiny", cascade=cascade)], training, held_out,
                   "parzen", "multiscale-parzen")  # fmt: skip
    first, again, other = (
        evaluate(dataclasses.replace(plan, seed=seed)).measurements for seed in (0, 0, 1)
    )
    assert first == again
    assert first[-1].value != other[-1].value


def test_larger_images_are_cropped_as_in_training(
    cascade: Cascade, training: Images, held_out: Images
):
    data = cascade.recipe.data.model_copy(update={"crop": "corners"})
    cascade.recipe = cascade.recipe.model_copy(update={"data": data})
    plan = plan_of([Subject("tiny", cascade=cascade)], photos(200, 1, 15), photos(60, 2, 15),
                   "parzen")  # fmt: skip
    assert find(evaluate(plan), TRAINING, "parzen").details["dimension"] == 3 * 12 * 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": ("fd",)}, "fd-lite0: 24 .* images are too few: a covariance of 1280"),
        ({"metrics": ("inception-score",)}, "needs --extractor inception"),
        ({"counts": dataclasses.replace(COUNTS, samples=190)}, "200 training images, expected"),
        ({"training": photos(200, 3, 10)}, "images are 10x10, too small for crops of 12x12"),
        ({"training": photos(200, 3, 25)}, "crops of that size do not cover them"),
        ({"training": photos(200, 3, 15)}, "its recipe takes no crops"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    cascade: Cascade,
    training: Images,
    held_out: Images,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, object],
    message: str,
):
    plan = plan_of([Subject("tiny", cascade=cascade)], training, held_out, "parzen")
    monkeypatch.setattr(Cascade, "blocks", lambda *_: pytest.fail("worked before it checked"))
    with pytest.raises(LapganError, match=message):
        evaluate(dataclasses.replace(plan, **change))  # type: ignore[arg-type]


def test_only_as_many_samples_are_made_as_the_metrics_need(
    cascade: Cascade, training: Images, held_out: Images, monkeypatch: pytest.MonkeyPatch
):
    made: list[int] = []
    blocks = Cascade.blocks
    monkeypatch.setattr(
        Cascade, "blocks", lambda self, n, seed: made.append(n) or blocks(self, n, seed)
    )
    plan = plan_of([Subject("tiny", cascade=cascade)], training, held_out, "multiscale-parzen")
    many = dataclasses.replace(plan, counts=dataclasses.replace(COUNTS, samples=128))
    evaluate(many)
    assert made == [64]


def test_two_models_of_one_name_are_refused(cascade: Cascade, training: Images, held_out: Images):
    subjects = [Subject("tiny", cascade=cascade), Subject("tiny", source=training)]
    with pytest.raises(LapganError, match="two models have this name"):
        evaluate(plan_of(subjects, training, held_out, "parzen"))


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
        make_config([str(tmp_path / "tiny.safetensors")], "dead-leaves:40", **options)  # type: ignore[arg-type]


def test_models_are_named_and_opened(cascade: Cascade, tmp_path: Path):
    cascade.save(tmp_path / "tiny.safetensors")
    compute = choose_compute("cpu")
    assert open_subject(str(tmp_path / "tiny.safetensors"), compute).name == "tiny"
    assert open_subject(f"mine={tmp_path / 'tiny.safetensors'}", compute).name == "mine"
    other = open_subject("theirs=dead-leaves:30", compute)
    assert other.source is not None
    assert other.images(30, 0).shape == (30, 3, *other.size)
    with pytest.raises(LapganError, match="nowhere: there is no such file"):
        open_subject(str(tmp_path / "nowhere"), compute)


def test_a_model_may_choose_among_candidates(cascade_with_classes: Cascade, tmp_path: Path):
    chooser = ClassifierRecipe(level="12", maps=4)
    cascade_with_classes.selector = Selector(chooser, chooser.build(3))
    cascade_with_classes.save(tmp_path / "tiny.safetensors")
    subject = open_subject(str(tmp_path / "tiny.safetensors"), choose_compute("cpu"), 4)
    assert subject.name == "tiny (best of 4)"
    expected = cascade_with_classes.best_of(4).sample(9, seed=2)
    assert torch.equal(subject.images(9, seed=2), expected)
    assert not torch.equal(expected, cascade_with_classes.sample(9, seed=2))


def test_few_images_lower_the_counts():
    few = Counts().within(training=2000, held_out=300)
    assert (few.test, few.validation, few.multiscale, few.pairs) == (300, 500, 300, 150)
    assert few.fit == 1500
    assert Counts().within(50_000, 10_000) == dataclasses.replace(Counts(), searched=49_000)


def test_the_frechet_distance_is_left_out_by_default_where_it_is_mostly_bias():
    few, many = (usual_metrics(["lite0"], Counts(samples=n)) for n in (1000, 10_000))
    assert ("fd" in few, "fd" in many) == (False, True)
    assert not {"inception-score", "entropy"} & set(many)
    assert {*usual_metrics(["inception"], Counts()), "entropy"} == set(METRICS)
