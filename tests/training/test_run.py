import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor

from lapgan.cascade import Cascade
from lapgan.errors import LapganError
from lapgan.recipe import Recipe, check_recipe, read_recipe
from lapgan.run_folder import RunFolder
from lapgan.training.callbacks import Callback
from lapgan.training.config import Budget, LogIntervals, RunConfig
from lapgan.training.log import Record
from lapgan.training.run import choose_run_compute, plan, train

DATA = "dead-leaves:40"


@pytest.fixture
def config(tiny: Recipe, run_folder: Path) -> RunConfig:
    content = tiny.model_dump(mode="json")
    levels = content["levels"]
    content["levels"] = {"32": levels["12"], "8": levels["6x8"]}
    return RunConfig(check_recipe(content, "tiny"), run_folder, DATA, device="cpu")


def states(folder: Path) -> dict[str, dict[str, Tensor]]:
    return {
        path.parent.name: safetensors.torch.load_file(path)
        for path in sorted(folder.glob("level-*/state.safetensors"))
    }


def assert_same_states(a: Path, b: Path) -> None:
    one, other = states(a), states(b)
    assert one.keys() == other.keys() == {"level-32", "level-8"}
    for level in one:
        assert one[level].keys() == other[level].keys()
        for name, tensor in one[level].items():
            assert torch.equal(tensor, other[level][name]), (level, name)


def test_a_run_trains_every_level_into_a_cascade(config: RunConfig):
    cascade = train(config, Callback())
    assert cascade is not None
    saved = Cascade.load(config.out / "cascade.safetensors")
    assert torch.equal(saved.sample(4), Cascade.load(config.out).sample(4))
    assert {figures["images_seen"] for figures in saved.training.values()} == {64}
    assert (config.out / "samples.png").exists()


def test_single_levels_make_the_same_cascade(config: RunConfig):
    train(config, Callback())
    single = replace(config, out=config.out.with_name("single"))
    assert train(replace(single, levels=("32",)), Callback()) is None
    assert not (single.out / "samples.png").exists()
    assert train(replace(single, levels=("8",)), Callback()) is not None
    assert_same_states(config.out, single.out)


@pytest.mark.slow
def test_levels_side_by_side_make_the_same_cascade(config: RunConfig):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(config, Callback())
    finally:
        torch.set_num_threads(threads)
    parallel = replace(config, out=config.out.with_name("parallel"), jobs=2)
    starts: list[str] = []

    class Recorder(Callback):
        def started(self, part: str, images: int, seconds: float, budget: Budget) -> None:
            starts.append(part)

    assert train(parallel, Recorder()) is not None
    assert sorted(starts) == ["32", "8"]
    if (os.cpu_count() or 1) <= 3:
        # With more cores each level has several threads, which may add in another order.
        assert_same_states(config.out, parallel.out)


def test_a_folder_of_another_run_is_refused(config: RunConfig):
    train(replace(config, images=8), Callback())
    changed = check_recipe(
        config.recipe.model_dump(mode="json") | {"training": {"batch": 16}}, "tiny"
    )
    for other, message in (
        (replace(config, recipe=changed), r"recipe\.training\.batch \(there 8, here 16\)"),
        (replace(config, seed=3), r"seed \(there 0, here 3\)"),
        (replace(config, data="dead-leaves:50"), r"data\.fingerprint"),
        (replace(config, precision=other_precision(config)), "precision"),
    ):
        with pytest.raises(LapganError, match=message):
            train(other, Callback())
        with pytest.raises(LapganError, match=message):
            list(plan(other))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of twelve pictures of 32x32."""
    random = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for index in range(12):
        pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{index}.png")
    return tmp_path / "pictures"


def test_a_run_continues_with_the_same_pictures_however_they_are_found(
    config: RunConfig, pictures: Path, monkeypatch: pytest.MonkeyPatch
):
    train(replace(config, data=str(pictures), images=8), Callback())
    monkeypatch.chdir(pictures.parent)
    train(replace(config, data="./pictures", images=16), Callback())
    moved = pictures.rename(pictures.parent / "pics")
    (moved / "bad.png").write_text("no image")
    cascade = train(replace(config, data="pics", images=24, on_invalid="skip"), Callback())
    assert cascade is not None
    assert {figures["images_seen"] for figures in cascade.training.values()} == {24}
    (moved / "0.png").unlink()
    with pytest.raises(LapganError, match=r"data\.content .*data\.fingerprint"):
        train(replace(config, data="pics", images=32, on_invalid="skip"), Callback())


def test_a_run_whose_folder_holds_no_content_continues(config: RunConfig):
    train(replace(config, images=8), Callback())
    content = recorded(config)
    del content["data"]["content"]
    (config.out / "run.json").write_text(json.dumps(content))
    assert train(replace(config, images=16), Callback()) is not None


def test_nets_that_do_not_fit_are_refused_before_the_first_level_is_trained(config: RunConfig):
    content = config.recipe.model_dump(mode="json")
    content["levels"]["32"]["discriminator"] = {"kind": "modern-patch", "patch": 3}
    wrong = replace(config, recipe=check_recipe(content, "tiny"))
    with pytest.raises(LapganError, match=r"recipe tiny: levels\.32: patches of 3x3 do not fill"):
        train(wrong, Callback())
    assert not config.out.exists()


@pytest.mark.parametrize("units", [10**12, 10**18])
def test_nets_that_fit_no_memory_are_refused_before_anything_is_written(
    config: RunConfig, units: int
):
    content = config.recipe.model_dump(mode="json")
    content["levels"]["8"]["generator"]["units"] = units
    with pytest.raises(LapganError, match=r"levels\.8: the nets cannot be built in this machine's"):
        train(replace(config, recipe=check_recipe(content, "huge")), Callback())
    assert not config.out.exists()


def test_pictures_of_a_wrong_size_are_refused_before_they_are_decoded(
    config: RunConfig, pictures: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("lapgan.data.reading.decode", None)
    content = config.recipe.model_dump(mode="json")
    content["levels"] = {"12": content["levels"]["32"], "8": content["levels"]["8"]}
    wrong = replace(config, recipe=check_recipe(content, "tiny"), data=str(pictures))
    with pytest.raises(
        LapganError, match=r"are 32x32, .* is 12x12\. .*`lapgan prepare --size 12x12`"
    ):
        train(wrong, Callback())


def test_a_run_folder_within_the_data_is_refused(config: RunConfig, pictures: Path):
    with pytest.raises(LapganError, match=r"lies in the folder of the data .*outside of it"):
        train(replace(config, data=str(pictures), out=pictures / "run"), Callback())
    assert not (pictures / "run").exists()


def test_what_was_found_in_the_data_is_told_first(config: RunConfig):
    calls: list[str] = []

    class Recorder(Callback):
        def opened(self, data: str) -> None:
            calls.append(data)

        def started(self, part: str, images: int, seconds: float, budget: Budget) -> None:
            calls.append(part)

    train(replace(config, images=8), Recorder())
    assert calls == ["data: dead-leaves, 40 images of 32x32, no classes", "8", "32"]


def recorded(config: RunConfig) -> dict[str, Any]:
    """What the run's folder says of it."""
    content = json.loads((config.out / "run.json").read_text())
    assert isinstance(content, dict)
    return content


def other_precision(config: RunConfig) -> str:
    """The precision in which a run was not begun."""
    return {"float32": "bfloat16", "bfloat16": "float32"}[recorded(config)["precision"]]


def test_a_run_of_an_earlier_version_continues(config: RunConfig):
    """Its run.json has no precision, an exposure, the objective as a name, and less keys."""
    train(replace(config, images=8), Callback())
    content = recorded(config)
    del content["precision"], content["start_from"]
    training = content["recipe"]["training"]
    del training["generator_delay"]
    training |= {"exposure": 0.0, "objective": training["objective"]["kind"]}
    for level in content["recipe"]["levels"].values():
        del level["augment"]
    (config.out / "run.json").write_text(json.dumps(content))
    # Which precision it had nobody knows, so that either is accepted; from then on it is kept.
    cascade = train(replace(config, precision="bfloat16"), Callback())
    assert cascade is not None
    assert {figures["images_seen"] for figures in cascade.training.values()} == {64}
    assert recorded(config)["precision"] == "bfloat16"
    with pytest.raises(LapganError, match=r"precision \(there 'bfloat16', here 'float32'\)"):
        train(replace(config, precision="float32"), Callback())


def test_a_run_with_exposure_of_an_earlier_version_says_why_it_cannot_continue(config: RunConfig):
    train(replace(config, images=8), Callback())
    content = recorded(config)
    content["recipe"]["training"]["exposure"] = 0.5
    (config.out / "run.json").write_text(json.dumps(content))
    with pytest.raises(LapganError, match=r"run\.json: .*training\.exposure: .* was removed"):
        train(config, Callback())


def capable(monkeypatch: pytest.MonkeyPatch, *, of_bfloat16: bool) -> None:
    """A processor with or without matrix units for bfloat16."""
    capabilities = {"amx_bf16": of_bfloat16}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)


@pytest.mark.parametrize(("amx", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_a_run_keeps_the_precision_that_it_was_begun_with(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch, amx: bool, precision: str
):
    capable(monkeypatch, of_bfloat16=amx)
    train(replace(config, images=8), Callback())
    assert recorded(config)["precision"] == precision
    # The same command on another machine: `auto` is what the run has.
    capable(monkeypatch, of_bfloat16=not amx)
    cascade = train(config, Callback())
    assert cascade is not None
    assert all(precision in figures["compute"] for figures in cascade.training.values())
    assert recorded(config)["precision"] == precision
    other = other_precision(config)
    message = rf"precision \(there '{precision}', here '{other}'\)"
    for run in (train, lambda config: list(plan(config))):
        with pytest.raises(LapganError, match=message):
            run(replace(config, precision=other))


@pytest.mark.parametrize("amx", [True, False])
def test_a_precision_that_is_asked_for_is_taken_on_any_machine(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch, amx: bool
):
    capable(monkeypatch, of_bfloat16=amx)
    for precision in ("float32", "bfloat16"):
        asked = replace(config, out=config.out.with_name(precision), precision=precision, images=8)
        train(asked, Callback())
        assert recorded(asked)["precision"] == precision
        assert train(replace(asked, images=16), Callback()) is not None
    with pytest.raises(LapganError, match="--precision half: expected auto, float32 or bfloat16"):
        train(replace(config, precision="half"), Callback())
    assert not config.out.exists()


def test_an_unreadable_run_file_is_named(config: RunConfig):
    config.out.mkdir()
    (config.out / "run.json").write_text("[")
    with pytest.raises(LapganError, match=r"run\.json: cannot be read"):
        train(config, Callback())


def test_a_second_training_of_a_level_is_refused(config: RunConfig):
    folder = RunFolder(config.out).part("8")
    folder.path.mkdir(parents=True)
    with (
        FileLock(folder.lock),
        pytest.raises(LapganError, match="another process is training this part"),
    ):
        train(config, Callback())


def test_classes_are_needed_where_the_recipe_has_them(config: RunConfig):
    content = config.recipe.model_dump(mode="json") | {"data": {"classes": True}}
    with pytest.raises(LapganError, match=r"class-conditional .* these images have no classes"):
        train(replace(config, recipe=check_recipe(content, "tiny")), Callback())


def test_images_of_another_size_are_refused_before_anything_is_written(config: RunConfig):
    content = config.recipe.model_dump(mode="json")
    content["levels"] = {"30": content["levels"]["32"], "8": content["levels"]["8"]}
    with pytest.raises(LapganError, match="images are 32x32, but the recipe's finest level"):
        train(replace(config, recipe=check_recipe(content, "tiny")), Callback())
    assert not config.out.exists()


def test_minutes_are_divided_as_the_recipe_says(config: RunConfig):
    content = config.recipe.model_dump(mode="json")
    content["levels"]["32"]["share"] = 3.0
    shared = replace(config, recipe=check_recipe(content, "tiny"), minutes=2.0)
    fine, coarse = shared.recipe.levels
    assert shared.budget(fine).seconds == pytest.approx(90)
    assert shared.budget(coarse).seconds == pytest.approx(30)
    assert replace(shared, levels=("8",)).budget(coarse).seconds == pytest.approx(120)
    assert replace(shared, jobs=2).budget(fine).seconds == pytest.approx(180)
    assert replace(shared, images=100).budget(fine).images == 100
    assert shared.budget(fine).images > 10**15
    assert config.budget(fine).images == 64
    assert config.budget(fine).seconds == float("inf")


def test_no_time_at_all_is_refused_before_anything_is_written(config: RunConfig):
    for minutes in (0.0, -1.0):
        with pytest.raises(LapganError, match=r"training for .* minutes: expected more than 0"):
            replace(config, minutes=minutes)
    with pytest.raises(LapganError, match="training for 0 images: expected more than 0"):
        Budget(images=0)
    assert not config.out.exists()


def test_levels_are_trained_coarsest_first_whatever_the_order_of_their_names(config: RunConfig):
    for levels in ((), ("32", "8"), ("8", "32")):
        selected = replace(config, levels=levels).selected_levels
        assert [level.name for level in selected] == ["8", "32"]
    with pytest.raises(LapganError, match="level 7: recipe tiny has the levels 32, 8"):
        train(replace(config, levels=("8", "7")), Callback())
    assert not config.out.exists()


def test_a_plan_is_what_a_run_would_do(config: RunConfig):
    lines = list(plan(config))
    assert lines[0] == "data: dead-leaves, 40 images of 32x32, no classes"
    coarse, fine = (line for line in lines if " parameters, " in line)
    # Weights and biases of the three convolutions of G and of the two convolutions and the linear
    # layer of D; then of the dense nets.
    g = (4 * 4 * 49 + 4) + (4 * 4 * 49 + 4) + (4 * 3 * 25 + 3)
    d = (3 * 4 * 25 + 4) + (4 * 4 * 25 + 4) + (4 * 12 * 12 + 1)
    assert fine == f"level 32: G {g:,} and D {d:,} parameters, for 64 images"
    g = (5 * 16 + 16) + (16 * 16 + 16) + (16 * 192 + 192)
    d = (192 * 8 + 8) + (8 * 8 + 8) + (8 + 1)
    assert coarse == f"level 8: G {g:,} and D {d:,} parameters, for 64 images"
    assert not config.out.exists()


class Interrupting(Callback):
    """Presses Ctrl-C after three steps of eight examples."""

    def recorded(self, part: str, record: Record) -> None:
        if record.images_seen == 24:
            signal.raise_signal(signal.SIGINT)


def test_an_interrupted_modern_run_ends_in_the_same_weights(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    # Enough for the buffers of nets as small as these.
    monkeypatch.setattr("lapgan.training.level._INITIAL_EXAMPLES", 256)
    small = ["training.batch=8", "training.penalty.every=2"]
    for size, patch in (("32", 4), ("16", 2), ("8", 2)):
        small += [
            f"levels.{size}.generator={{kind='modern-patch',patch={patch},maps=8,blocks=1,"
            f"takes_sigma={str(size != '8').lower()}}}",
            f"levels.{size}.discriminator={{kind='modern-patch',patch={patch},maps=8,units=8}}",
            f"levels.{size}.augment=true",
        ]
    config = RunConfig(
        read_recipe("cifar10-small", small), run_folder, "dead-leaves:40", images=48, device="cpu"
    )
    stopped = replace(config, out=run_folder.with_name("stopped"))
    for level in ("4", "8", "16", "32"):
        with pytest.raises(KeyboardInterrupt):
            train(
                replace(stopped, levels=(level,), intervals=LogIntervals(log=0.0)), Interrupting()
            )
        train(replace(stopped, levels=(level,)), Callback())
    train(config, Callback())
    assert torch.equal(Cascade.load(stopped.out).sample(8), Cascade.load(config.out).sample(8))


TRAIN = """
import json, sys
from pathlib import Path
from lapgan.recipe import check_recipe
from lapgan.training.callbacks import Callback
from lapgan.training.config import LogIntervals, RunConfig
from lapgan.training.run import train

class Printer(Callback):
    def recorded(self, part, record):
        print("recorded", flush=True)

recipe = check_recipe(json.loads(sys.argv[1]), "tiny")
intervals = LogIntervals(log=0.0, checkpoint=0.0)
train(RunConfig(recipe, Path(sys.argv[2]), "dead-leaves:40", images=int(sys.argv[3]), device="cpu",
                intervals=intervals), Printer())
"""


def start(config: RunConfig, images: int) -> subprocess.Popen[str]:
    recipe = json.dumps(config.recipe.model_dump(mode="json"))
    command = [sys.executable, "-c", TRAIN, recipe, str(config.out), str(images)]
    # Tiny nets on one thread: several would mostly wait for each other.
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def is_unfinished(path: Path) -> bool:
    suffixes = (".safetensors", ".jsonl", ".png")
    return path.name.startswith(".tmp") or (path.name.startswith(".") and path.suffix in suffixes)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_continues_to_the_same_weights(config: RunConfig, number: signal.Signals):
    images = 400
    straight = replace(config, out=config.out.with_name("straight"))
    with start(straight, images) as process:
        assert process.wait(timeout=120) == 0
    for lines in (10, 65):
        with start(config, images) as process:
            assert process.stdout is not None
            for _ in range(lines):
                assert process.stdout.readline() == "recorded\n"
            time.sleep(0.003)
            process.send_signal(number)
            process.communicate(timeout=60)
            assert process.returncode != 0
    with start(config, images) as process:
        assert process.wait(timeout=120) == 0
    assert_same_states(config.out, straight.out)
    written, straight_written = (
        {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        for folder in (config.out, straight.out)
    )
    # Unfinished files only: ours, or those that safetensors itself writes first.
    leftovers = {name for name in written if is_unfinished(Path(name))}
    assert written - leftovers == straight_written
    logs = [
        (folder / "level-32" / "log.jsonl").read_text() for folder in (config.out, straight.out)
    ]
    seen = [[json.loads(line)["images_seen"] for line in log.splitlines()] for log in logs]
    assert seen[0] == seen[1]


def test_a_run_stays_compiled_or_not_as_it_was_begun(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("lapgan.training.run.choose_compiled", lambda device, asked: bool(asked))
    list(plan(config))
    train(replace(config, images=8), Callback())
    assert recorded(config)["compile"] is False
    assert recorded(config)["tf32"] is False
    with pytest.raises(LapganError, match=r"compile \(there False, here True\)"):
        train(replace(config, compile=True), Callback())
    # A run of an earlier version, whose nets were not compiled either.
    content = recorded(config)
    del content["compile"], content["tf32"]
    (config.out / "run.json").write_text(json.dumps(content))
    with pytest.raises(LapganError, match=r"compile \(there False, here True\)"):
        train(replace(config, compile=True), Callback())
    train(replace(config, images=16), Callback())
    assert recorded(config)["compile"] is False
    content["compile"] = True
    (config.out / "run.json").write_text(json.dumps(content))
    assert choose_run_compute(config).compiled
    with pytest.raises(LapganError, match=r"compile \(there True, here False\)"):
        train(replace(config, compile=False), Callback())
