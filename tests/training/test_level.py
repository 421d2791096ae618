import resource
from dataclasses import replace

import pytest
import torch
from PIL import Image
from stopping import after, state_of
from torch import Tensor

from lapgan.errors import LapganError
from lapgan.pyramid import gaussian_pyramid, upsample
from lapgan.recipe import check_recipe
from lapgan.training.examples import make_examples
from lapgan.training.job import Budget, Intervals, LevelTask
from lapgan.training.level import train_level
from lapgan.training.listener import Callback
from lapgan.training.log import Record, read_records
from lapgan.weights import read_weights

SILENT = Callback()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_examples_are_the_coefficients_of_the_pyramid(job: LevelTask):
    pixels = torch.randint(0, 256, (8, 3, 12, 12), dtype=torch.uint8)
    examples = make_examples(job, pixels, None, torch.Generator().manual_seed(0))
    image, coarse = gaussian_pyramid(pixels / 127.5 - 1, job.recipe.sizes)
    low = upsample(coarse, (12, 12))
    assert examples.low is not None
    assert torch.allclose(examples.low, low, atol=1e-6)
    assert torch.allclose(examples.high + low, image, atol=1e-6)
    assert examples.z.shape == (8, 1, 12, 12)
    coarsest = make_examples(replace(job, k=1), pixels, None, torch.Generator().manual_seed(0))
    assert coarsest.low is None
    assert torch.allclose(coarsest.high, coarse, atol=1e-6)
    assert coarsest.z.shape == (8, 5)


@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_a_resumed_level_equals_one_that_was_never_stopped(job: LevelTask, k: int, kind: str):
    content = job.recipe.model_dump(mode="json")
    content["training"]["optimizer"] = {"kind": kind, "learning_rate": 1e-3}
    job = replace(job, k=k, recipe=check_recipe(content, "tiny"))
    straight = replace(job, folder=job.folder.with_name("straight"))
    train_level(straight, SILENT)
    for steps in (1, 3):
        train_level(job, SILENT, stopped=after(steps))
    assert not same(state_of(job), state_of(straight))
    train_level(job, SILENT)
    assert same(state_of(job), state_of(straight))
    assert read_weights(job.folder / "weights.safetensors").training == {
        job.name: read_weights(job.folder / "weights.safetensors").training[job.name]
        | {"images_seen": 64}
    }


def test_another_seed_gives_other_weights(job: LevelTask):
    other = replace(job, seed=1, folder=job.folder.with_name("other"))
    train_level(job, SILENT)
    train_level(other, SILENT)
    assert not same(state_of(job), state_of(other))


def test_training_leaves_the_random_state_of_its_caller_alone(job: LevelTask):
    before = torch.random.get_rng_state()
    train_level(job, SILENT)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_finished_level_is_left_as_it_is(job: LevelTask):
    train_level(job, SILENT)
    written = {path: path.stat().st_mtime_ns for path in job.folder.rglob("*")}
    train_level(job, SILENT)
    assert {path: path.stat().st_mtime_ns for path in job.folder.rglob("*")} == written


def test_a_level_with_more_budget_goes_on(job: LevelTask):
    train_level(job, SILENT)
    state = train_level(replace(job, budget=Budget(128)), SILENT)
    assert state.images_seen == 128
    assert [r["images_seen"] for r in read_records(job.folder / "log.jsonl")] == [64, 128]


def test_a_budget_of_time_ends_a_level(job: LevelTask):
    state = train_level(replace(job, budget=Budget(10**9, seconds=0.3)), SILENT)
    assert 0.3 <= state.seconds < 5
    assert 0 < state.images_seen < 10**9


def test_the_listener_hears_of_start_and_records(job: LevelTask):
    heard: list[tuple[str, object]] = []

    class Ear(Callback):
        def started(self, level: str, images: int, seconds: float, budget: Budget) -> None:
            heard.append((level, images))

        def recorded(self, level: str, record: Record) -> None:
            heard.append((level, record.images_seen))

    train_level(replace(job, intervals=Intervals(log=0.0)), Ear())
    assert heard == [("12", 0), *(("12", n) for n in range(8, 72, 8))]


def test_sheets_are_drawn_in_rows_of_real_low_and_generated(job: LevelTask):
    train_level(job, SILENT)
    (sheet,) = (job.folder / "samples").iterdir()
    with Image.open(sheet) as picture:
        assert picture.size == (2 * (8 * 12 + 7 * 2), 2 * (3 * 12 + 2 * 2))


def test_what_is_generated_comes_to_look_like_the_data(job: LevelTask):
    content = job.recipe.model_dump(mode="json")
    content["training"] |= {"batch": 32, "optimizer": {"kind": "adam", "learning_rate": 2e-3}}
    content["levels"]["6x8"]["discriminator"] |= {"units": 32, "dropout": 0.0}
    job = replace(job, k=1, recipe=check_recipe(content, "tiny"), budget=Budget(32 * 300))
    pixels = torch.from_numpy(job.images.pixels.copy())
    examples = make_examples(job, pixels, None, torch.Generator().manual_seed(0))

    def distance(steps: int) -> float:
        short = replace(job, budget=Budget(32 * steps))
        average = train_level(short, SILENT).average
        with torch.no_grad():
            fake = average(None, examples.z, None)
        return (fake.mean(dim=0) - examples.high.mean(dim=0)).norm().item()

    first, last = distance(1), distance(300)
    assert last < first / 2


def test_divergence_stops_with_the_last_good_checkpoint(job: LevelTask):
    train_level(replace(job, budget=Budget(16)), SILENT)
    good = (job.folder / "state.safetensors").read_bytes()
    content = job.recipe.model_dump(mode="json")
    content["training"]["optimizer"]["learning_rate"] = 1e30
    diverging = replace(job, recipe=check_recipe(content, "tiny"))
    with pytest.raises(LapganError, match=r"level 12: training diverged .* is kept in"):
        train_level(diverging, SILENT)
    assert (job.folder / "state.safetensors").read_bytes() == good


def test_a_damaged_checkpoint_is_named_and_kept(job: LevelTask):
    train_level(job, SILENT)
    state = job.folder / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-10])
    damaged = state.read_bytes()
    with pytest.raises(LapganError, match=r"state\.safetensors: cannot be used to resume"):
        train_level(job, SILENT)
    assert state.read_bytes() == damaged


def test_a_full_disk_keeps_the_checkpoint(job: LevelTask):
    train_level(replace(job, budget=Budget(16)), SILENT)
    written = {path: path.read_bytes() for path in job.folder.rglob("*.safetensors")}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond 4 kB, which the log does not, as on a disk with that much left.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(LapganError, match=r"state\.safetensors: cannot be written"):
            train_level(job, SILENT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path: path.read_bytes() for path in job.folder.rglob("*.safetensors")} == written
