"""What can be done as the released code of Denton et al. (2015) does it; docs/differences.md."""

import copy
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from levels import content_of, revise
from torch import Tensor, nn

from lapgan.batches import Batches
from lapgan.data import Images
from lapgan.models.contracts import FeatureMaps
from lapgan.normalization import symmetric_normalization
from lapgan.objectives.paper import NonSaturating
from lapgan.objectives.relativistic import Relativistic
from lapgan.pyramid import direct_stage, downsample, gaussian_pyramid, upsample
from lapgan.recipe import Recipe, read_recipe
from lapgan.run_folder import PartFolder
from lapgan.training.callbacks import Callback
from lapgan.training.config import RunConfig
from lapgan.training.examples import Examples, real_stage
from lapgan.training.level import LevelTask
from lapgan.training.loop import train_task
from lapgan.training.run import train
from lapgan.training.update import Nets, update_nets

DIFFERENCES = Path(__file__).parents[2] / "docs" / "differences.md"


class Generator(nn.Module):
    """A convolution of low-pass image and noise."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, low: Tensor, z: Tensor, label: Tensor | None) -> Tensor:
        return self.layer(torch.cat((low, z), 1))


class Discriminator(nn.Module):
    """A convolution of image and low-pass image, squared, without dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(6, 4, 3)

    def features(self, high: Tensor, low: Tensor) -> FeatureMaps:
        return (torch.cat((high, low), 1),)

    def head(self, maps: FeatureMaps, label: Tensor | None) -> Tensor:
        return self.layer(maps[0]).square().mean(dim=(1, 2, 3))

    def forward(self, high: Tensor, low: Tensor, label: Tensor | None) -> Tensor:
        return self.head(self.features(high, low), label)


def examples_of(seed: int) -> Examples:
    random = torch.Generator().manual_seed(seed)
    high, low = (torch.randn(8, 3, 4, 4, generator=random) for _ in range(2))
    return Examples(high, low, torch.randn(8, 1, 4, 4, generator=random), None)


def make_nets() -> Nets:
    torch.manual_seed(0)
    g, d = Generator(), Discriminator()
    return Nets(
        g, d, torch.optim.SGD(g.parameters(), lr=0.5), torch.optim.SGD(d.parameters(), lr=0.5)
    )


@pytest.mark.parametrize("objective", [NonSaturating(), Relativistic()])
def test_g_is_updated_on_fresh_examples_by_the_new_d(objective: NonSaturating | Relativistic):
    """The loss of G is that of the old G and the updated D, on examples that D has not seen."""
    nets, examples, fresh = make_nets(), examples_of(1), examples_of(2)
    old = copy.deepcopy(nets.generator)
    update = update_nets(nets, examples, objective, fresh=fresh)
    with torch.no_grad():
        fake = fresh.generate(old)
        real_logits = nets.discriminator(fresh.high, fresh.low, None)
        fake_logits = nets.discriminator(fake, fresh.low, None)
        expected = objective.generator_loss(real=real_logits, fake=fake_logits)
    assert torch.equal(update.fake, fake)
    assert torch.isclose(update.loss_g, expected, atol=1e-6)


@pytest.mark.parametrize("objective", [NonSaturating(), Relativistic()])
def test_fresh_examples_of_g_are_no_matter_to_the_update_of_d(
    objective: NonSaturating | Relativistic,
):
    same, other = make_nets(), make_nets()
    update_nets(same, examples_of(1), objective)
    update_nets(other, examples_of(1), objective, fresh=examples_of(2))
    for a, b in zip(same.discriminator.parameters(), other.discriminator.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    for a, b in zip(same.generator.parameters(), other.generator.parameters(), strict=True):
        assert not torch.allclose(a, b)


def record_draws(task: LevelTask, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes one step of a level; returns the images that were drawn for it, by their colors."""
    drawn: list[Tensor] = []
    at = Batches.at
    monkeypatch.setattr(
        Batches, "at", lambda self, seen, n: drawn.append(at(self, seen, n)[0]) or at(self, seen, n)
    )
    task.step(task.initial_state())
    return torch.cat(drawn)[:, 0, 11, 11].tolist()


def test_each_net_has_a_minibatch_of_its_own(
    task: LevelTask, images: Images, monkeypatch: pytest.MonkeyPatch
):
    pixels = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None, None], (40, 3, 12, 12))
    numbered = replace(task.batches, images=replace(images, pixels=pixels))
    content = content_of(task)
    content["training"]["generator_examples"] = "fresh"
    fresh = record_draws(replace(revise(task, content, "12"), batches=numbered), monkeypatch)
    assert len(fresh) == len(set(fresh)) == 2 * task.recipe.training.batch


def test_without_an_average_the_last_weights_are_sampled_with(task: LevelTask, tmp_path: Path):
    content = content_of(task)
    content["training"]["ema_half_life"] = 0
    state = train_task(revise(task, content, "12"), Callback())
    for last, average in zip(
        state.nets.generator.parameters(), state.average.parameters(), strict=True
    ):
        assert torch.equal(last, average)
    state = train_task(replace(task, folder=PartFolder(tmp_path / "other")), Callback())
    assert not torch.equal(
        next(state.nets.generator.parameters()), next(state.average.parameters())
    )


def test_every_level_may_be_scaled_from_the_finest_image():
    """28 -> 8 at once is another image than 28 -> 14 -> 8, and both reconstruct."""
    sizes = [(28, 28), (14, 14), (8, 8)]
    image = torch.rand(4, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    chained = gaussian_pyramid(image, sizes, "bilinear")
    for k in range(3):
        stage = direct_stage(image, sizes[k : k + 2], "bilinear")
        expected = image if k == 0 else downsample(image, sizes[k], "bilinear")
        assert torch.equal(stage.image, expected)
        if stage.low is None:
            assert torch.equal(stage.high, stage.image)
            assert (stage.image - chained[2]).square().mean().sqrt() > 0.01
        else:
            coarse = downsample(image, sizes[k + 1], "bilinear")
            assert torch.equal(stage.low, upsample(coarse, sizes[k], "bilinear"))
            assert torch.allclose(stage.low + stage.high, stage.image, atol=1e-6)


def test_direct_scaling_is_that_of_training(tiny: Recipe):
    recipe = tiny.model_copy(update={"pyramid": tiny.pyramid.model_copy(update={"direct": True})})
    pixels = torch.randint(0, 256, (2, 3, 12, 12), dtype=torch.uint8)
    normalization = symmetric_normalization((12, 12))
    stage = real_stage(pixels, recipe, recipe.level("6x8"), normalization)
    expected = downsample(pixels / 127.5 - 1, (6, 8), recipe.pyramid.operator)
    assert torch.allclose(stage.image, expected, atol=1e-6)


def test_all_commands_of_the_differences_are_keys_of_the_recipes():
    """Each `--set` of the page changes the recipe, or the recipe has that value already."""
    commands = re.findall(r"`--set ([\w.]+=[\w.+-]+)`", DIFFERENCES.read_text(encoding="utf-8"))
    assert len(commands) >= 12
    for command in commands:
        changed = read_recipe("paper-cifar10", [command])
        assert changed != read_recipe("paper-cifar10"), command


def test_a_run_as_in_the_authors_code_trains_and_samples(tmp_path: Path):
    recipe = read_recipe(
        "dead-leaves",
        ["data.source=dead-leaves:40", "data.hold_out=8", "data.replacement=true",
         "training.generator_examples=fresh", "training.ema_half_life=0", "pyramid.direct=true",
         "training.batch=10"],
    )  # fmt: skip
    cascade = train(RunConfig(recipe, tmp_path / "run", images=20))
    assert cascade is not None
    assert cascade.sample(2).shape == (2, 3, 32, 32)
    recorded = (tmp_path / "run" / "run.json").read_text()
    assert '-32-of-40"' in recorded
