"""The table of runs, from folders as `train` leaves them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from lapgan.cli import app
from lapgan.data import Images
from lapgan.errors import LapganError
from lapgan.recipe import Recipe
from lapgan.run_folder import RunFolder
from lapgan.runs import PartSummary, find_runs, summarize_run
from lapgan.training.callbacks import Callback
from lapgan.training.config import RunConfig
from lapgan.training.run import train

FORMATS = Path(__file__).parent / "formats"
WORDS = {"loss_d": 0.5, "loss_g": 1.25, "real_accuracy": 0.75, "fake_accuracy": 1.0}


@pytest.fixture
def run_of(tmp_path: Path, tiny: Recipe):
    """Makes a run folder: the records and the budget of each level that has begun."""

    def make(name: str, **levels: tuple[list[dict[str, float]], dict[str, float | None]]) -> Path:
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir(parents=True)
        identity = {
            "recipe": tiny.model_dump(mode="json"),
            "seed": 3,
            "data": {"name": "gradients", "fingerprint": "f"},
            "precision": "float32",
        }
        folder.identity.write_text(json.dumps(identity))
        for level, (records, limits) in levels.items():
            part = folder.part(level.removeprefix("_"))
            part.path.mkdir()
            part.log.write_text("".join(json.dumps(record) + "\n" for record in records))
            part.budget.write_text(json.dumps(limits))
        return folder.path

    return make


def record(images: int, seconds: float) -> dict[str, float]:
    return {"images_seen": images, "seconds": seconds, **WORDS}


def parts_of(path: Path) -> dict[str, PartSummary]:
    return {part.name: part for part in summarize_run(path).parts}


def test_a_level_is_finished_when_either_limit_is_reached(run_of):
    enough, few = [record(10, 1.0), record(64, 90.0)], [record(63, 59.0)]
    for limits in ({"images": 64, "seconds": None}, {"images": None, "seconds": 90.0}):
        run = run_of(str(limits)[:12], _12=(enough, limits), **{"6x8": (enough, limits)})
        assert summarize_run(run).state == "finished"
    half = run_of("half", _12=(few, {"images": 126, "seconds": 6000}))
    summary = summarize_run(half)
    assert [(part.name, part.state) for part in summary.parts] == [
        ("12", "interrupted"),
        ("6x8", "waiting"),
    ]
    assert summary.state == "interrupted"
    assert summary.parts[0].fraction == 0.5
    assert (summary.images_seen, summary.seconds) == (63, 59.0)


def test_a_run_is_training_while_a_process_holds_a_part(run_of):
    run = run_of("run", _12=([record(64, 1.0)], {"images": 64, "seconds": None}))
    lock = RunFolder(run).part("12").lock
    with FileLock(lock):
        assert parts_of(run)["12"].state == "training"
        assert summarize_run(run).state == "training"
    assert parts_of(run)["12"].state == "finished"


def test_what_train_leaves_is_read(tiny: Recipe, images: Images, tmp_path: Path):
    np.savez(tmp_path / "data.npz", images=images.pixels.transpose(0, 2, 3, 1))
    config = RunConfig(tiny, tmp_path / "run", data=str(tmp_path / "data.npz"), levels=("6x8",))
    train(config, Callback())
    parts = parts_of(config.out)
    assert {name: part.state for name, part in parts.items()} == {
        "12": "waiting",
        "6x8": "finished",
    }
    assert parts["6x8"].images_seen == tiny.training.images
    # More was asked for since: the budget is that of the last command.
    train(replace(config, images=128, minutes=1e-9), Callback())
    assert parts_of(config.out)["6x8"].state == "finished"
    RunFolder(config.out).part("6x8").budget.write_text('{"images": 128, "seconds": null}')
    assert parts_of(config.out)["6x8"].fraction == 0.5


def test_a_run_of_the_first_format_is_measured_by_its_recipe():
    summary = summarize_run(FORMATS / "run")
    assert summary.recipe == "tiny-patch"
    # Half of the 32 images of the recipe.
    assert [(part.images_seen, part.fraction) for part in summary.parts[:1]] == [(16, 0.5)]
    assert summary.state == "interrupted"


def test_runs_are_found_at_any_depth_and_not_within_each_other(run_of, tmp_path: Path):
    inner, outer = run_of("a/b/inner"), run_of("outer")
    shutil.copytree(inner, outer / "copy")
    shutil.copytree(inner, tmp_path / ".hidden")
    assert find_runs(tmp_path) == [inner, outer]
    assert find_runs(outer) == [outer]
    with pytest.raises(LapganError, match="no such folder"):
        find_runs(tmp_path / "none")


def test_the_table_has_a_line_per_run_and_leaves_damaged_ones_out(run_of, tmp_path: Path):
    run_of("b", _12=([record(2000, 90.0)], {"images": 2000, "seconds": None}))
    (run_of("damaged") / "run.json").write_text('{"recipe": 3}')
    run_of("a")
    result = CliRunner().invoke(app, ["runs", str(tmp_path)])
    assert result.exit_code == 0
    assert [" ".join(line.split()) for line in result.stdout.splitlines()] == [
        "run recipe state levels images minutes last figures",
        "a tiny interrupted 0/2 0 0.0",
        "b tiny interrupted 1/2 2,000 1.5 "
        "level 12: loss D 0.50 G 1.25, D right on real 75% fake 100%",
    ]
    assert "left out: " in result.stderr
    assert "damaged" in result.stderr
    printed = CliRunner().invoke(app, ["runs", str(tmp_path), "--json"]).stdout
    a, b = json.loads(printed)
    assert (a["path"], a["parts"][0]["state"]) == (str(tmp_path / "a"), "waiting")
    assert (b["minutes"], b["parts"][0]["figures"]["loss_g"]) == (1.5, 1.25)


def test_a_folder_without_runs_says_how_to_make_one(tmp_path: Path):
    assert "lapgan train" in CliRunner().invoke(app, ["runs", str(tmp_path)]).stdout
    assert CliRunner().invoke(app, ["runs", str(tmp_path), "--json"]).stdout == "[]\n"
    with pytest.raises(LapganError, match=r"no run folder \(no run\.json\)"):
        summarize_run(tmp_path)
