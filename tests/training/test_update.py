"""One update of both nets, against gradients derived by hand.

D is linear, D(x) = w m(x) with the mean m of an image, and G adds one number b to nothing, so that
each loss and each gradient can be written out.
"""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from lapgan.models.contracts import FeatureMaps
from lapgan.models.patch import PatchDiscriminator, PatchGenerator
from lapgan.objectives.contract import Objective
from lapgan.objectives.paper import Minimax, NonSaturating
from lapgan.objectives.relativistic import Relativistic
from lapgan.penalty import ExactPenalty, FiniteDifferencePenalty, Penalty
from lapgan.training.examples import Examples
from lapgan.training.reconstruction import own_deviations
from lapgan.training.update import Nets, Terms, add_noise, update_nets

OBJECTIVES = [NonSaturating(), Minimax(), Relativistic()]
PENALTIES = [
    FiniteDifferencePenalty(weight=3.0, every=2, scale=0.1),
    ExactPenalty(weight=3.0, every=2),
]
KINDS = [objective.kind for objective in OBJECTIVES]


class Bias(nn.Module):
    """A generator of constant residuals."""

    def __init__(self, by: float = 0.0) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        assert low is not None
        return self.by + 0 * low + 0 * z


class Mean(nn.Module):
    """A discriminator that is linear in the image's mean, and keeps what its head was given."""

    def __init__(self, weight: float = 0.5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.images: list[Tensor] = []
        self.labels: list[Tensor | None] = []

    def features(self, high: Tensor, low: Tensor | None) -> FeatureMaps:
        return (high if low is None else low + high,)

    def head(self, maps: FeatureMaps, label: Tensor | None) -> Tensor:
        (image,) = maps
        self.images.append(image.detach())
        self.labels.append(label)
        return self.weight * image.mean(dim=(1, 2, 3))

    def forward(self, high: Tensor, low: Tensor | None, label: Tensor | None) -> Tensor:
        return self.head(self.features(high, low), label)


class Recording(PatchDiscriminator):
    """A discriminator on patches that keeps what its head was given."""

    def head(self, maps: FeatureMaps, label: Tensor | None) -> Tensor:
        self.maps = [*getattr(self, "maps", []), maps[0].detach()]
        return super().head(maps, label)


def nets_of(g: nn.Module, d: nn.Module, g_rate: float = 1.0, d_rate: float = 1.0) -> Nets:
    return Nets(
        g,
        d,
        torch.optim.SGD(g.parameters(), lr=g_rate),
        torch.optim.SGD(d.parameters(), lr=d_rate),
    )


def constant(*values: float) -> Tensor:
    """Images (n, 3, 2, 2) of one value each."""
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def examples_of(*values: float, low: float = 0.0) -> Examples:
    n = len(values)
    return Examples(
        constant(*values), constant(*[low] * n), torch.zeros(n, 1, 2, 2), torch.arange(n)
    )


def first_value(images: Tensor) -> list[float]:
    return images[:, 0, 0, 0].tolist()


def test_the_paper_shows_d_the_real_first_half_and_residuals_for_the_second():
    g, d = Bias(), Mean()
    update = update_nets(nets_of(g, d, g_rate=0.0), examples_of(1, 2, 3, 4), NonSaturating())
    shown = d.images[0]
    assert first_value(shown) == [1, 2, 0, 0]
    assert d.labels[0] is not None
    assert d.labels[0].tolist() == [0, 1, 2, 3]
    # Logits are 0.5 and 1 of the real ones, 0 of the others: D is undecided there.
    logits = torch.tensor([0.5, 1.0])
    expected = (softplus(-logits).sum() + 2 * torch.tensor(2.0).log()) / 4
    assert torch.isclose(update.loss_d, expected)
    assert update.real_accuracy == 1
    assert update.fake_accuracy == 0
    # The gradient of the mean of softplus(-w m) by w is -m sigmoid(-w m).
    gradient = -(torch.tensor([1.0, 2.0]) * torch.sigmoid(-logits)).sum() / 4
    assert torch.isclose(d.weight, 0.5 - gradient)


@pytest.mark.parametrize(
    ("objective", "loss", "step"),
    [
        # At b = 0 the logits are 0: d/db mean softplus(-w b) = -w / 2, that of -softplus(w b) too.
        (NonSaturating(), math.log(2), 0.25),
        (Minimax(), -math.log(2), 0.25),
    ],
    ids=["non-saturating", "minimax"],
)
def test_the_paper_updates_g_on_all_low_pass_images_and_leaves_d_alone(
    objective: Objective, loss: float, step: float
):
    g, d = Bias(), Mean()
    update = update_nets(nets_of(g, d, d_rate=0.0), examples_of(1, 2, 3, 4), objective)
    assert first_value(d.images[1]) == [0, 0, 0, 0]
    assert update.loss_g.item() == pytest.approx(loss)
    assert update.fake.shape == (4, 3, 2, 2)
    assert torch.isclose(g.by, torch.tensor(step))
    assert d.weight == 0.5
    assert all(parameter.requires_grad for parameter in d.parameters())


def test_each_example_is_paired_with_one_generated_from_the_same_low_pass_image():
    g, d = Bias(), Mean()
    update = update_nets(nets_of(g, d), examples_of(0.5, 1.5, low=0.5), Relativistic())
    # l + h is 1 and 2, what G adds to the same low-pass images 0.5.
    assert first_value(d.images[0]) == [1, 2, 0.5, 0.5]
    assert d.labels[0] is not None
    assert d.labels[0].tolist() == [0, 1, 0, 1]
    margins = 0.5 * torch.tensor([1.0, 2.0]) - 0.5 * 0.5
    assert torch.isclose(update.loss_d, softplus(-margins).mean())
    assert update.real_accuracy == 1
    assert update.fake_accuracy == 1
    # d/dw mean softplus(-w (m - 0.5)) = -(m - 0.5) sigmoid(-w (m - 0.5)).
    gradient = -(torch.tensor([0.5, 1.5]) * torch.sigmoid(-margins)).mean()
    assert torch.isclose(d.weight, 0.5 - gradient)
    # G's logits are those of the D that was just updated, against the real ones from before.
    fake = d.weight.detach() * 0.5
    difference = 0.5 * torch.tensor([1.0, 2.0]) - fake
    assert torch.isclose(update.loss_g, softplus(difference).mean())
    # d/db mean softplus(a - w b') = -w mean sigmoid(a - w b').
    assert torch.isclose(g.by, d.weight.detach() * torch.sigmoid(difference).mean())
    assert update.fake.shape == (2, 3, 2, 2)
    assert all(p.requires_grad for p in d.parameters())


@pytest.mark.parametrize(
    ("objective", "fresh", "shown"),
    [
        (Relativistic(), False, [[-1.0] * 4 + [2.5] * 4, [2.5] * 4]),
        (Relativistic(), True, [[-1.0] * 4 + [2.5] * 4, [-1.0] * 4, [2.5] * 4]),
        (NonSaturating(), False, [[-1.0] * 2 + [2.5] * 2, [2.5] * 4]),
        (NonSaturating(), True, [[-1.0] * 2 + [2.5] * 2, [2.5] * 4]),
    ],
)
def test_d_sees_real_residuals_on_real_images_and_generated_ones_on_generated_images(
    objective: Objective, fresh: bool, shown: list[list[float]]
):
    d = Mean()
    nets = nets_of(Bias(0.5), d, g_rate=0.0, d_rate=0.0)
    examples = replace(examples_of(0, 0, 0, 0, low=-1.0), generated_low=constant(2, 2, 2, 2))
    update_nets(nets, examples, objective, fresh=examples if fresh else None)
    assert [first_value(images) for images in d.images] == shown


def test_nothing_is_generated_twice_for_pairs_and_the_weights_of_d_get_no_gradient_from_g():
    calls = []
    g, d = Bias(), Mean()
    g.register_forward_hook(lambda *_: calls.append(1))
    update_nets(nets_of(g, d), examples_of(1, 2), Relativistic())
    assert len(calls) == 1
    gradient = d.weight.grad
    assert gradient is not None
    # Of D's own loss alone: G is frozen in it and D in G's.
    margins = 0.5 * torch.tensor([1.0, 2.0])
    assert torch.isclose(gradient, -(torch.tensor([1.0, 2.0]) * torch.sigmoid(-margins)).mean())


@pytest.mark.parametrize("objective", OBJECTIVES, ids=KINDS)
def test_at_the_coarsest_level_there_is_no_low_pass_image(objective: Objective):
    class Image(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = nn.Parameter(torch.tensor(0.25))

        def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
            assert low is None
            return (self.by + 0 * z).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)

    g, d = Image(), Mean()
    examples = Examples(constant(1, 2, 3, 4), None, torch.zeros(4, 1), None)
    update_nets(nets_of(g, d), examples, objective)
    half = [1, 2, 0.25, 0.25]
    pairs = [1, 2, 3, 4, 0.25, 0.25, 0.25, 0.25]
    assert first_value(d.images[0]) == (pairs if objective.kind == "relativistic" else half)
    assert g.by > 0.25


@pytest.mark.parametrize("objective", OBJECTIVES, ids=KINDS)
def test_the_gradient_penalty_of_a_linear_d_shrinks_its_weight(objective: Objective):
    """D = w m(x), so D(x + s e) - D(x) = w s m(e), and R = w^2 mean m(e)^2 = w^2 / (c h w)."""
    n, penalty = 4000, FiniteDifferencePenalty(weight=3.0, every=2, scale=0.1)

    def weight_after(terms: Terms) -> Tensor:
        torch.manual_seed(0)
        d = Mean()
        update_nets(nets_of(Bias(), d), examples_of(*[1.0] * n), objective, terms)
        return d.weight.detach()

    # The loss has weight / 2 (R1 + R2) times `every`; both are w^2 / 12.
    expected = weight_after(Terms()) - 3.0 * 2 * 2 * 0.5 / 12
    weight = weight_after(Terms(penalty=penalty))
    assert weight.item() == pytest.approx(expected.item(), rel=0.03)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=KINDS)
def test_the_exact_penalty_of_a_linear_d_shrinks_its_weight(objective: Objective):
    """grad D = w / (c h w) in every value, so R = w^2 / (c h w) = w^2 / 12."""
    results = []
    for penalty in (None, ExactPenalty(weight=3.0, every=2)):
        d = Mean()
        nets = nets_of(Bias(), d)
        update = update_nets(nets, examples_of(1, 2, 3, 4), objective, Terms(penalty))
        results.append((d.weight.item(), update.penalty))
    (without, none), (weight, measured) = results
    assert none is None
    assert measured is not None
    assert measured.item() == pytest.approx(0.5**2 / 12)
    # The loss has weight / 2 (R1 + R2) times `every`, and d/dw w^2 / 12 is w / 6.
    assert weight == pytest.approx(without - 3.0 * 2 * 2 * 0.5 / 12)


def test_the_weight_of_a_penalty_follows_the_progress():
    weights = []
    for progress in (0.0, 1.0):
        d = Mean()
        penalty = ExactPenalty(weight=3.0, every=1, decay="cosine")
        terms = Terms(penalty, penalty.weight_at(progress))
        update_nets(nets_of(Bias(), d), examples_of(1, 2), Relativistic(), terms)
        weights.append(d.weight.item())
    assert weights[1] - weights[0] == pytest.approx(0.7 * 3.0 * 2 * 0.5 / 12)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=KINDS)
def test_the_gradients_of_each_net_are_measured_and_clipped_on_their_own(objective: Objective):
    results = []
    for clip in (None, 0.01):
        g, d = Bias(), Mean()
        terms = Terms(ExactPenalty(), clip=clip)
        update = update_nets(nets_of(g, d), examples_of(1, 2, 3, 4), objective, terms)
        results.append((g.by.item(), d.weight.item(), update))
    (b, w, free), (clipped_b, clipped_w, clipped) = results
    # SGD at rate 1 moves by the gradient, from b = 0 and w = 0.5.
    assert (abs(b), abs(w - 0.5)) == pytest.approx((free.gradient_g.item(), free.gradient_d.item()))
    assert (abs(clipped_b), abs(clipped_w - 0.5)) == pytest.approx((0.01, 0.01), rel=1e-3)
    assert clipped.gradient_d.item() == pytest.approx(free.gradient_d.item())
    assert clipped.gradient_g > 0.01


class Dropped(Mean):
    """The linear discriminator with dropout of the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def head(self, maps: FeatureMaps, label: Tensor | None) -> Tensor:
        return self.dropout(super().head(maps, label))


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda penalty: penalty.kind)
def test_the_penalty_is_that_of_d_without_dropout(penalty: Penalty):
    """Two passes with masks of their own would differ by about w m, far more than by w s m(e)."""
    n = 4000

    def weight_after(terms: Terms) -> float:
        torch.manual_seed(0)
        d = Dropped()
        update_nets(nets_of(Bias(), d), examples_of(*[1.0] * n), Relativistic(), terms)
        assert d.dropout.training
        return d.weight.item()

    expected = weight_after(Terms()) - 3.0 * 2 * 2 * 0.5 / 12
    assert weight_after(Terms(penalty)) == pytest.approx(expected, rel=0.03)


def test_a_penalty_keeps_the_slope_of_a_net_low():
    def slope(penalty: FiniteDifferencePenalty | None) -> float:
        torch.manual_seed(0)
        d = PatchDiscriminator((8, 8), patch=2, maps=8, units=16)
        g = PatchGenerator((8, 8), patch=2, maps=8, blocks=1, planes=1)
        high, low, z = torch.randn(32, 3, 8, 8), torch.zeros(32, 3, 8, 8), torch.rand(32, 1, 8, 8)
        d.initialize_from(high, None)
        nets = Nets(g, d, *(torch.optim.Adam(net.parameters(), lr=3e-3) for net in (g, d)))
        for _ in range(30):
            update_nets(nets, Examples(high, low, z, None), Relativistic(), Terms(penalty))
        image = high.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(d(image, None, None).sum(), image)
        return gradient.norm().item()

    assert slope(FiniteDifferencePenalty(weight=10.0, every=1)) < 0.5 * slope(None)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=KINDS)
def test_instance_noise_is_on_all_that_the_head_of_d_sees(objective: Objective):
    torch.manual_seed(0)
    high, low = torch.randn(256, 3, 8, 8), torch.zeros(256, 3, 8, 8)
    d, g = Recording((8, 8), patch=2, maps=8, units=16), Bias()
    d.initialize_from(high, None)
    examples = Examples(high, low, torch.zeros(256, 1, 8, 8), None)
    update_nets(nets_of(g, d, 0.0, 0.0), examples, objective, Terms(instance_noise=0.3))
    both, generated = d.maps
    real = high if objective.examples == "pairs" else high[:128]
    clean = d.basis.whiten(torch.cat((real, torch.zeros_like(real))))
    assert both.shape == clean.shape
    zeros = d.basis.whiten(torch.zeros_like(high))
    for maps, without in ((both, clean), (generated, zeros)):
        noise = maps - without
        assert torch.allclose(noise.std(dim=(0, 2, 3)), torch.tensor(0.3), atol=0.02)
        assert noise.mean().abs() < 0.01


@pytest.mark.parametrize("objective", OBJECTIVES, ids=KINDS)
def test_d_sees_augmented_images_only_and_g_learns_through_them(objective: Objective):
    torch.manual_seed(0)
    # l + h = 0 is gray all over: brightness alone changes it, so D sees images of one value each.
    low = torch.randn(64, 3, 4, 4)
    d, g = Recording((4, 4), patch=1, maps=8, units=16), Bias()
    d.initialize_from(torch.randn(64, 3, 4, 4), None)
    examples = Examples(-low, low, torch.zeros(64, 1, 4, 4), None)
    update_nets(nets_of(g, d, d_rate=0.0), examples, objective, Terms(augment=True))
    both, generated = (d.basis.unwhiten(maps) for maps in d.maps)
    real = both[: 64 if objective.examples == "pairs" else 32]
    assert torch.allclose(real, real.mean(dim=(1, 2, 3), keepdim=True).expand_as(real), atol=1e-5)
    assert real[:, 0, 0, 0].min() < -0.4
    assert real[:, 0, 0, 0].max() > 0.4
    assert len(generated) == 64
    if objective.examples == "pairs":
        # The generated ones are augmented once, for the updates of D and of G.
        assert torch.equal(generated, both[64:])
    assert g.by != 0


@pytest.mark.parametrize("objective", OBJECTIVES, ids=KINDS)
def test_supervision_adds_the_distance_to_the_real_residual(objective: Objective):
    """With D = 0 it is all that moves G: d/db weight mean |b - h| = -weight where h > b."""
    g = Bias()
    nets = nets_of(g, Mean(0.0), d_rate=0.0)
    update = update_nets(nets, examples_of(2, 2, 2, 2), objective, Terms(supervised=0.25))
    assert torch.isclose(g.by, torch.tensor(0.25))
    # The record is of the adversarial loss alone.
    assert update.loss_g.abs().item() == pytest.approx(math.log(2))


def test_supervision_alone_learns_the_residual():
    """D is constant, so the distance is all that moves G; it has to fall to near 0."""
    torch.manual_seed(0)
    low = torch.randn(32, 3, 8, 8)
    high, z = low.roll(1, dims=3), torch.rand(32, 1, 8, 8)
    g = PatchGenerator((8, 8), patch=2, maps=16, blocks=1, planes=1)
    g.high_basis.fit(high)  # and no linear prediction, which would be exact
    d = Mean(0.0)
    adam, sgd = torch.optim.Adam(g.parameters(), lr=1e-2), torch.optim.SGD(d.parameters(), lr=0)
    examples = Examples(high, low, z, None)

    def distance_now() -> float:
        return g.deviations(g(low, z, None), high).mean().item()

    before = distance_now()
    for _ in range(100):
        update_nets(Nets(g, d, adam, sgd), examples, Relativistic(), Terms(supervised=3.0))
    assert distance_now() < 0.3 * before


def test_the_distance_is_the_generators_own_or_the_mean_absolute_difference():
    torch.manual_seed(0)
    high, other = torch.randn(2, 4, 3, 8, 8)
    own = own_deviations(Bias(), high, other)
    assert torch.equal(own, torch.maximum(high - other, other - high))
    g = PatchGenerator((8, 8), patch=2, maps=8, blocks=1, planes=1)
    g.high_basis.fit(10 * torch.randn(100, 3, 8, 8))
    assert torch.equal(own_deviations(g, high, other), g.deviations(high, other))
    assert own_deviations(g, high, other).mean() < 0.2 * own.mean()


def test_the_distance_of_residuals_does_not_depend_on_their_scale():
    """Whitened normal components differ by a normal of variance 2: mean |d| = 2 / sqrt(pi)."""
    torch.manual_seed(0)
    scale = torch.tensor([1.0, 10.0, 100.0]).view(1, 3, 1, 1)
    g = PatchGenerator((8, 8), patch=2, maps=8, blocks=1, planes=1)
    high, other = (scale * torch.randn(4000, 3, 8, 8) for _ in range(2))
    g.high_basis.fit(high)
    assert abs(g.deviations(high, other).mean().item() - 2 / torch.pi**0.5) < 0.01
    assert g.deviations(high, high).max() == 0


def test_no_noise_draws_no_random_numbers():
    x = torch.randn(3)
    before = torch.random.get_rng_state()
    assert torch.equal(add_noise(x, 0.0), x)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_noise_is_normal_and_independent_in_any_layout(layout: torch.memory_format):
    torch.manual_seed(0)
    x = torch.randn(64, 4, 16, 16).to(memory_format=layout)
    noise = add_noise(x, 0.5) - x
    assert noise.stride() == x.stride()
    standard = 2 * noise.double()
    assert abs(standard.mean()) < 0.01
    assert abs(standard.std() - 1) < 0.01
    assert abs(standard.pow(4).mean() - 3) < 0.1
    for axis in range(4):
        assert abs((standard * standard.roll(1, axis)).mean()) < 0.02, axis
