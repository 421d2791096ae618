"""One update of D and one of G, as functions of tensors.

A minibatch holds examples of one level. D sees the residual of the first half of them and a
generated residual for the low-pass images of the second half; then G answers for all of them.

Source: Denton et al. (2015), section 3.2 ("a stochastic choice, with equal probability"), with the
halves of the authors' code in place of the coin.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lapgan.losses import discriminator_loss

__all__ = [
    "DiscriminatorStats",
    "Examples",
    "step",
    "unchanged",
    "update_discriminator",
    "update_generator",
]

GeneratorLoss = Callable[[Float[Tensor, " m"]], Tensor]


@dataclass(frozen=True)
class Examples:
    """Examples of one level.

    Args:
        high: residuals, or images at the coarsest level, (B, 3, H, W).
        low: low-pass images, the same shape; None at the coarsest level.
        given: the low-pass images that G answers for: those of the examples, or some that the
            coarser levels generated; the same shape, None at the coarsest level.
        z: noise, (B, ...).
        label: class indices (B,), or None.
    """

    high: Tensor
    low: Tensor | None
    given: Tensor | None
    z: Tensor
    label: Tensor | None

    def __len__(self) -> int:
        return len(self.high)


@dataclass(frozen=True)
class DiscriminatorStats:
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
    optimizer: torch.optim.Optimizer,
    examples: Examples,
) -> DiscriminatorStats:
    """Makes one step of D on half real, half generated examples."""
    half = len(examples) // 2
    label = examples.label
    given = None if examples.given is None else examples.given[half:]
    with torch.no_grad():
        fake = generator(given, examples.z[half:], None if label is None else label[half:])
    real = examples.high[:half]
    high = torch.cat((real, fake.to(real.dtype)))
    low = None if examples.low is None or given is None else torch.cat((examples.low[:half], given))
    logits = discriminator(high, low, label).float()
    loss = discriminator_loss(real=logits[:half], fake=logits[half:])
    step(optimizer, loss)
    return DiscriminatorStats(
        loss=loss.detach(),
        real_accuracy=(logits[:half] > 0).float().mean(),
        fake_accuracy=(logits[half:] < 0).float().mean(),
    )


def update_generator(
    generator: nn.Module,
    discriminator: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_of: GeneratorLoss,
    examples: Examples,
) -> tuple[Tensor, Tensor]:
    """Makes one step of G on all low-pass images; returns its loss and what it generated."""
    with unchanged(discriminator):
        fake = generator(examples.given, examples.z, examples.label)
        loss = loss_of(discriminator(fake, examples.given, examples.label).float())
        step(optimizer, loss)
    return loss.detach(), fake.detach()


@contextmanager
def unchanged(net: nn.Module) -> Iterator[None]:
    """Computes no gradients of a net's weights, which saves half of the backward pass."""
    net.requires_grad_(False)
    try:
        yield
    finally:
        net.requires_grad_(True)


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Moves the optimizer's weights down the gradient of a loss."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
