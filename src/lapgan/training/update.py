"""One update of D and one of G.

The objective says which examples serve the update of D (`lapgan.objectives.contract`). The other
terms go with every objective: a gradient penalty on D, instance noise on the features that D's head
sees, augmentation of the images that D sees, and a supervised distance in the loss of G.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from lapgan.models.contracts import (
    Discriminator,
    FeatureMaps,
    SupportsDistance,
    SupportsPairs,
)
from lapgan.objectives.contract import Objective
from lapgan.optimizers import update_weights
from lapgan.penalty import Penalty
from lapgan.pyramid import image_of
from lapgan.training.augment import augment, augment_pair
from lapgan.training.examples import Examples

__all__ = ["Nets", "Terms", "Update", "add_noise", "distance", "update_nets"]


@dataclass(frozen=True)
class Nets:
    """The two nets of a level and their optimizers."""

    generator: nn.Module
    discriminator: nn.Module
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer


@dataclass(frozen=True)
class Terms:
    """What is added to the objective in one step.

    Args:
        penalty: the gradient penalty on D, or None in steps without one.
        supervised: weight of the distance to the real residual in the loss of G.
        instance_noise: standard deviation of the noise on the features that D's head sees.
        augment: D sees augmented images.
        clip: the largest norm of all gradients of a net, or None for any.
        progress: the fraction of the budget that is spent, for the weight of the penalty.
    """

    penalty: Penalty | None = None
    supervised: float = 0.0
    instance_noise: float = 0.0
    augment: bool = False
    clip: float | None = None
    progress: float = 0.0


@dataclass(frozen=True)
class Update:
    """The result of one update of both nets.

    Args:
        loss_d: the loss of D, without the penalty.
        loss_g: the adversarial loss of G.
        real_accuracy: fraction of real examples that D classified as real; of pairs, the fraction
            in which the real example has the higher logit.
        fake_accuracy: fraction of generated examples that D classified as generated.
        fake: the residuals that G was updated on, (B, 3, H, W).
        gradient_d: norm of all gradients of D, with the penalty's, before they were clipped.
        gradient_g: norm of all gradients of G.
        penalty: (R1 + R2) / 2 without its weight, or None in steps without a penalty.
    """

    loss_d: Tensor
    loss_g: Tensor
    real_accuracy: Tensor
    fake_accuracy: Tensor
    fake: Tensor
    gradient_d: Tensor
    gradient_g: Tensor
    penalty: Tensor | None


@dataclass(frozen=True)
class _DiscriminatorUpdate:
    """The result of one update of D: loss, logits, and the rest as in `Update`."""

    loss: Tensor
    real: Tensor
    fake: Tensor
    gradient: Tensor
    penalty: Tensor | None


def update_nets(
    nets: Nets, examples: Examples, objective: Objective, terms: Terms | None = None
) -> Update:
    """Makes one step of D and one of G on a minibatch of one level."""
    update = _update_on_pairs if objective.examples == "pairs" else _update_on_halves
    return update(nets, examples, objective, terms or Terms())


def _update_on_pairs(nets: Nets, examples: Examples, objective: Objective, terms: Terms) -> Update:
    """Generates once for both updates.

    A minibatch of n costs one pass of G, n real and n generated examples for D, and n more for the
    update of G.
    """
    fake = examples.generate(nets.generator)
    with _freeze(nets.discriminator):
        real_maps = _features(nets.discriminator, examples.high, examples.low, terms)
        fake_maps = _features(nets.discriminator, fake, examples.low, terms)
    label = None if examples.label is None else examples.label.repeat(2)
    d = _update_discriminator(
        nets, real_maps, tuple(x.detach() for x in fake_maps), label, objective, terms
    )
    loss_g, gradient_g = _update_generator(
        nets, examples, fake, fake_maps, d.real, (objective, terms)
    )
    right = (d.real > d.fake).float().mean()
    return Update(d.loss, loss_g, right, right, fake.detach(), d.gradient, gradient_g, d.penalty)


def _update_on_halves(nets: Nets, examples: Examples, objective: Objective, terms: Terms) -> Update:
    """Updates D on half real, half generated examples, then G on all low-pass images.

    References:
        Denton et al. (2015), section 3.2 ("a stochastic choice, with equal probability"), with the
        halves of the authors' code in place of the coin.
    """
    half = len(examples) // 2
    first, second = examples[:half], examples[half:]
    with torch.no_grad():
        fake = second.generate(nets.generator)
    d = _update_discriminator(
        nets,
        _features(nets.discriminator, first.high, first.low, terms),
        _features(nets.discriminator, fake, second.low, terms),
        examples.label,
        objective,
        terms,
    )
    fake = examples.generate(nets.generator)
    with _freeze(nets.discriminator):
        fake_maps = _features(nets.discriminator, fake, examples.low, terms)
    loss_g, gradient_g = _update_generator(
        nets, examples, fake, fake_maps, d.real, (objective, terms)
    )
    right = (d.real > 0).float().mean(), (d.fake < 0).float().mean()
    return Update(d.loss, loss_g, *right, fake.detach(), d.gradient, gradient_g, d.penalty)


def _update_discriminator(
    nets: Nets,
    real_maps: FeatureMaps,
    fake_maps: FeatureMaps,
    label: Tensor | None,
    objective: Objective,
    terms: Terms,
) -> _DiscriminatorUpdate:
    """Makes one step of D."""
    head = cast(Discriminator, nets.discriminator).head
    maps = tuple(
        add_noise(torch.cat((real, fake.to(real.dtype))), terms.instance_noise)
        for real, fake in zip(real_maps, fake_maps, strict=True)
    )
    logits = head(maps, label).float()
    real, fake = logits.tensor_split((len(real_maps[0]),))
    loss = objective.discriminator_loss(real=real, fake=fake)
    total, measured = loss, None
    if terms.penalty is not None:
        measured = _measure_penalty(nets.discriminator, maps, label, logits, terms.penalty)
        # The mean runs over real and generated examples, so it is half of R1 + R2.
        strength = terms.penalty.weight_at(terms.progress) * terms.penalty.every
        total = loss + strength * measured
    gradient = update_weights(nets.discriminator_optimizer, total, terms.clip)
    measured = None if measured is None else measured.detach()
    return _DiscriminatorUpdate(loss.detach(), real.detach(), fake.detach(), gradient, measured)


def _measure_penalty(
    net: nn.Module, maps: FeatureMaps, label: Tensor | None, logits: Tensor, penalty: Penalty
) -> Tensor:
    """Computes (R1 + R2) / 2 of D without its dropout.

    With dropout the two passes would differ by their masks, far more than by the perturbation.
    """
    dropouts = [m for m in net.modules() if isinstance(m, nn.Dropout) and m.training]

    def head(maps: FeatureMaps) -> Tensor:
        return cast(Discriminator, net).head(maps, label).float()

    with _disable(dropouts):
        return penalty.measure(head, maps, None if dropouts else logits, net)


def _update_generator(
    nets: Nets,
    examples: Examples,
    fake: Tensor,
    fake_maps: FeatureMaps,
    real_logits: Tensor,
    loss: tuple[Objective, Terms],
) -> tuple[Tensor, Tensor]:
    """Makes one step of G on residuals that it generated.

    Returns:
        Its adversarial loss, and the norm of all its gradients.
    """
    objective, terms = loss
    with _freeze(nets.discriminator):
        maps = tuple(add_noise(x, terms.instance_noise) for x in fake_maps)
        logits = cast(Discriminator, nets.discriminator).head(maps, examples.label).float()
        adversarial = objective.generator_loss(real=real_logits, fake=logits)
        total = adversarial
        if terms.supervised:
            total = total + terms.supervised * distance(nets.generator, fake, examples.high)
        gradient = update_weights(nets.generator_optimizer, total, terms.clip)
    return adversarial.detach(), gradient


def distance(generator: nn.Module, high: Tensor, other: Tensor) -> Tensor:
    """Computes the generator's own distance between residuals, or mean |h - h'|.

    References:
        Isola et al. (2017), pix2pix, equation 3, for the L1 distance beside an adversarial loss.
    """
    if isinstance(generator, SupportsDistance):
        return generator.distance(high, other)
    return (high.float() - other).abs().mean()


def add_noise(x: Tensor, std: float) -> Tensor:
    """Adds normal noise of the given standard deviation, where that of the features is about 1.

    As instance noise it hides the fine differences by which D would soon classify all examples.

    References:
        Sønderby et al. (2017), section 3.
    """
    return x + std * torch.randn_like(x) if std else x


def _features(net: nn.Module, high: Tensor, low: Tensor | None, terms: Terms) -> FeatureMaps:
    discriminator = cast(Discriminator, net)
    if not terms.augment:
        return discriminator.features(high, low)
    image = image_of(high, low)
    if low is not None and isinstance(discriminator, SupportsPairs):
        return discriminator.pair_features(*augment_pair(image, low))
    return discriminator.features(augment(image), None)


@contextmanager
def _disable(dropouts: Sequence[nn.Module]) -> Iterator[None]:
    """Lets all values pass through dropout layers that are in training mode."""
    for layer in dropouts:
        layer.eval()
    try:
        yield
    finally:
        for layer in dropouts:
            layer.train()


@contextmanager
def _freeze(net: nn.Module) -> Iterator[None]:
    """Computes no gradients of a net's weights, which saves half of the backward pass."""
    net.requires_grad_(False)
    try:
        yield
    finally:
        net.requires_grad_(True)
