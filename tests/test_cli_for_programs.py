"""The command line as other programs use it: JSON, exit statuses, completion by the shell."""

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from lapgan import recipe, runs
from lapgan.cli import app, main
from lapgan.compute import choose_compute
from lapgan.data import open_images
from lapgan.errors import LapganError
from lapgan.evaluation import EvaluationConfig, report, suite
from lapgan.evaluation.measurement import Measurement
from lapgan.evaluation.suite import Evaluation
from lapgan.recipe import Recipe, check_recipe, read_recipe, recipe_names
from lapgan.training import speed
from lapgan.training.level import LevelTask
from lapgan.training.speed import measure_speeds
from lapgan.weights import pretrained_names

RUN = Path(__file__).parent / "formats" / "run"


def ask(*arguments: str | Path) -> Any:
    """Runs a command with --json; its output must be one JSON document and nothing else."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    if result.exception is not None:
        raise result.exception
    return json.loads(result.stdout)


def test_info_counts_what_the_recipe_builds():
    content = ask("info", RUN)
    built = check_recipe(content["recipe"], "of info")
    for level in content["levels"]:
        generator = built.level(level["name"]).build_generator(0)
        # Buffers are stored with the parameters.
        assert level["parameters"] == sum(t.numel() for t in generator.state_dict().values())
        assert level["training"]["images_seen"] == 16
    assert content["missing"] == []


def test_recipes_are_whole():
    recipes = ask("recipes")
    assert [content["name"] for content in recipes] == recipe_names()
    [content] = ask("recipes", "photos64")
    assert check_recipe(content, "printed") == read_recipe("photos64")


def test_the_cache_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LAPGAN_CACHE", str(tmp_path))
    open_images("dead-leaves:3")
    content = ask("cache")
    assert content["folder"] == str(tmp_path)
    [entry] = content["entries"]
    assert entry["shape"] == [3, 3, 32, 32]
    assert Path(entry["path"], "pixels.npy").is_file()


def test_an_evaluation_prints_what_its_report_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    measured = [
        Measurement("theirs", "parzen", 1.5, None, n=24, seed=0, unit="nats"),
        Measurement("theirs", "fd", float("inf"), 0.5, n=24, seed=0),
    ]

    def evaluate(config: EvaluationConfig, callback: Callable[[Measurement], None]) -> Evaluation:
        for measurement in measured:
            callback(measurement)
        return Evaluation(measured, [], {"models": list(config.models)}, {})

    monkeypatch.setattr(suite, "evaluate", evaluate)
    monkeypatch.setattr(report, "render_html", lambda evaluation: "")
    out = tmp_path / "report"
    content = ask("evaluate", "theirs=images", "--data", "cifar10", "--out", out)
    assert content["settings"] == {"models": ["theirs=images"]}
    assert [row["value"] for row in content["measurements"]] == [1.5, None]
    assert content == json.loads((out / "report.json").read_text())


def test_doctor_describes_the_machine_and_measures_a_recipe(
    tiny: Recipe, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recipe, "read_recipe", lambda name, overrides: tiny)
    content = ask("doctor", "tiny", "--seconds", "0")
    assert content["versions"]["torch"] == torch.__version__
    assert content["cores"] == len(os.sched_getaffinity(0))
    # Everything is installed where the tests run.
    assert content["extras"]["study"] == []
    assert [level["name"] for level in content["levels"]] == ["6x8", "12"]
    for level in content["levels"]:
        expected = level["images"] / level["images_per_second"] / 60
        assert level["minutes"] == pytest.approx(expected, abs=0.01)
    assert ask("doctor")["levels"] == []


def test_the_speed_of_a_level_is_that_of_whole_rounds_of_its_steps(
    tiny: Recipe, monkeypatch: pytest.MonkeyPatch
):
    # On a clock of our own: each third step, which has the penalty, takes 4 seconds, the others 1.
    now, step = [0.0], LevelTask.step

    def slow(task: LevelTask, state: Any) -> Any:
        now[0] += 4.0 if state.images_seen // 8 % 3 == 0 else 1.0
        return step(task, state)

    monkeypatch.setattr(LevelTask, "step", slow)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    content = tiny.model_dump(mode="json")
    content["training"]["penalty"] = {"weight": 1.0, "every": 3}
    changed = check_recipe(content, "tiny")
    coarse, fine = measure_speeds(changed, choose_compute("cpu", "float32"), seconds=7)
    assert (coarse.name, fine.name) == ("6x8", "12")
    assert coarse.images_per_second == fine.images_per_second == 3 * 8 / 6.0
    assert coarse.minutes == tiny.training.images / 4.0 / 60
    generator = changed.level("12").build_generator(0)
    assert fine.generator_parameters == sum(p.numel() for p in generator.parameters())


@pytest.mark.parametrize(
    ("incomplete", "expected"),
    [
        ("lapgan sample cifar", [n for n in pretrained_names() if n.startswith("cifar")]),
        ("lapgan train paper", [n for n in recipe_names() if n.startswith("paper")]),
        ("lapgan doc", ["doctor"]),
    ],
)
def test_the_shell_completes_commands_models_and_recipes(incomplete: str, expected: list[str]):
    words = incomplete.split()
    environment = {
        "_LAPGAN_COMPLETE": "complete_bash",
        "COMP_WORDS": incomplete,
        "COMP_CWORD": str(len(words) - 1),
    }
    result = CliRunner().invoke(app, [], env=environment, prog_name="lapgan")
    assert [line.strip() for line in result.stdout.splitlines()] == expected


def end_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    """Runs the command line and returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["lapgan", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


@pytest.mark.parametrize(
    ("cause", "status", "message"),
    [
        (None, 0, ""),
        (LapganError("dir: gone"), 1, "error: dir: gone"),
        (KeyboardInterrupt(), 130, ""),
        (SystemExit(143), 143, ""),
        (ZeroDivisionError("by zero"), 70, "This is a fault in lapgan"),
    ],
)
def test_every_kind_of_end_has_its_status(
    cause: BaseException | None,
    status: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def find(folder: Path) -> list[Path]:
        if cause is not None:
            raise cause
        return []

    monkeypatch.setattr(runs, "find_runs", find)
    assert end_main(monkeypatch, "runs", ".") == status
    output = capsys.readouterr()
    assert message in output.err
    assert ("Traceback" in output.err) == (status == 70)


def test_a_wrong_command_line_has_its_own_status(monkeypatch: pytest.MonkeyPatch):
    assert end_main(monkeypatch, "runs", ".", "--no-such-option") == 2
    assert end_main(monkeypatch, "no-such-command") == 2


def test_a_character_that_a_pipe_lacks_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "été").mkdir()
    monkeypatch.chdir(tmp_path)
    pipe = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(pipe, encoding="ascii"))
    assert end_main(monkeypatch, "runs", "été") == 0
    sys.stdout.flush()
    assert pipe.getvalue().startswith(b"?t?: no runs")
