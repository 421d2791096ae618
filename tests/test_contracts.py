"""What every generator, discriminator, noise and objective promises, whoever adds it.

The kinds are taken from the package, so a new one is tested without a change here. Nets are built
small, by the names that their fields share, and their weights are drawn anew: some kinds start with
weights of zero, from which nothing could be seen.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lapgan import models, objectives, pyramid
from lapgan.cascade.levels import Level
from lapgan.cascade.sampler import BlockKey, BlockSampler
from lapgan.compute import Compute
from lapgan.models import feature_discriminator, fourier
from lapgan.models.contracts import DataInitialized, SupportsDistance
from lapgan.models.efficientnet import CHANNELS
from lapgan.models.feature_discriminator import FeatureDiscriminatorSection
from lapgan.models.joint_discriminator import JointDiscriminator
from lapgan.models.residual_views import ResidualDiscriminatorSection
from lapgan.noise import VALUE_BITS, AnyNoise, LowRankNoise, correlated
from lapgan.optimizers import Adam
from lapgan.penalty import ExactPenalty, FiniteDifferencePenalty
from lapgan.sizes import Size
from lapgan.training import update as update_module
from lapgan.training.examples import Examples
from lapgan.training.update import Nets, Terms, update_nets


def _kinds(package: Any, attribute: str) -> list[Any]:
    modules = [import_module(f"{package.__name__}.{name}") for name in package.FAMILIES]
    return [kind for module in modules for kind in getattr(module, attribute, ())]


class Joint(ResidualDiscriminatorSection):
    """A level's `feature_discriminator` beside a D that supports everything there is."""

    kind: Literal["joint"] = "joint"  # type: ignore[assignment]

    def build(self, size: Size, num_classes: int) -> nn.Module:
        own = super().build(size, num_classes)
        section = FeatureDiscriminatorSection(maps=4, units=8)
        return JointDiscriminator(own, section.build(size, num_classes))


GENERATORS = _kinds(models, "GENERATORS")
KINDS_OF_D = _kinds(models, "DISCRIMINATORS")
DISCRIMINATORS = [*KINDS_OF_D, Joint]
OBJECTIVES = _kinds(objectives, "OBJECTIVES")
NOISES = get_args(AnyNoise)
SIZES = [(12, 12), (12, 16)]
SMALL = {"units": 16, "maps": 8, "blocks": 1, "patch": 2, "dropout": 0.0, "groups": 4}
CUDA = Compute(torch.device("cuda"), torch.float32, "as asked")

each_generator = pytest.mark.parametrize("kind", GENERATORS, ids=lambda kind: kind().kind)
each_discriminator = pytest.mark.parametrize("kind", DISCRIMINATORS, ids=lambda kind: kind().kind)
each_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda kind: kind().kind)
each_noise = pytest.mark.parametrize("kind", NOISES, ids=lambda kind: kind().kind)
each_size = pytest.mark.parametrize("size", SIZES, ids=str)


def small(kind: Any) -> Any:
    """The section with small fields; a field that is a tuple gets two layers of that size."""
    defaults = {name: field.default for name, field in kind.model_fields.items()}
    fields = {name: value for name, value in SMALL.items() if name in defaults}
    return kind(**{
        name: (value, value) if isinstance(defaults[name], tuple) else value
        for name, value in fields.items()
    })  # fmt: skip


def redraw(net: nn.Module) -> nn.Module:
    for parameter in net.parameters():
        # Wider weights let the logits of a deep net grow until no loss has a gradient left.
        fan_in = parameter[:1].numel() if parameter.dim() > 1 else 1
        nn.init.normal_(parameter, std=min(0.3, fan_in**-0.5))
    return net


def build_generator(kind: Any, size: Size, classes: int = 0) -> nn.Module:
    return redraw(small(kind).build(size, kind.takes_noise[0](), classes))


def build_discriminator(kind: Any, size: Size, classes: int = 0) -> Any:
    return redraw(small(kind).build(size, classes))


def shape_of_logits(kind: Any, batch: int) -> tuple[int, ...]:
    """One logit per example, and one for each of the four grids of pretrained features."""
    several = {"features": (4,), "joint": (5,)}
    return (batch, *several.get(kind().kind, ()))


class StandIn(nn.Module):
    """A net of the shape of EfficientNet-Lite, without its weights and most of its layers."""

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self._depthwise_conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self._depthwise_conv(x)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)  # always the same net, as the one that it stands for
        self._conv_stem = nn.Conv2d(3, 32, 3, 2, padding=1)
        pairs = itertools.pairwise((32, *CHANNELS))
        self._blocks = nn.ModuleList(
            self.Block(*pair, 2 if i else 1) for i, pair in enumerate(pairs)
        )


@pytest.fixture(autouse=True)
def _pretrained_nets_are_small(monkeypatch: pytest.MonkeyPatch):
    def load(*_: Any) -> nn.Module:
        with torch.random.fork_rng(devices=()):
            return StandIn().requires_grad_(False)

    monkeypatch.setattr(feature_discriminator, "load_efficientnet", load)


def inputs(kind: Any, size: Size, batch: int) -> tuple[Tensor | None, Tensor]:
    """A low-pass image, if the generator takes one, and noise."""
    low = torch.randn(batch, 3, *size) if kind.takes_low else None
    return low, kind.takes_noise[0]().sample(batch, size, torch.Generator().manual_seed(1))


@each_size
@each_generator
@pytest.mark.parametrize("batch", [5, 1, 0])
def test_a_generator_makes_images_of_its_size(kind: Any, size: Size, batch: int):
    low, z = inputs(kind, size, batch)
    high = build_generator(kind, size)(low, z, None)
    assert high.shape == (batch, 3, *size)
    assert torch.isfinite(high).all()


@each_size
@each_discriminator
@pytest.mark.parametrize("batch", [8, 1, 0])
@pytest.mark.parametrize("coarsest", [False, True])
def test_a_discriminator_gives_logits_of_each_example(
    kind: Any, size: Size, batch: int, coarsest: bool
):
    net = build_discriminator(kind, size)
    high = torch.randn(batch, 3, *size)
    low = None if coarsest else torch.randn(batch, 3, *size)
    logits = net(high, low, None)
    assert logits.shape == shape_of_logits(kind, batch)
    assert torch.isfinite(logits).all()
    assert torch.equal(net.head(net.features(high, low), None), logits)


@each_discriminator
def test_the_features_of_a_discriminator_have_nothing_to_train(kind: Any):
    net = build_discriminator(kind, (12, 12))
    high = torch.randn(4, 3, 12, 12)
    assert not any(x.requires_grad for x in net.features(high, high))


@each_generator
def test_the_class_changes_what_is_generated(kind: Any):
    low, z = inputs(kind, (12, 12), 1)
    net = build_generator(kind, (12, 12), classes=3).eval()
    images = [net(low, z, torch.tensor([label])) for label in range(3)]
    assert not torch.allclose(images[0], images[1], atol=1e-4)
    assert not torch.allclose(images[1], images[2], atol=1e-4)


@each_discriminator
def test_the_class_changes_the_logit(kind: Any):
    net = build_discriminator(kind, (12, 12), classes=3).eval()
    high = torch.randn(1, 3, 12, 12).clamp(min=0)
    logits = [net(high, high, torch.tensor([label])) for label in range(3)]
    assert len({round(logit.mean().item(), 4) for logit in logits}) == 3


@each_generator
@pytest.mark.parametrize("classes", [0, 3])
def test_every_weight_of_a_generator_gets_a_finite_gradient(kind: Any, classes: int):
    net = build_generator(kind, (12, 16), classes)
    low, z = inputs(kind, (12, 16), 6)
    label = torch.arange(6) % 3 if classes else None
    net(low, z, label).square().sum().backward()
    check_gradients(net)


@each_discriminator
@pytest.mark.parametrize("classes", [0, 3])
def test_every_weight_of_a_discriminator_gets_a_finite_gradient(kind: Any, classes: int):
    net = build_discriminator(kind, (12, 16), classes)
    label = torch.arange(16) % 3 if classes else None
    high = torch.randn(16, 3, 12, 16)
    net(high, high, label).square().sum().backward()
    check_gradients(net)


def check_gradients(net: nn.Module) -> None:
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", [*GENERATORS, *DISCRIMINATORS], ids=lambda kind: kind.__name__)
def test_a_net_is_the_same_after_it_was_saved_and_loaded(kind: Any, tmp_path: Path):
    def make() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
        if kind in GENERATORS:
            low, z = inputs(kind, (12, 12), 4)
            return build_generator(kind, (12, 12), 3), lambda net: net(low, z, label)
        high = torch.randn(4, 3, 12, 12)
        return build_discriminator(kind, (12, 12), 3), lambda net: net(high, high, label)

    label = torch.tensor([0, 1, 2, 0])
    net, run = make()
    initialize(net, (12, 12))
    safetensors.torch.save_file(net.state_dict(), tmp_path / "net.safetensors")
    again, _ = make()
    before = run(again.eval())
    again.load_state_dict(safetensors.torch.load_file(tmp_path / "net.safetensors"))
    assert torch.equal(run(net.eval()), run(again.eval()))
    assert not torch.equal(before, run(again.eval()))


def initialize(net: nn.Module, size: Size) -> None:
    if isinstance(net, DataInitialized):
        net.initialize_from(torch.randn(50, 3, *size), torch.randn(50, 3, *size))


@each_generator
def test_a_generator_in_bfloat16_is_close_to_itself_in_float32(kind: Any):
    low, z = inputs(kind, (12, 12), 4)
    net = build_generator(kind, (12, 12)).eval()
    exact = net(low, z, None)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(low, z, None).float()
    # 8 bits of precision per product; sums over layers lose a few more.
    assert (rounded - exact).abs().max() < 0.05 * exact.abs().max()
    assert not torch.equal(rounded, exact)


@each_discriminator
def test_a_discriminator_in_bfloat16_is_close_to_itself_in_float32(kind: Any):
    net = build_discriminator(kind, (12, 12)).eval()
    high = torch.randn(8, 3, 12, 12)
    exact = net(high, high, None)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(high, high, None).float()
    assert (rounded - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize("kind", [*GENERATORS, *DISCRIMINATORS], ids=lambda kind: kind.__name__)
def test_a_net_can_be_built_and_run_without_memory(kind: Any):
    with torch.device("meta"):
        image = torch.empty(4, 3, 12, 12)
        if kind in GENERATORS:
            low, z = inputs_on_device(kind, image)
            assert build_generator(kind, (12, 12))(low, z, None).shape == image.shape
        else:
            logits = build_discriminator(kind, (12, 12))(image, image, None)
            assert logits.shape == shape_of_logits(kind, 4)


def inputs_on_device(kind: Any, image: Tensor) -> tuple[Tensor | None, Tensor]:
    size = (image.shape[2], image.shape[3])
    shape = kind.takes_noise[0]().sample(len(image), size, torch.Generator()).shape
    return (image if kind.takes_low else None), torch.empty(shape, device=image.device)


@pytest.fixture(autouse=True)
def _no_pretended_tensors_are_remembered() -> Iterator[None]:
    yield
    for remembered in (
        pyramid._matrix,
        correlated._hash,
        correlated._rows,
        fourier._fourier_matrix,
    ):
        remembered.cache_clear()


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Tensors without values, on a CUDA device that need not exist.

    An operation on tensors of two devices raises. There is no backward pass.
    """
    with FakeTensorMode(), torch.device("cuda"):
        yield


@pytest.mark.parametrize("kind", [*GENERATORS, *DISCRIMINATORS], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("classes", [0, 3])
def test_a_net_makes_all_its_tensors_on_the_device_of_its_inputs(kind: Any, classes: int):
    with pretended_gpu():
        image = torch.randn(8, 3, 12, 12)
        label = torch.zeros(8, dtype=torch.int64) if classes else None
        net = (build_generator if kind in GENERATORS else build_discriminator)(
            kind, (12, 12), classes
        )
        initialize(net, (12, 12))
        if kind in GENERATORS:
            low, z = inputs_on_device(kind, image)
            output = net(low, z, label)
            if isinstance(net, SupportsDistance):
                assert net.deviations(output, image).device.type == "cuda"
        else:
            output = net(image, image, label)
        assert output.device.type == "cuda"
        assert all(tensor.device.type == "cuda" for tensor in net.state_dict().values())


def build_nets(generator: Any, discriminator: Any, size: Size, classes: int = 0) -> Nets:
    g = build_generator(generator, size, classes)
    d = build_discriminator(discriminator, size, classes)
    return Nets(g, d, *(Adam().build(net.parameters()) for net in (g, d)))


ALL_TERMS = Terms(FiniteDifferencePenalty(), supervised=1.0, instance_noise=0.1, augment=True)


@each_objective
@pytest.mark.parametrize("generator", GENERATORS, ids=lambda kind: kind().kind)
@pytest.mark.parametrize("discriminator", KINDS_OF_D, ids=lambda kind: kind().kind)
def test_an_update_makes_all_its_tensors_on_the_device_of_its_examples(
    objective: Any, generator: Any, discriminator: Any, monkeypatch: pytest.MonkeyPatch
):
    losses: list[Tensor] = []
    monkeypatch.setattr(update_module, "update_weights", lambda _, loss, clip: losses.append(loss))
    with pretended_gpu():
        image = torch.randn(8, 3, 12, 12)
        low, z = inputs_on_device(generator, image)
        nets = build_nets(generator, discriminator, (12, 12))
        update_nets(nets, Examples(image, low, z, None), objective(), ALL_TERMS)
    assert [loss.device.type for loss in losses] == ["cuda", "cuda"]


@pytest.mark.parametrize(
    "kind", [kind for kind in GENERATORS if kind.takes_low], ids=lambda kind: kind().kind
)
def test_the_descent_makes_all_its_tensors_on_the_device_of_the_nets(kind: Any):
    coarsest = next(kind for kind in GENERATORS if not kind.takes_low)
    kinds = {(12, 12): kind, (6, 6): coarsest}
    with FakeTensorMode():
        with torch.device("cuda"):
            nets = {size: build_generator(kind, size, 2) for size, kind in kinds.items()}
        levels = [
            Level(
                *(size, kinds[size].takes_noise[0](), net),
                sigma=0.1 if kinds[size]().takes_sigma else None,
            )
            for size, net in nets.items()
        ]
        sampler = BlockSampler(levels, "burt-adelson", CUDA, None, 1)
        coarse, fine = sampler.run(
            None, torch.zeros(64, dtype=torch.int64), BlockKey(0, range(1)), 0
        )
    assert {x.device.type for x in (*coarse[1:], *fine)} == {"cuda"}


@pytest.mark.parametrize("kind", KINDS_OF_D, ids=lambda kind: kind().kind)
@each_objective
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_every_discriminator_can_be_differentiated_twice(kind: Any, objective: Any, autocast: bool):
    """D = 0 of a large exact penalty is flat: the penalty has to fall, whatever G is."""
    generator = next(kind for kind in GENERATORS if kind.takes_low)
    nets = build_nets(generator, kind, (12, 12), classes=2)
    initialize(nets.discriminator, (12, 12))
    low, z = inputs(generator, (12, 12), 8)
    examples = Examples(torch.randn(8, 3, 12, 12), low, z, torch.arange(8) % 2)
    terms, steepness = Terms(ExactPenalty(weight=100.0, every=1)), []
    nets.discriminator_optimizer.param_groups[0]["lr"] = 0.003
    for _ in range(20):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            steepness.append(update_nets(nets, examples, objective(), terms).penalty.item())
    assert steepness[0] > 0
    assert steepness[-1] < 0.9 * steepness[0]


@each_objective
@pytest.mark.parametrize("generator", GENERATORS, ids=lambda kind: kind().kind)
@pytest.mark.parametrize("discriminator", KINDS_OF_D, ids=lambda kind: kind().kind)
@pytest.mark.parametrize("terms", [Terms(), ALL_TERMS], ids=["plain", "all terms"])
def test_every_objective_trains_every_pair_of_nets(
    objective: Any, generator: Any, discriminator: Any, terms: Terms
):
    nets = build_nets(generator, discriminator, (12, 12), classes=2)
    initialize(nets.discriminator, (12, 12))
    before = [[p.clone() for p in net.parameters()] for net in (nets.generator, nets.discriminator)]
    low, z = inputs(generator, (12, 12), 8)
    examples = Examples(torch.randn(8, 3, 12, 12), low, z, torch.arange(8) % 2)
    logits = nets.discriminator(examples.high, low, examples.label)
    update = update_nets(nets, examples, objective(), terms)
    assert update.fake.shape == (8, 3, 12, 12)
    assert torch.isfinite(update.loss_d)
    assert torch.isfinite(update.loss_g)
    assert 0 <= update.real_accuracy <= 1
    assert 0 <= update.fake_accuracy <= 1
    for net, weights in zip((nets.generator, nets.discriminator), before, strict=True):
        changes = [not torch.equal(p, w) for p, w in zip(net.parameters(), weights, strict=True)]
        # Pairs do not see a constant that is added to every logit. Of several heads, the gradient
        # of another bias may cancel, too, where the loss is linear.
        unseen = 1 if logits.dim() == 1 else 2 * logits.shape[1]
        assert sum(changes) >= len(changes) - unseen
        assert all(c for c, p in zip(changes, net.parameters(), strict=True) if p.dim() > 1)
        assert all(torch.isfinite(p).all() for p in net.parameters())
        # The nets can be trained again: nothing of them stayed frozen.
        assert all(p.requires_grad for p in net.parameters())


@each_objective
@pytest.mark.parametrize("count", [1, 7])
def test_an_objective_rewards_d_for_telling_apart_and_g_for_being_taken_for_real(
    objective: Any, count: int
):
    real, fake = (torch.randn(count, requires_grad=True) for _ in range(2))
    loss_d = objective().discriminator_loss(real=real, fake=fake)
    assert loss_d.shape == ()
    loss_d.backward()
    assert (real.grad <= 0).all()  # type: ignore[operator]
    assert (fake.grad >= 0).all()  # type: ignore[operator]
    logits = torch.randn(count, requires_grad=True)
    loss_g = objective().generator_loss(real=real.detach(), fake=logits)
    assert loss_g.shape == ()
    loss_g.backward()
    assert (logits.grad < 0).all()  # type: ignore[operator]


@each_objective
def test_a_d_that_is_right_by_far_has_almost_no_loss(objective: Any):
    right, wrong = torch.full((4,), 30.0), torch.full((4,), -30.0)
    assert objective().discriminator_loss(real=right, fake=wrong) < 1e-6
    assert objective().discriminator_loss(real=wrong, fake=right) > 1


@each_noise
@each_size
@pytest.mark.parametrize("batch", [3, 1, 0])
def test_noise_follows_its_generator(kind: Any, size: Size, batch: int):
    def sample(seed: int) -> Tensor:
        return kind().sample(batch, size, torch.Generator().manual_seed(seed))

    z = sample(1)
    assert len(z) == batch
    assert z.dtype == torch.float32
    assert torch.equal(z, sample(1))
    assert batch == 0 or not torch.equal(z, sample(2))
    # Planes have the level's size; a vector has none.
    assert z.dim() == 2 or z.shape[2:] == size


@each_noise
def test_noise_is_centered_and_as_wide_as_it_says(kind: Any):
    z = kind().sample(4000, (6, 6), torch.Generator().manual_seed(0)).flatten(1)
    # Of so many draws the mean is within 5 standard errors.
    variance = kind().variance
    assert z.mean(dim=0).abs().max() < 5 * (variance / 4000) ** 0.5
    assert z.var().item() == pytest.approx(variance, abs=0.02)


@each_noise
def test_the_entropy_of_noise_grows_with_the_size_and_is_that_of_its_values_at_most(kind: Any):
    entropies = [kind().entropy(size) for size in ((4, 4), (8, 8), (8, 16), (32, 32))]
    assert entropies[0] > 0
    assert entropies == sorted(entropies)
    for size, entropy in zip(((4, 4), (32, 32)), (entropies[0], entropies[-1]), strict=True):
        values = kind().sample(1, size, torch.Generator()).numel()
        assert entropy <= VALUE_BITS * max(values, 1)


def with_few_values(kind: Any, **chosen: str) -> Any:
    fields: dict[str, Any] = {"dimension": 9, "rank": 9, "planes": 1, **chosen}
    return kind(**{name: x for name, x in fields.items() if name in kind.model_fields})


@each_noise
@each_size
@pytest.mark.parametrize("factor", ["fixed", "learned"])
@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_rank_and_effective_dimension_are_those_of_samples(
    kind: Any, size: Size, factor: str, distribution: str
):
    """(tr C)^2 / tr C^2 from two independent halves, whose products have no bias."""
    noise = with_few_values(kind, factor=factor, distribution=distribution)
    z = noise.sample(8000, size, torch.Generator().manual_seed(0)).flatten(1).double()
    assert torch.linalg.matrix_rank(z[:1000], rtol=1e-5) == noise.covariance_rank(size)
    first, second = (half.T @ half / len(half) for half in z.tensor_split(2))
    dimension = first.trace() * second.trace() / (first * second).sum()
    assert dimension.item() == pytest.approx(noise.effective_dimension(size), rel=0.05)
    # At most the rank, up to rounding.
    assert noise.effective_dimension(size) <= noise.covariance_rank(size) * (1 + 1e-12)


@each_noise
@each_size
def test_the_values_of_noise_are_independent_and_make_it_again(kind: Any, size: Size):
    noise = with_few_values(kind)
    z = noise.sample(4000, size, torch.Generator().manual_seed(0))
    values = noise.values_of(z)
    assert values.shape == (4000, noise.covariance_rank(size))
    correlation = values[:, :50].T.corrcoef() - torch.eye(min(50, values.shape[1]))
    # The largest of so many is within 6 standard errors.
    assert correlation.abs().max() < 6 / 4000**0.5
    assert values.var().item() == pytest.approx(noise.variance, abs=0.02)
    # z is a linear function of them.
    again = torch.linalg.lstsq(values.double(), z.flatten(1).double()).solution
    torch.testing.assert_close(values.double() @ again, z.flatten(1).double(), atol=1e-4, rtol=0)


@each_generator
def test_every_noise_that_a_generator_takes_reaches_what_it_generates(kind: Any):
    for each in kind.takes_noise:
        noise = each()
        net = redraw(small(kind).build((12, 12), noise, 2))
        low = torch.randn(3, 3, 12, 12) if kind.takes_low else None
        z = noise.sample(3, (12, 12), torch.Generator().manual_seed(1)).requires_grad_()
        image = net.eval()(low, z, torch.tensor([0, 1, 0]))
        assert image.shape == (3, 3, 12, 12)
        (gradient,) = torch.autograd.grad(image.square().sum(), z)
        assert (gradient.flatten(1).abs().amax(dim=1) > 0).all(), noise.kind


@pytest.mark.parametrize(
    "kind", [kind for kind in GENERATORS if kind.takes_low], ids=lambda kind: kind().kind
)
def test_a_vector_becomes_a_plane_by_a_matrix_that_is_trained(kind: Any):
    """A plane of a vector has the rank of the vector, and noise gets its variance."""
    net = small(kind).build((12, 12), LowRankNoise(rank=5, factor="learned"), 0)
    v = torch.rand(4000, 5) * 2 - 1
    z = net.to_planes(v).flatten(1)
    assert z.shape == (4000, 144)
    assert torch.linalg.matrix_rank(z.double(), rtol=1e-5) == 5
    assert z.var().item() == pytest.approx(1 / 3, abs=0.02)
    assert "to_planes.factor.weight" in dict(net.named_parameters())
