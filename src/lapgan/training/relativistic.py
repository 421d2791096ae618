"""One update of D and one of G on pairs of a real and a generated example.

One generated residual an example serves both updates: D's, cut off from G, and then G's. So a
minibatch of n costs one pass of G, n real and n generated examples for D, and n more for G's
update.

Source: Jolicoeur-Martineau (2019) for the pairs; Huang et al. (2024), R3GAN, for their use with
gradient penalties on both sides.
"""

import torch
from torch import Tensor, nn

from lapgan.losses import difference_penalty, relativistic_loss
from lapgan.models.modern import PatchDiscriminator, PatchGenerator
from lapgan.recipe import DifferencePenalty
from lapgan.training.step import Examples, Judgement, step, unchanged

__all__ = ["update_pairs"]


def update_pairs(
    generator: nn.Module,
    discriminator: nn.Module,
    generator_optimiser: torch.optim.Optimizer,
    discriminator_optimiser: torch.optim.Optimizer,
    examples: Examples,
    penalty: DifferencePenalty | None = None,
    supervised: float = 0.0,
    instance_noise: float = 0.0,
) -> tuple[Judgement, Tensor, Tensor]:
    """Makes one step of D and one of G.

    Args:
        generator: G.
        discriminator: D; a penalty and instance noise need a `PatchDiscriminator`.
        generator_optimiser: of G.
        discriminator_optimiser: of D.
        examples: n real examples, and noise and low-pass images for n generated ones.
        penalty: the gradient penalty of this step, or None.
        supervised: weight of the distance to the real residual in the loss of G, for a
            `PatchGenerator`; the low-pass images have to be real.
        instance_noise: of the noise that is added to all that D judges, in standard deviations of
            each principal component.

    Returns:
        How the update of D went, the adversarial loss of G, and what it generated.
    """
    n = len(examples)
    fake = generator(examples.given, examples.z, examples.label)
    high, low, label = _both(examples, fake.detach())
    high = _with_noise(discriminator, high, instance_noise)
    logits = discriminator(high, low, label).float()
    real_logits, fake_logits = logits[:n], logits[n:]
    loss = relativistic_loss(winner=real_logits, loser=fake_logits)
    total = loss
    if penalty is not None:
        assert isinstance(discriminator, PatchDiscriminator)
        disturbed = discriminator.disturbed(high, penalty.scale)
        moved = discriminator(disturbed, low, label).float()
        # The mean runs over real and generated examples, so it is half of R1 + R2.
        total = loss + penalty.weight * penalty.every * difference_penalty(
            logits, moved, penalty.scale
        )
    step(discriminator_optimiser, total)
    with unchanged(discriminator):
        seen = _with_noise(discriminator, fake, instance_noise)
        judged = discriminator(seen, examples.given, examples.label).float()
        loss_g = relativistic_loss(winner=judged, loser=real_logits.detach())
        total = loss_g
        if supervised:
            assert isinstance(generator, PatchGenerator)
            total = loss_g + supervised * generator.distance(fake, examples.high)
        step(generator_optimiser, total)
    judgement = Judgement(
        loss=loss.detach(),
        # Each of a pair is judged by the other: above it is taken for real.
        real_accuracy=(real_logits > fake_logits).float().mean(),
        fake_accuracy=(fake_logits < real_logits).float().mean(),
    )
    return judgement, loss_g.detach(), fake.detach()


def _with_noise(discriminator: nn.Module, high: Tensor, scale: float) -> Tensor:
    """Adds instance noise, which hides the fine differences by which D would soon tell all pairs.

    Source: Sonderby et al. (2017), section 3.
    """
    if not scale:
        return high
    assert isinstance(discriminator, PatchDiscriminator)
    return discriminator.disturbed(high, scale)


def _both(examples: Examples, fake: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Returns residuals, low-pass images and classes, the real ones before the generated ones."""
    low, given, label = examples.low, examples.given, examples.label
    return (
        torch.cat((examples.high, fake.to(examples.high.dtype))),
        None if low is None or given is None else torch.cat((low, given)),
        None if label is None else label.repeat(2),
    )
