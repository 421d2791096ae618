import torch
from torch import Tensor, nn

from lapgan.losses import nonsaturating_generator_loss
from lapgan.training.step import Examples, update_discriminator, update_generator


class Shift(nn.Module):
    """A generator that adds one number to the low-pass image."""

    def __init__(self) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.zeros(()))

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        assert low is not None
        return self.by + 0 * low + 0 * z


class Mean(nn.Module):
    """A discriminator that weighs the mean of high + low, and remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))
        self.seen: list[tuple[Tensor, Tensor | None, Tensor | None]] = []

    def forward(self, high: Tensor, low: Tensor | None, label: Tensor | None) -> Tensor:
        self.seen.append((high.detach(), low, label))
        return self.weight * (high + low).mean(dim=(1, 2, 3))


def make_examples() -> Examples:
    high = torch.arange(1.0, 5.0).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    low = torch.zeros(4, 3, 2, 2)
    return Examples(high, low, low, torch.zeros(4, 1, 2, 2), torch.arange(4))


def test_d_sees_the_real_first_half_and_generated_residuals_for_the_second():
    generator, discriminator = Shift(), Mean()
    sgd = torch.optim.SGD(discriminator.parameters(), lr=1.0)
    judgement = update_discriminator(generator, discriminator, sgd, make_examples())
    ((high, low, label),) = discriminator.seen
    assert high[:, 0, 0, 0].tolist() == [1, 2, 0, 0]
    assert low is not None
    assert label is not None
    assert label.tolist() == [0, 1, 2, 3]
    # Logits are 0.5 and 1 for the real ones, 0 for the others, which so are told from nothing.
    logits = torch.tensor([0.5, 1.0])
    expected = (nn.functional.softplus(-logits).sum() + 2 * torch.tensor(2.0).log()) / 4
    assert torch.isclose(judgement.loss, expected)
    assert judgement.real_accuracy == 1
    assert judgement.fake_accuracy == 0
    # The gradient of the mean of softplus(-w m) by w is -m sigmoid(-w m).
    gradient = -(torch.tensor([1.0, 2.0]) * torch.sigmoid(-logits)).sum() / 4
    assert torch.isclose(discriminator.weight, 0.5 - gradient)
    assert generator.by.grad is None


def test_g_answers_for_all_low_pass_images_and_leaves_d_alone():
    generator, discriminator = Shift(), Mean()
    sgd = torch.optim.SGD(generator.parameters(), lr=1.0)
    loss, fake = update_generator(
        generator, discriminator, sgd, nonsaturating_generator_loss, make_examples()
    )
    assert torch.isclose(loss, torch.tensor(2.0).log())
    assert fake.shape == (4, 3, 2, 2)
    # d/d by of mean softplus(-0.5 by) at 0 is -0.25.
    assert torch.isclose(generator.by, torch.tensor(0.25))
    assert discriminator.weight.grad is None
    assert discriminator.weight == 0.5
    assert all(parameter.requires_grad for parameter in discriminator.parameters())
