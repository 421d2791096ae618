import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lapgan.cascade import Cascade
from lapgan.compute import choose_compute
from lapgan.errors import LapganError
from lapgan.pyramid import upsample
from lapgan.recipe import Recipe, check_recipe, read_recipe
from lapgan.training.below import load_below
from lapgan.training.examples import make_examples
from lapgan.training.job import Intervals, LevelTask
from lapgan.training.listener import Callback
from lapgan.training.log import Record
from lapgan.training.run import Order, plan, train

SILENT = Callback()


class Interrupting(Callback):
    """Presses Ctrl-C after three steps of eight examples."""

    def recorded(self, level: str, record: Record) -> None:
        if record.images_seen == 24:
            signal.raise_signal(signal.SIGINT)


def exposed(recipe: Recipe, share: float = 0.5) -> Recipe:
    content = recipe.model_dump(mode="json")
    content["training"]["exposure"] = share
    content["levels"] = {"32": content["levels"]["12"], "8": content["levels"]["6x8"]}
    return check_recipe(content, "tiny")


@pytest.fixture
def order(tiny: Recipe, run_folder: Path) -> Order:
    return Order(exposed(tiny), "dead-leaves:40", run_folder, device="cpu")


def test_g_is_given_samples_of_the_level_below_and_d_real_low_pass_images(
    order: Order, job: LevelTask
):
    train(replace(order, levels=(1,)), SILENT)
    below = load_below(order.out, order.recipe, 0, choose_compute("cpu"))
    job = replace(job, recipe=order.recipe, below=below)
    job = replace(job, normalization=Cascade.load(trained(order)).normalization)
    pixels = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    examples = make_examples(job, pixels, None, torch.Generator().manual_seed(3))
    assert examples.low is not None
    assert examples.given is not None
    assert torch.equal(examples.given[4:], examples.low[4:])
    # The same noise through the same weights, as the cascade runs them.
    random = torch.Generator().manual_seed(3)
    order.recipe.level(0).noise.build().sample(8, (32, 32), random)
    image = below.sample(4, None, random)
    expected = upsample(image, (32, 32), order.recipe.pyramid.operator)
    assert torch.allclose(examples.given[:4], expected)
    assert not torch.allclose(examples.given[:4], examples.low[:4])


def trained(order: Order) -> Path:
    whole = replace(order, out=order.out.with_name("whole"))
    train(whole, SILENT)
    return whole.out


def test_the_level_below_must_be_there(order: Order):
    with pytest.raises(LapganError, match=r"level 32: .*no .*level-8.* yet\. Train level 8 first"):
        train(replace(order, levels=(0,)), SILENT)


def test_levels_that_wait_for_each_other_are_not_trained_at_once(order: Order):
    for run in (lambda o: train(o, SILENT), lambda o: list(plan(o))):
        with pytest.raises(LapganError, match=r"--jobs 2: .*one must wait for the other"):
            run(replace(order, jobs=2))
    assert not order.out.exists()
    train(replace(order, jobs=2, levels=(1,)), SILENT)


def test_an_interrupted_modern_run_ends_in_the_same_weights(run_folder: Path):
    small = ["training.batch=8", "training.penalty.every=2"]
    for size, patch in (("32", 4), ("16", 2), ("8", 2)):
        small += [
            f"levels.{size}.generator={{kind='modern-patch',patch={patch},maps=8,blocks=1}}",
            f"levels.{size}.discriminator={{kind='modern-patch',patch={patch},maps=8,units=8}}",
            f"levels.{size}.augment=true",
        ]
    order = Order(
        read_recipe("cifar10", small), "dead-leaves:40", run_folder, images=48, device="cpu"
    )
    stopped = replace(order, out=run_folder.with_name("stopped"))
    for k in (3, 2, 1, 0):
        with pytest.raises(KeyboardInterrupt):
            train(replace(stopped, levels=(k,), intervals=Intervals(log=0.0)), Interrupting())
        train(replace(stopped, levels=(k,)), SILENT)
    train(order, SILENT)
    assert torch.equal(Cascade.load(stopped.out).sample(8), Cascade.load(order.out).sample(8))


def test_an_interrupted_run_with_exposure_ends_in_the_same_weights(order: Order):
    short = replace(order, images=24)
    for given in (short, order):
        train(replace(given, levels=(1,), images=64), SILENT)
        train(replace(given, levels=(0,)), SILENT)
    straight = Cascade.load(trained(order))
    assert torch.equal(Cascade.load(order.out).sample(8), straight.sample(8))
