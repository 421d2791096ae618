import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from filelock import FileLock
from torch import Tensor

from lapgan.cascade import Cascade
from lapgan.errors import LapganError
from lapgan.recipe import Recipe, check_recipe
from lapgan.training.listener import Callback
from lapgan.training.run import Order, plan, train

DATA = "dead-leaves:40"


@pytest.fixture
def order(tiny: Recipe, run_folder: Path) -> Order:
    content = tiny.model_dump(mode="json")
    levels = content["levels"]
    content["levels"] = {"32": levels["12"], "8": levels["6x8"]}
    return Order(check_recipe(content, "tiny"), DATA, run_folder, device="cpu")


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


def test_a_run_trains_every_level_into_a_cascade(order: Order):
    cascade = train(order, Callback())
    assert cascade is not None
    saved = Cascade.load(order.out / "cascade.safetensors")
    assert torch.equal(saved.sample(4), Cascade.load(order.out).sample(4))
    assert {figures["images_seen"] for figures in saved.training.values()} == {64}


def test_single_levels_make_the_same_cascade(order: Order):
    train(order, Callback())
    single = replace(order, out=order.out.with_name("single"))
    assert train(replace(single, levels=(0,)), Callback()) is None
    assert train(replace(single, levels=(1,)), Callback()) is not None
    assert_same_states(order.out, single.out)


@pytest.mark.slow
def test_levels_side_by_side_make_the_same_cascade(order: Order):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(order, Callback())
    finally:
        torch.set_num_threads(threads)
    parallel = replace(order, out=order.out.with_name("parallel"), jobs=2)
    heard: list[str] = []

    class Ear(Callback):
        def started(self, level: str, *rest: object) -> None:
            heard.append(level)

    assert train(parallel, Ear()) is not None
    assert sorted(heard) == ["32", "8"]
    if (os.cpu_count() or 1) <= 3:
        # With more cores each level has several threads, which may add in another order.
        assert_same_states(order.out, parallel.out)


def test_a_folder_of_another_run_is_refused(order: Order):
    train(replace(order, images=8), Callback())
    changed = check_recipe(
        order.recipe.model_dump(mode="json") | {"training": {"batch": 16}}, "tiny"
    )
    for other, named in (
        (replace(order, recipe=changed), r"recipe\.training\.batch \(there 8, here 16\)"),
        (replace(order, seed=3), r"seed \(there 0, here 3\)"),
        (replace(order, data="dead-leaves:50"), r"data\.fingerprint"),
    ):
        with pytest.raises(LapganError, match=named):
            train(other, Callback())
        with pytest.raises(LapganError, match=named):
            list(plan(other))


def test_a_run_of_an_earlier_version_goes_on(order: Order):
    train(replace(order, images=8), Callback())
    content = json.loads((order.out / "run.json").read_text())
    del content["recipe"]["training"]["exposure"]
    (order.out / "run.json").write_text(json.dumps(content))
    cascade = train(order, Callback())
    assert cascade is not None
    assert {figures["images_seen"] for figures in cascade.training.values()} == {64}


def test_an_unreadable_run_file_is_named(order: Order):
    order.out.mkdir()
    (order.out / "run.json").write_text("[")
    with pytest.raises(LapganError, match=r"run\.json: cannot be read"):
        train(order, Callback())


def test_a_second_training_of_a_level_is_refused(order: Order):
    folder = order.out / "level-8"
    folder.mkdir(parents=True)
    with (
        FileLock(folder / ".lock"),
        pytest.raises(LapganError, match="another process is training this part"),
    ):
        train(order, Callback())


def test_classes_are_needed_where_the_recipe_has_them(order: Order):
    content = order.recipe.model_dump(mode="json") | {"data": {"classes": True}}
    with pytest.raises(LapganError, match=r"class-conditional .* these images have no classes"):
        train(replace(order, recipe=check_recipe(content, "tiny")), Callback())


def test_images_of_another_size_are_refused_before_anything_is_written(order: Order):
    content = order.recipe.model_dump(mode="json")
    content["levels"] = {"30": content["levels"]["32"], "8": content["levels"]["8"]}
    with pytest.raises(LapganError, match="images are 32x32, but the recipe's finest level"):
        train(replace(order, recipe=check_recipe(content, "tiny")), Callback())
    assert not order.out.exists()


def test_minutes_are_shared_as_the_recipe_says(order: Order):
    content = order.recipe.model_dump(mode="json")
    content["levels"]["32"]["share"] = 3.0
    shared = replace(order, recipe=check_recipe(content, "tiny"), minutes=2.0)
    assert shared.budget(0).seconds == pytest.approx(90)
    assert shared.budget(1).seconds == pytest.approx(30)
    assert replace(shared, levels=(1,)).budget(1).seconds == pytest.approx(120)
    assert replace(shared, jobs=2).budget(0).seconds == pytest.approx(180)
    assert replace(shared, images=100).budget(0).images == 100
    assert order.budget(0).images == 64
    assert order.budget(0).seconds == float("inf")


TRAIN = """
import json, sys
from pathlib import Path
from lapgan.recipe import check_recipe
from lapgan.training.job import Intervals
from lapgan.training.listener import Callback
from lapgan.training.run import Order, train

class Ear(Callback):
    def recorded(self, level, record):
        print("recorded", flush=True)

recipe = check_recipe(json.loads(sys.argv[1]), "tiny")
intervals = Intervals(log=0.0, checkpoint=0.0)
train(Order(recipe, "dead-leaves:40", Path(sys.argv[2]), images=int(sys.argv[3]), device="cpu",
            intervals=intervals), Ear())
"""


def start(order: Order, images: int) -> subprocess.Popen[str]:
    recipe = json.dumps(order.recipe.model_dump(mode="json"))
    command = [sys.executable, "-c", TRAIN, recipe, str(order.out), str(images)]
    # Tiny nets on one thread: several would mostly wait for each other.
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_run_goes_on_to_the_same_weights(order: Order, number: signal.Signals):
    images = 400
    straight = replace(order, out=order.out.with_name("straight"))
    with start(straight, images) as process:
        assert process.wait(timeout=120) == 0
    for lines in (10, 65):
        with start(order, images) as process:
            assert process.stdout is not None
            for _ in range(lines):
                assert process.stdout.readline() == "recorded\n"
            time.sleep(0.003)
            process.send_signal(number)
            process.communicate(timeout=60)
            assert process.returncode != 0
    with start(order, images) as process:
        assert process.wait(timeout=120) == 0
    assert_same_states(order.out, straight.out)
    leftovers = [path for path in order.out.rglob(".*") if path.name != ".lock"]
    # Unfinished files only: ours, or those that safetensors itself writes first.
    unfinished = (".safetensors", ".jsonl", ".png")
    assert all(path.suffix in unfinished or path.name.startswith(".tmp") for path in leftovers)
    logs = [(folder / "level-32" / "log.jsonl").read_text() for folder in (order.out, straight.out)]
    seen = [[json.loads(line)["images_seen"] for line in log.splitlines()] for log in logs]
    assert seen[0] == seen[1]
