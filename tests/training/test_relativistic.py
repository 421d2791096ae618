import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from lapgan.models.patch import PatchDiscriminator, PatchGenerator, Views
from lapgan.recipe import DifferencePenalty
from lapgan.training.relativistic import update_pairs
from lapgan.training.step import Examples


class Bias(nn.Module):
    """A generator of constant residuals."""

    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor(0.0))

    def forward(self, low: Tensor, z: Tensor, label: Tensor | None) -> Tensor:
        return self.by + 0 * low


class Mean(nn.Module):
    """A discriminator that is linear in the image's mean."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, high: Tensor, low: Tensor, label: Tensor | None) -> Tensor:
        return self.weight * (high + low).mean(dim=(1, 2, 3))


def test_each_example_is_paired_with_a_generated_one_on_what_g_was_given():
    g, d = Bias(), Mean()
    g_sgd, d_sgd = (torch.optim.SGD(net.parameters(), lr=1.0) for net in (g, d))
    high = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    low, given = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.5)
    examples = Examples(high, low, given, torch.zeros(2, 1, 4, 4), None)
    judgement, loss_g, fake = update_pairs(g, d, g_sgd, d_sgd, examples)
    margins = 0.5 * torch.tensor([1.0, 2.0]) - 0.5 * 0.5
    assert torch.isclose(judgement.loss, softplus(-margins).mean())
    assert judgement.real_accuracy == 1
    # d/dw mean softplus(-w (m - 0.5)) = -(m - 0.5) sigmoid(-w (m - 0.5)).
    gradient = -(torch.tensor([0.5, 1.5]) * torch.sigmoid(-margins)).mean()
    assert torch.isclose(d.weight, 0.5 - gradient)
    # G is judged by the D that was just updated, against the logits from before.
    judged = d.weight.detach() * 0.5
    expected = softplus(0.5 * torch.tensor([1.0, 2.0]) - judged)
    assert torch.isclose(loss_g, expected.mean())
    assert g.by > 0
    assert fake.shape == high.shape
    assert all(p.requires_grad for p in d.parameters())


def test_a_penalty_holds_d_back():
    def slope(penalty: DifferencePenalty | None) -> float:
        torch.manual_seed(0)
        d = PatchDiscriminator((8, 8), patch=2, maps=8, units=16)
        g = PatchGenerator((8, 8), patch=2, maps=8, blocks=1, planes=1)
        high, low, z = torch.randn(32, 3, 8, 8), torch.zeros(32, 3, 8, 8), torch.rand(32, 1, 8, 8)
        d.fit(high, None)
        g_adam, d_adam = (torch.optim.Adam(net.parameters(), lr=3e-3) for net in (g, d))
        for _ in range(30):
            update_pairs(g, d, g_adam, d_adam, Examples(high, low, low, z, None), penalty)
        image = high.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(d(image, None, None).sum(), image)
        return gradient.norm().item()

    assert slope(DifferencePenalty(weight=10.0, every=1)) < 0.5 * slope(None)


class Watched(PatchDiscriminator):
    """A discriminator that keeps what it judged."""

    def judge(self, views: Views, label: Tensor | None) -> Tensor:
        self.judged = [*getattr(self, "judged", []), views[0].detach()]
        return super().judge(views, label)


def test_instance_noise_is_on_all_that_d_judges():
    torch.manual_seed(0)
    high, low = torch.randn(256, 3, 8, 8), torch.zeros(256, 3, 8, 8)
    d, g = Watched((8, 8), patch=2, maps=8, units=16), Bias()
    d.fit(high, None)
    g_sgd, d_sgd = (torch.optim.SGD(net.parameters(), lr=0.0) for net in (g, d))
    examples = Examples(high, low, low, torch.zeros(256, 1, 8, 8), None)
    update_pairs(g, d, g_sgd, d_sgd, examples, instance_noise=0.3)
    both, generated = d.judged
    clean = d.basis.whiten(torch.cat((high, torch.zeros_like(high))))
    for judged, without in ((both, clean), (generated, clean[256:])):
        deviation = (judged - without).std(dim=(0, 2, 3))
        assert torch.allclose(deviation, torch.tensor(0.3), atol=0.02)


def test_an_augmented_image_is_all_that_d_judges_and_g_learns_through_it():
    torch.manual_seed(0)
    # l + h = 0 is grey all over: brightness alone changes it, so D sees images of one value each.
    low = torch.randn(64, 3, 4, 4)
    d, g = Watched((4, 4), patch=1, maps=8, units=16), Bias()
    d.fit(torch.randn(64, 3, 4, 4), None)
    g_sgd, d_sgd = torch.optim.SGD(g.parameters(), lr=1.0), torch.optim.SGD(d.parameters(), lr=0.0)
    examples = Examples(-low, low, torch.zeros_like(low), torch.zeros(64, 1, 4, 4), None)
    update_pairs(g, d, g_sgd, d_sgd, examples, augmented=True)
    both, generated = (d.basis.color(judged) for judged in d.judged)
    assert torch.allclose(both, both.mean(dim=(1, 2, 3), keepdim=True).expand_as(both), atol=1e-5)
    values = both[:, 0, 0, 0]
    assert values.min() < -0.4
    assert values.max() > 0.4
    # The generated ones are looked at once, for D's update and for G's.
    assert torch.equal(generated, both[64:])
    assert g.by != 0


def test_supervision_alone_learns_the_residual():
    """D is constant, so the distance is all that G hears; it has to fall to near 0."""
    torch.manual_seed(0)
    low = torch.randn(32, 3, 8, 8)
    high, z = low.roll(1, dims=3), torch.rand(32, 1, 8, 8)
    g = PatchGenerator((8, 8), patch=2, maps=16, blocks=1, planes=1)
    g.high_basis.fit(high)  # and no linear prediction, which would be exact
    d = Mean()
    d.weight.data.zero_()
    g_adam, d_sgd = torch.optim.Adam(g.parameters(), lr=1e-2), torch.optim.SGD(d.parameters(), lr=0)
    examples = Examples(high, low, low, z, None)

    def distance() -> float:
        return g.distance(g(low, z, None), high).item()

    before = distance()
    for _ in range(100):
        update_pairs(g, d, g_adam, d_sgd, examples, supervised=3.0)
    assert distance() < 0.3 * before


def test_the_distance_of_residuals_does_not_depend_on_their_scale():
    """Whitened normal components differ by a normal of variance 2: mean |d| = 2 / sqrt(pi)."""
    torch.manual_seed(0)
    scale = torch.tensor([1.0, 10.0, 100.0]).view(1, 3, 1, 1)
    g = PatchGenerator((8, 8), patch=2, maps=8, blocks=1, planes=1)
    high, other = (scale * torch.randn(4000, 3, 8, 8) for _ in range(2))
    g.high_basis.fit(high)
    assert abs(g.distance(high, other).item() - 2 / torch.pi**0.5) < 0.01
    assert g.distance(high, high) == 0
