"""One update of D and one of G.

The objective says which examples serve the update of D (`lapgan.objectives.contract`). The other
terms go with every objective: a gradient penalty on D, instance noise on the features that D's head
sees, augmentation of the images that D sees, and a supervised distance in the loss of G.
"""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, cast

import torch
from torch import Tensor, nn

from lapgan.models.contracts import Discriminator, FeatureMaps, SupportsPairs
from lapgan.objectives.contract import Objective
from lapgan.optimizers import update_weights
from lapgan.penalty import LabelledHead, Penalty
from lapgan.pyramid import image_of
from lapgan.supervised import Distance
from lapgan.training.augment import Augmentation, augment, augment_pair
from lapgan.training.examples import Examples
from lapgan.training.freezing import active_dropouts, disable, freeze
from lapgan.training.reconstruction import measure_distance

__all__ = ["Nets", "Scalar", "Terms", "Update", "add_noise", "update_nets"]

# A number, or a tensor () that has it on the device.
Scalar: TypeAlias = float | Tensor


@dataclass(frozen=True)
class Nets:
    """The two nets of a level and their optimizers.

    Args:
        generator: G; where it is compiled, in place.
        discriminator: D.
        generator_optimizer: of G.
        discriminator_optimizer: of D.
        compiled_head: the head of D, compiled; None to compute it as it is.
    """

    generator: nn.Module
    discriminator: nn.Module
    generator_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    compiled_head: LabelledHead | None = None

    def head(self, maps: FeatureMaps, label: Tensor | None) -> Tensor:
        """Returns the logits (B,) or (B, k) of D, float32."""
        head = self.compiled_head or cast(Discriminator, self.discriminator).head
        return head(maps, label).float()


@dataclass(frozen=True)
class Terms:
    """What is added to the objective in one step.

    Args:
        penalty: the gradient penalty on D, or None in steps without one.
        penalty_weight: its weight in this step; None for that of its first step.
        supervised: weight of the distance to the real residual in the loss of G, in this step, or
            None without it.
        distance: that distance; see `lapgan.supervised`.
        candidates: further noise like that of the examples; the nearest of the residuals counts.
        instance_noise: standard deviation of the noise on the features that D's head sees.
        augment: whether D sees augmented images, and of which kind.
        clip: the largest norm of all gradients of a net, or None for any.
        updates_generator: whether G is updated too, and not D alone.
    """

    penalty: Penalty | None = None
    penalty_weight: Scalar | None = None
    supervised: Scalar | None = None
    distance: Distance = "own"
    candidates: tuple[Tensor, ...] = ()
    instance_noise: float = 0.0
    augment: Augmentation | Literal[False] = False
    clip: float | None = None
    updates_generator: bool = True


@dataclass(frozen=True)
class Update:
    """The result of one update of both nets.

    Args:
        loss_d: the loss of D, without the penalty.
        loss_g: the adversarial loss of G.
        real_accuracy: fraction of real examples that D classified as real; of pairs, the fraction
            in which the real example has the higher logit. Of several logits, the mean.
        fake_accuracy: fraction of generated examples that D classified as generated.
        fake: the residuals that G was updated on, (B, 3, H, W).
        gradient_d: norm of all gradients of D, with the penalty's, before they were clipped.
        gradient_g: norm of all gradients of G; 0 if it was not updated.
        penalty: (R1 + R2) / 2 without its weight, or None in steps without a penalty.
        supervised: the distance to the real residuals without its weight, or None without one.
    """

    loss_d: Tensor
    loss_g: Tensor
    real_accuracy: Tensor
    fake_accuracy: Tensor
    fake: Tensor
    gradient_d: Tensor
    gradient_g: Tensor
    penalty: Tensor | None
    supervised: Tensor | None


@dataclass(frozen=True)
class _DiscriminatorUpdate:
    """The result of one update of D: loss, logits, and the rest as in `Update`."""

    loss: Tensor
    real: Tensor
    fake: Tensor
    gradient: Tensor
    penalty: Tensor | None


@dataclass(frozen=True)
class _GeneratorUpdate:
    """The result of one update of G: its adversarial loss, and the rest as in `Update`."""

    loss: Tensor
    gradient: Tensor
    supervised: Tensor | None


def update_nets(
    nets: Nets,
    examples: Examples,
    objective: Objective,
    terms: Terms | None = None,
    fresh: Examples | None = None,
) -> Update:
    """Makes one step of D and one of G on a minibatch of one level.

    Args:
        nets: G and D.
        examples: the minibatch.
        objective: the losses, and how the minibatch is divided.
        terms: what is added to the objective.
        fresh: what G is updated on; the examples that D saw if None.
    """
    terms = terms or Terms()
    if objective.examples == "halves":
        return _update_on_halves(nets, examples, objective, terms, fresh)
    if fresh is None:
        return _update_on_pairs(nets, examples, objective, terms)
    return _update_on_fresh_pairs(nets, examples, fresh, objective, terms)


def _update_on_pairs(nets: Nets, examples: Examples, objective: Objective, terms: Terms) -> Update:
    """Generates once for both updates.

    A minibatch of n costs one pass of G, n real and n generated examples for D, and n more for the
    update of G. In G's loss the logits of real examples are those from before D's update, the
    logits of generated ones from after it.
    """
    fake = examples.generate(nets.generator)
    with freeze(nets.discriminator):
        real_maps = _features(nets.discriminator, examples.high, examples.low, terms)
        fake_maps = _features(nets.discriminator, fake, examples.fake_low, terms)
    label = None if examples.label is None else examples.label.repeat(2)
    d = _update_discriminator(
        nets, real_maps, tuple(x.detach() for x in fake_maps), label, objective, terms
    )
    right = (d.real > d.fake).float().mean()
    if not terms.updates_generator:
        return _join(d, _leave_generator(d, objective), (right, right), fake)
    g = _update_generator(nets, examples, fake, fake_maps, d.real, (objective, terms))
    return _join(d, g, (right, right), fake)


def _update_on_fresh_pairs(
    nets: Nets, examples: Examples, fresh: Examples, objective: Objective, terms: Terms
) -> Update:
    """Updates D on some examples, then G on others, all of whose logits are of the new D.

    A minibatch of n costs two passes of G, and n real and n generated examples more for D.
    """
    with torch.no_grad():
        fake = examples.generate(nets.generator)
        real_maps = _features(nets.discriminator, examples.high, examples.low, terms)
        fake_maps = _features(nets.discriminator, fake, examples.fake_low, terms)
    label = None if examples.label is None else examples.label.repeat(2)
    d = _update_discriminator(nets, real_maps, fake_maps, label, objective, terms)
    right = (d.real > d.fake).float().mean()
    if not terms.updates_generator:
        return _join(d, _leave_generator(d, objective), (right, right), fake)
    with torch.no_grad():
        maps = _features(nets.discriminator, fresh.high, fresh.low, terms)
        maps = tuple(add_noise(x, terms.instance_noise) for x in maps)
        real = cast(Discriminator, nets.discriminator).head(maps, fresh.label).float()
    fake = fresh.generate(nets.generator)
    with freeze(nets.discriminator):
        fake_maps = _features(nets.discriminator, fake, fresh.fake_low, terms)
    g = _update_generator(nets, fresh, fake, fake_maps, real, (objective, terms))
    return _join(d, g, (right, right), fake)


def _update_on_halves(
    nets: Nets,
    examples: Examples,
    objective: Objective,
    terms: Terms,
    fresh: Examples | None = None,
) -> Update:
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
        _features(nets.discriminator, fake, second.fake_low, terms),
        examples.label,
        objective,
        terms,
    )
    right = (d.real > 0).float().mean(), (d.fake < 0).float().mean()
    if not terms.updates_generator:
        return _join(d, _leave_generator(d, objective), right, fake)
    others = examples if fresh is None else fresh
    fake = others.generate(nets.generator)
    with freeze(nets.discriminator):
        fake_maps = _features(nets.discriminator, fake, others.fake_low, terms)
    g = _update_generator(nets, others, fake, fake_maps, d.real, (objective, terms))
    return _join(d, g, right, fake)


def _update_discriminator(
    nets: Nets,
    real_maps: FeatureMaps,
    fake_maps: FeatureMaps,
    label: Tensor | None,
    objective: Objective,
    terms: Terms,
) -> _DiscriminatorUpdate:
    """Makes one step of D."""
    maps = tuple(
        add_noise(torch.cat((real, fake.to(real.dtype))), terms.instance_noise)
        for real, fake in zip(real_maps, fake_maps, strict=True)
    )
    logits = nets.head(maps, label)
    real, fake = logits.tensor_split((len(real_maps[0]),))
    loss = objective.discriminator_loss(real=real, fake=fake)
    total, measured = loss, None
    if (penalty := terms.penalty) is not None:
        measured = _measure_penalty(nets, maps, label, logits, penalty)
        weight = terms.penalty_weight
        weight = penalty.weight_at(0.0) if weight is None else weight
        # The mean runs over real and generated examples, so it is half of R1 + R2.
        total = loss + weight * penalty.every * measured
    gradient = update_weights(nets.discriminator_optimizer, total, terms.clip)
    measured = None if measured is None else measured.detach()
    return _DiscriminatorUpdate(loss.detach(), real.detach(), fake.detach(), gradient, measured)


def _measure_penalty(
    nets: Nets, maps: FeatureMaps, label: Tensor | None, logits: Tensor, penalty: Penalty
) -> Tensor:
    """Computes (R1 + R2) / 2 of D without its dropout.

    With dropout the two passes would differ by their masks, far more than by the perturbation. The
    head is not the compiled one, which cannot be differentiated twice.
    """
    net = nets.discriminator
    dropouts = active_dropouts(net)
    eager = replace(nets, compiled_head=None)
    # A difference between a compiled head and one that is not would be rounding, amplified.
    known = None if dropouts or nets.compiled_head else logits
    with disable(dropouts):
        return penalty.measure(eager.head, maps, label, known, net)


def _update_generator(
    nets: Nets,
    examples: Examples,
    fake: Tensor,
    fake_maps: FeatureMaps,
    real_logits: Tensor,
    loss: tuple[Objective, Terms],
) -> _GeneratorUpdate:
    """Makes one step of G on residuals that it generated."""
    objective, terms = loss
    with freeze(nets.discriminator):
        maps = tuple(add_noise(x, terms.instance_noise) for x in fake_maps)
        logits = nets.head(maps, examples.label)
        adversarial = objective.generator_loss(real=real_logits, fake=logits)
        total, distance = adversarial, None
        if terms.supervised is not None:
            distance = measure_distance(
                (nets.generator, nets.discriminator), examples, fake, terms.distance,
                terms.candidates,
            )  # fmt: skip
            total = total + terms.supervised * distance
        gradient = update_weights(nets.generator_optimizer, total, terms.clip)
    distance = None if distance is None else distance.detach()
    return _GeneratorUpdate(adversarial.detach(), gradient, distance)


def _leave_generator(d: _DiscriminatorUpdate, objective: Objective) -> _GeneratorUpdate:
    """Returns the loss of a G that is not updated, by the logits from before D's update."""
    loss = objective.generator_loss(real=d.real, fake=d.fake)
    return _GeneratorUpdate(loss, torch.zeros_like(loss), None)


def _join(
    d: _DiscriminatorUpdate, g: _GeneratorUpdate, right: tuple[Tensor, Tensor], fake: Tensor
) -> Update:
    return Update(
        d.loss, g.loss, *right, fake.detach(), d.gradient, g.gradient, d.penalty, g.supervised
    )


def add_noise(x: Tensor, std: float) -> Tensor:
    """Adds normal noise of the given standard deviation, where that of the features is about 1.

    As instance noise it hides the fine differences by which D would soon classify all examples.

    References:
        Sønderby et al. (2017), section 3.
    """
    return x + std * _draw_normal_like(x) if std else x


def _draw_normal_like(x: Tensor) -> Tensor:
    """Draws normal values in the order of memory: `randn_like` is slow with channels last."""
    noise = torch.empty_like(x)
    noise.as_strided((noise.numel(),), (1,)).normal_()
    return noise


def _features(net: nn.Module, high: Tensor, low: Tensor | None, terms: Terms) -> FeatureMaps:
    discriminator = cast(Discriminator, net)
    if not terms.augment:
        return discriminator.features(high, low)
    image = image_of(high, low)
    if low is not None and isinstance(discriminator, SupportsPairs):
        return discriminator.pair_features(*augment_pair(image, low, terms.augment))
    return discriminator.features(augment(image, terms.augment), None)
