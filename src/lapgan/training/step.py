"""One update of D and one of G, as functions of tensors.

A minibatch holds examples of one level. D sees the residual of the first half of them and a
generated residual for the low-pass images of the second half; then G answers for all of them.

Source: Denton et al. (2015), section 3.2 ("a stochastic choice, with equal probability"), with the
halves of the authors' code in place of the coin.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lapgan.losses import discriminator_loss

__all__ = ["Examples", "Judgement", "update_discriminator", "update_generator"]

GeneratorLoss = Callable[[Float[Tensor, " m"]], Tensor]


@dataclass(frozen=True)
class Examples:
    """Examples of one level.

    Args:
        high: residuals, or images at the coarsest level, (B, 3, H, W).
        low: low-pass images, the same shape; None at the coarsest level.
        z: noise, (B, ...).
        label: class indices (B,), or None.
    """

    high: Tensor
    low: Tensor | None
    z: Tensor
    label: Tensor | None

    def __getitem__(self, span: slice) -> "Examples":
        parts = (self.high, self.low, self.z, self.label)
        high, low, z, label = (None if part is None else part[span] for part in parts)
        assert high is not None
        assert z is not None
        return Examples(high, low, z, label)

    def __len__(self) -> int:
        return len(self.high)


@dataclass(frozen=True)
class Judgement:
    """How an update of D went.

    Args:
        loss: the loss of D.
        real_accuracy: share of real examples that D took for real.
        fake_accuracy: share of generated examples that D took for generated.
    """

    loss: Tensor
    real_accuracy: Tensor
    fake_accuracy: Tensor


def update_discriminator(
    generator: nn.Module,
    discriminator: nn.Module,
    optimiser: torch.optim.Optimizer,
    examples: Examples,
) -> Judgement:
    """Makes one step of D on half real, half generated examples."""
    half = len(examples) // 2
    real, other = examples[:half], examples[half:]
    with torch.no_grad():
        fake = generator(other.low, other.z, other.label)
    high = torch.cat((real.high, fake.to(real.high.dtype)))
    logits = discriminator(high, examples.low, examples.label).float()
    loss = discriminator_loss(real=logits[:half], fake=logits[half:])
    _step(optimiser, loss)
    return Judgement(
        loss=loss.detach(),
        real_accuracy=(logits[:half] > 0).float().mean(),
        fake_accuracy=(logits[half:] < 0).float().mean(),
    )


def update_generator(
    generator: nn.Module,
    discriminator: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss_of: GeneratorLoss,
    examples: Examples,
) -> tuple[Tensor, Tensor]:
    """Makes one step of G on all low-pass images; returns its loss and what it generated."""
    discriminator.requires_grad_(False)
    fake = generator(examples.low, examples.z, examples.label)
    loss = loss_of(discriminator(fake, examples.low, examples.label).float())
    _step(optimiser, loss)
    discriminator.requires_grad_(True)
    return loss.detach(), fake.detach()


def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
