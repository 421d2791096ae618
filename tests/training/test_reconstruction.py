"""The supervised term, against distances and gradients derived by hand."""

from dataclasses import replace

import pytest
import torch
from levels import after, content_of, revise, state_of
from torch import Tensor, nn

from lapgan.models.contracts import FeatureMaps
from lapgan.objectives.paper import NonSaturating
from lapgan.objectives.relativistic import Relativistic
from lapgan.run_folder import PartFolder
from lapgan.training.callbacks import Callback
from lapgan.training.examples import Examples
from lapgan.training.level import LevelTask
from lapgan.training.log import read_records
from lapgan.training.loop import train_task
from lapgan.training.reconstruction import measure_distance, nearest_noise
from lapgan.training.update import Nets, Terms, update_nets


class Scale(nn.Module):
    """A generator w z + b: one number decides how far it follows the noise."""

    def __init__(self, w: float = 1.0) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.tensor(w)), nn.Parameter(torch.tensor(0.0))

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        return (self.w * z + self.b).expand(-1, 3, 2, 2)


class Zero(nn.Module):
    """A discriminator that is always undecided."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.0))

    def features(self, high: Tensor, low: Tensor | None) -> FeatureMaps:
        return (high,)

    def head(self, maps: FeatureMaps, label: Tensor | None) -> Tensor:
        return self.weight * maps[0].mean(dim=(1, 2, 3))


class TwoLayers(nn.Module):
    """A discriminator 1x1 convolution, dropout, mean, dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.dropout, self.last = nn.Conv2d(3, 4, 1), nn.Dropout(0.9), nn.Linear(4, 1)

    def features(self, high: Tensor, low: Tensor | None) -> FeatureMaps:
        return (high if low is None else high + low,)

    def head(self, maps: FeatureMaps, label: Tensor | None) -> Tensor:
        return self.last(self.dropout(self.conv(maps[0])).mean(dim=(2, 3))).squeeze(1)


def numbers(*values: float) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1)


def examples_of(high: Tensor, z: Tensor) -> Examples:
    return Examples(high.expand(-1, 3, 2, 2), torch.zeros(len(high), 3, 2, 2), z, None)


def test_the_nearest_of_several_residuals_of_each_image_counts():
    examples = examples_of(numbers(2, -3), numbers(0, 0))
    candidates = (numbers(1.5, 4), numbers(5, -1))
    nets = Scale(), Zero()
    fake = examples.generate(nets[0])
    z = nearest_noise(nets, examples, fake, "l1", candidates)
    assert z.flatten().tolist() == [1.5, -1]
    distance = measure_distance(nets, examples, fake, "l1", candidates)
    assert distance.item() == pytest.approx((0.5 + 2) / 2)
    distance.backward()
    # d/db mean |b + z - h| = (-1 + 1) / 2, d/dw = (-1.5 - 1) / 2.
    assert nets[0].b.grad == 0
    assert nets[0].w.grad == pytest.approx(-1.25)


@pytest.mark.parametrize("objective", [NonSaturating(), Relativistic()])
@pytest.mark.parametrize("best_of", [1, 8])
def test_the_best_of_several_keeps_the_diversity_that_one_alone_destroys(
    objective: object, best_of: int
):
    """Given l_k the truth is +1 or -1, and z is uniform.

    The best single guess is their mean, w = 0. The nearest of 8 draws of w z in [-w, w] has
    |w z - h| near 0 as soon as w = 1, and w below 1 leaves a distance of 1 - w.
    """
    torch.manual_seed(0)
    nets = Nets(g := Scale(0.5), d := Zero(), torch.optim.Adam(g.parameters(), lr=0.04),
                torch.optim.SGD(d.parameters(), lr=0.0))  # fmt: skip
    for _ in range(80):
        high = torch.randint(0, 2, (64, 1, 1, 1)) * 2.0 - 1
        z, *candidates = torch.rand(best_of, 64, 1, 1, 1) * 2 - 1
        terms = Terms(supervised=1.0, distance="l2", candidates=tuple(candidates))
        update_nets(nets, examples_of(high, z), objective, terms)
    assert g.w.abs().item() < 0.1 if best_of == 1 else g.w.item() > 0.9


def test_the_features_of_d_are_compared_relative_to_their_size_and_without_dropout():
    torch.manual_seed(0)
    d = TwoLayers().train()
    high, fake, low = torch.randn(3, 8, 3, 2, 2)
    examples = Examples(high, low, torch.zeros(8, 1, 2, 2), None)
    distance = measure_distance((Scale(), d), examples, fake, "features")
    real, generated = (
        torch.einsum("oi,bihw->bohw", d.conv.weight[:, :, 0, 0], x + low)
        + d.conv.bias.view(1, -1, 1, 1)
        for x in (high, fake)
    )
    # The dense layer is the last one: it has no hidden values.
    assert distance.item() == pytest.approx(
        ((real - generated).abs().mean() / real.abs().mean()).item(), rel=1e-5
    )
    assert d.dropout.training
    assert measure_distance((Scale(), d), examples, high.clone(), "features") == 0


@pytest.mark.parametrize(
    ("level", "distance"),
    [("12", "own"), ("12", "pyramid"), ("12", "features"), ("6x8", "l2")],
)
def test_a_level_with_any_term_is_resumed_exactly(task: LevelTask, level: str, distance: str):
    content = content_of(task)
    content["levels"][level]["supervised"] = {
        "weight": 0.5, "final": 0.1, "schedule": "cosine", "best_of": 3, "distance": distance,
    }  # fmt: skip
    task = revise(task, content, level)
    straight = replace(task, folder=PartFolder(task.folder.path.with_name("straight")))
    plain = replace(
        revise(task, content_of(task) | {"levels": _plain(content)}, level),
        folder=PartFolder(task.folder.path.with_name("plain")),
    )
    train_task(straight, Callback())
    train_task(task, Callback(), stopped=after(3))
    train_task(task, Callback())
    train_task(plain, Callback())
    states = [state_of(each) for each in (task, straight, plain)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["g." + _first(states[0])], states[2]["g." + _first(states[0])])
    assert [record["supervised"] > 0 for record in read_records(task.folder.log)][-1]


def _plain(content: dict) -> dict:
    return {name: level | {"supervised": 0} for name, level in content["levels"].items()}


def _first(state: dict[str, Tensor]) -> str:
    return next(name.removeprefix("g.") for name in state if name.startswith("g."))
