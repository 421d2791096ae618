"""One update of D and one of G on pairs of a real and a generated example.

One generated residual an example serves both updates: D's, cut off from G, and then G's. So a
minibatch of n costs one pass of G, n real and n generated examples for D, and n more for G's
update.

Source: Jolicoeur-Martineau (2019) for the pairs; Huang et al. (2024), R3GAN, for their use with
gradient penalties on both sides.
"""

import torch
from torch import Tensor, nn

from lapgan.losses import finite_difference_penalty, relativistic_loss
from lapgan.models.patch import Looking, PatchGenerator, Views
from lapgan.pyramid import image_of
from lapgan.recipe import DifferencePenalty
from lapgan.training.augment import augment
from lapgan.training.step import DiscriminatorStats, Examples, step, unchanged

__all__ = ["update_pairs"]


def update_pairs(
    generator: nn.Module,
    discriminator: nn.Module,
    generator_optimizer: torch.optim.Optimizer,
    discriminator_optimizer: torch.optim.Optimizer,
    examples: Examples,
    penalty: DifferencePenalty | None = None,
    supervised: float = 0.0,
    instance_noise: float = 0.0,
    augmented: bool = False,
) -> tuple[DiscriminatorStats, Tensor, Tensor]:
    """Makes one step of D and one of G.

    Args:
        generator: G.
        discriminator: D; a penalty, instance noise and augmentation need one that is `Looking`.
        generator_optimizer: of G.
        discriminator_optimizer: of D.
        examples: n real examples, and noise and low-pass images for n generated ones.
        penalty: the gradient penalty of this step, or None.
        supervised: weight of the distance to the real residual in the loss of G, for a
            `PatchGenerator`; the low-pass images have to be real.
        instance_noise: of the noise that is added to all that D judges, in standard deviations of
            its views.
        augmented: D looks at images that `lapgan.training.augment` has changed.

    Returns:
        How the update of D went, the adversarial loss of G, and what it generated.
    """
    eyes = discriminator if isinstance(discriminator, Looking) else _Bare(discriminator)
    fake = generator(examples.given, examples.z, examples.label)
    with unchanged(discriminator):
        real_views = _look(eyes, examples.high, examples.low, augmented)
        fake_views = _look(eyes, fake, examples.given, augmented)
    views = tuple(
        add_noise(torch.cat((real, fake.detach().to(real.dtype))), instance_noise)
        for real, fake in zip(real_views, fake_views, strict=True)
    )
    label = None if examples.label is None else examples.label.repeat(2)
    logits = eyes.judge(views, label).float()
    real_logits, fake_logits = logits.chunk(2)
    loss = relativistic_loss(winner=real_logits, loser=fake_logits)
    total = loss
    if penalty is not None:
        moved = eyes.judge(tuple(add_noise(x, penalty.scale) for x in views), label).float()
        # The mean runs over real and generated examples, so it is half of R1 + R2.
        total = loss + penalty.weight * penalty.every * finite_difference_penalty(
            logits, moved, penalty.scale
        )
    step(discriminator_optimizer, total)
    with unchanged(discriminator):
        seen = tuple(add_noise(x, instance_noise) for x in fake_views)
        judged = eyes.judge(seen, examples.label).float()
        loss_g = relativistic_loss(winner=judged, loser=real_logits.detach())
        total = loss_g
        if supervised:
            assert isinstance(generator, PatchGenerator)
            total = loss_g + supervised * generator.distance(fake, examples.high)
        step(generator_optimizer, total)
    judgement = DiscriminatorStats(
        loss=loss.detach(),
        # Each of a pair is judged by the other: above it is taken for real.
        real_accuracy=(real_logits > fake_logits).float().mean(),
        fake_accuracy=(fake_logits < real_logits).float().mean(),
    )
    return judgement, loss_g.detach(), fake.detach()


class _Bare:
    """Any other discriminator, which judges residuals and low-pass images as they are."""

    def __init__(self, discriminator: nn.Module) -> None:
        self.discriminator = discriminator

    def look(self, high: Tensor, low: Tensor | None) -> Views:
        return (high,) if low is None else (high, low)

    def judge(self, views: Views, label: Tensor | None) -> Tensor:
        high, *rest = views
        logits: Tensor = self.discriminator(high, rest[0] if rest else None, label)
        return logits


def _look(eyes: Looking, high: Tensor, low: Tensor | None, augmented: bool) -> Views:
    """Looks at residuals on their low-pass images, or at their sums after augmentation."""
    return eyes.look(augment(image_of(high, low)), None) if augmented else eyes.look(high, low)


def add_noise(view: Tensor, scale: float) -> Tensor:
    """Adds normal noise of the given deviation, where the view's own is about 1.

    As instance noise it hides the fine differences by which D would soon tell all pairs.

    Source: Sonderby et al. (2017), section 3.
    """
    return view + scale * torch.randn_like(view) if scale else view
