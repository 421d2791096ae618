"""The best averaged G beside the last one: which it is, and that it is what samples come from."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from levels import after
from torch import Tensor, nn

from lapgan.cascade import Cascade
from lapgan.data import Images, open_images
from lapgan.errors import LapganError
from lapgan.evaluation.features import extract
from lapgan.evaluation.metrics import frechet
from lapgan.normalization import symmetric_normalization
from lapgan.recipe import Recipe, check_recipe
from lapgan.run_folder import PartFolder, RunFolder
from lapgan.selection import FrechetCriterion, ParzenCriterion, choose_criterion, parzen_score
from lapgan.training.callbacks import Callback
from lapgan.training.config import Budget, RunConfig
from lapgan.training.level import LevelTask
from lapgan.training.loop import train_task
from lapgan.training.run import train
from lapgan.training.selection import Score, ScoredLevel, Selection, open_held_out
from lapgan.weights import read_weights

DATA = "dead-leaves:40"


def wave(net: nn.Module) -> float:
    """A score that rises and falls as the weights move."""
    return math.sin(3000 * float(sum(p.double().sum() for p in net.parameters())))


@dataclass(frozen=True)
class Wave:
    name: ClassVar[str] = "wave"
    every: int = 16

    def prepare(self, target: ScoredLevel) -> Score:
        return wave


def scored(task: LevelTask, images: Images) -> ScoredLevel:
    return ScoredLevel(
        task.recipe, task.level, task.normalization, images, images, task.compute, task.seed
    )


def with_selection(task: LevelTask, images: Images, name: str) -> LevelTask:
    folder = PartFolder(task.folder.path.with_name(name))
    return replace(task, folder=folder, selection=Selection(Wave(), scored(task, images), folder))


def average_after(task: LevelTask, seen: int) -> nn.Module:
    """The averaged G of a run that was never scored; a longer run goes on with a shorter one."""
    folder = PartFolder(task.folder.path.with_name("unscored"))
    return train_task(replace(task, folder=folder, budget=Budget(seen)), Callback()).average


def test_the_best_of_the_scored_weights_is_kept_whether_or_not_the_run_was_stopped(
    task: LevelTask, images: Images
):
    truth = {seen: average_after(task, seen) for seen in (16, 32, 48, 64)}
    scores = {seen: wave(net) for seen, net in truth.items()}
    best = max(scores, key=lambda seen: scores[seen])
    straight = with_selection(task, images, "straight")
    train_task(straight, Callback())
    train_task(with_selection(task, images, "stopped"), Callback(), stopped=after(3))
    stopped = with_selection(task, images, "stopped")
    train_task(stopped, Callback())
    for each in (straight, stopped):
        weights = read_weights(each.folder.best)
        for name, tensor in truth[best].state_dict().items():
            assert torch.equal(weights.tensors[f"levels.12.generator.{name}"], tensor)
        assert weights.training["12"]["selection"] == {
            "by": "wave", "score": pytest.approx(scores[best]), "images_seen": best,
        }  # fmt: skip
        lines = [json.loads(line) for line in each.folder.scores.read_text().splitlines()]
        assert {line["images_seen"]: line["score"] for line in lines} == pytest.approx(scores)
        assert read_weights(each.folder.weights).training["12"]["images_seen"] == 64


def test_scores_leave_training_as_it_is(task: LevelTask, images: Images):
    folder = PartFolder(task.folder.path.with_name("scored"))
    selection = Selection(ParzenCriterion(8, images=10, draws=2), scored(task, images), folder)
    train_task(task, Callback())
    train_task(replace(task, folder=folder, selection=selection), Callback())
    plain, other = (read_weights(each.weights) for each in (task.folder, folder))
    assert all(torch.equal(plain.tensors[name], other.tensors[name]) for name in plain.tensors)


@pytest.fixture
def config(tiny: Recipe, run_folder: Path) -> RunConfig:
    content = tiny.model_dump(mode="json")
    levels = content["levels"]
    content["levels"] = {"32": levels["12"], "8": levels["6x8"]}
    recipe = check_recipe(content, "tiny")
    return RunConfig(recipe, run_folder, DATA, device="cpu", select=ParzenCriterion(16, 8, 4))


class Warnings(Callback):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def warned(self, message: str) -> None:
        self.messages.append(message)


def test_samples_come_from_the_selected_weights(config: RunConfig):
    cascade = train(config)
    assert cascade is not None
    folder = RunFolder(config.out).part("32")
    selected = read_weights(folder.best)
    for path in (config.out, RunFolder(config.out).cascade):
        net = Cascade.load(path).levels[0].generator.state_dict()
        for name, tensor in net.items():
            assert torch.equal(tensor, selected.tensors[f"levels.32.generator.{name}"])
    warnings = Warnings()
    train(replace(config, select=None, images=72), warnings)
    assert any("drawn from best.safetensors, which was selected by parzen" in message
               for message in warnings.messages)  # fmt: skip
    message = r"best\.safetensors: was selected by parzen, .* continue with --select parzen"
    with pytest.raises(LapganError, match=message):
        train(replace(config, select=Wave(), images=80))


def test_data_without_held_out_images_are_refused_before_anything_is_written(
    config: RunConfig, tmp_path: Path
):
    images = open_images(DATA)
    folder = tmp_path / "pictures"
    folder.mkdir()
    from PIL import Image

    for index in range(8):
        Image.fromarray(images.pixels[index].transpose(1, 2, 0)).save(folder / f"{index}.png")
    with pytest.raises(LapganError, match=r"--select parzen needs held-out images.*--hold-out"):
        train(replace(config, data=str(folder)))
    assert not config.out.exists()
    content = config.recipe.model_dump(mode="json") | {"data": {"hold_out": 4}}
    recipe = check_recipe(content, "tiny")
    held_out = open_held_out(Wave(), str(folder), images, recipe, "stop")
    assert held_out.pixels.shape == (4, 3, 32, 32)
    with pytest.raises(LapganError, match=r"--select best: expected one of parzen, fd"):
        choose_criterion("best", 1)


def test_the_score_is_the_log_density_of_a_gaussian_if_there_is_one_center():
    """-d/2 log(2 pi e s^2) if residuals deviate from it by s in each of d values."""
    torch.manual_seed(0)
    deviations = 0.3 * torch.randn(4000, 50).double()
    score = parzen_score(deviations.square().sum(dim=1, keepdim=True), 50, unit=1.0)
    assert score == pytest.approx(-25 * math.log(2 * math.pi * math.e * 0.09), abs=0.2)
    # A second center far away takes log 2, a second one at the same place nothing.
    squares = deviations.square().sum(dim=1, keepdim=True)
    assert parzen_score(squares.repeat(1, 2), 50, 1.0) == pytest.approx(score)
    far = torch.cat((squares, squares + 1e6), dim=1)
    assert parzen_score(far, 50, 1.0) == pytest.approx(score - math.log(2))


class Offset(nn.Module):
    """Residuals or images that are wrong by so much."""

    def __init__(self, truth: Tensor | None, by: float) -> None:
        super().__init__()
        self.truth, self.by = truth, by

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        if low is not None:
            return torch.full_like(low, self.by)
        assert self.truth is not None
        index = ((z[:, 0] + 1) / 2 * len(self.truth)).long().clamp(max=len(self.truth) - 1)
        return self.truth[index] + self.by


def extract_colors(images: Tensor, extractor: object, what: str = "") -> extract.Features:
    return extract.Features(images.float().mean(dim=(2, 3)))


@pytest.mark.parametrize("level", ["12", "6x8"])
@pytest.mark.parametrize("criterion", [ParzenCriterion(1, 10, 8), FrechetCriterion(1, 40)])
def test_a_generator_that_is_nearer_to_the_truth_has_the_better_score(
    task: LevelTask, images: Images, level: str, criterion: object, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(extract, "load_extractor", lambda name: None)
    monkeypatch.setattr(extract, "extract_features", extract_colors)
    monkeypatch.setattr(frechet, "check_pair", lambda *_: None)
    task = replace(task, level=task.recipe.level(level))
    truth = None
    if level == "6x8":
        normalize = symmetric_normalization((12, 12)).normalize
        from lapgan.pyramid import gaussian_pyramid

        pixels = torch.from_numpy(images.pixels.copy())
        truth = gaussian_pyramid(normalize(pixels), task.recipe.sizes)[-1]
    score = criterion.prepare(scored(task, images))
    scores = [score(Offset(truth, by)) for by in (0.0, 0.1, 0.3)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[1] > scores[2]
    assert [score(Offset(truth, by)) for by in (0.0, 0.1, 0.3)] == scores


def test_too_few_held_out_images_are_refused(task: LevelTask, images: Images):
    few = replace(images, pixels=images.pixels[:7], labels=images.labels[:7])
    with pytest.raises(LapganError, match="7 held-out images are too few to select by"):
        ParzenCriterion().prepare(replace(scored(task, images), held_out=few))
