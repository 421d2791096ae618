"""The supervised term of an update: the distance of generated residuals to the real ones."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from lapgan.models.contracts import Discriminator, SupportsDistance
from lapgan.supervised import Distance, residual_deviations
from lapgan.training.examples import Examples
from lapgan.training.freezing import active_dropouts, disable

__all__ = ["measure_distance", "nearest_noise", "own_deviations"]

# What is divided by is no smaller.
_LEAST = 1e-6


def measure_distance(
    nets: tuple[nn.Module, nn.Module],
    examples: Examples,
    fake: Tensor,
    distance: Distance,
    candidates: Sequence[Tensor] = (),
) -> Tensor:
    """Computes mean_i min_j d(G(z_ij, l_i), h_i), with gradients to the weights of G.

    Args:
        nets: G and D.
        examples: real residuals h_i, low-pass images l_i, and noise z_i1.
        fake: the residuals that G generates from them.
        distance: d; see `lapgan.supervised`.
        candidates: further noise z_ij, each like z; the nearest residual of each image counts.
    """
    if candidates:
        nearest = replace(examples, z=nearest_noise(nets, examples, fake, distance, candidates))
        fake = nearest.generate(nets[0])
    deviations = _deviations(nets, examples, fake, distance)
    return torch.stack([deviation.mean() for deviation in deviations]).sum()


@torch.no_grad()
def nearest_noise(
    nets: tuple[nn.Module, nn.Module],
    examples: Examples,
    fake: Tensor,
    distance: Distance,
    candidates: Sequence[Tensor],
) -> Tensor:
    """Returns of z and its candidates, for each example, the one whose residual is nearest to h."""

    def distances(residuals: Tensor) -> Tensor:
        deviations = _deviations(nets, examples, residuals, distance)
        return torch.stack([each.flatten(1).mean(dim=1) for each in deviations]).sum(dim=0)

    best, z = distances(fake.detach()), examples.z
    for candidate in candidates:
        other = distances(replace(examples, z=candidate).generate(nets[0]))
        nearer = (other < best).view(-1, *[1] * (z.dim() - 1))
        z, best = torch.where(nearer, candidate, z), torch.minimum(other, best)
    return z


def own_deviations(generator: nn.Module, high: Tensor, other: Tensor) -> Tensor:
    """Computes the generator's own deviations of residuals, or |h - h'|; (B, ...).

    References:
        Isola et al. (2017), pix2pix, equation 3, for the L1 distance beside an adversarial loss.
    """
    if isinstance(generator, SupportsDistance):
        return generator.deviations(high, other)
    return (high.float() - other).abs()


def _deviations(
    nets: tuple[nn.Module, nn.Module], examples: Examples, fake: Tensor, distance: Distance
) -> list[Tensor]:
    """Returns the deviations whose means are summed, (B, ...) each."""
    generator, discriminator = nets
    if distance == "own":
        return [own_deviations(generator, fake, examples.high)]
    if distance == "features":
        return _feature_deviations(discriminator, examples, fake)
    return residual_deviations(distance, fake, examples.high)


def _feature_deviations(net: nn.Module, examples: Examples, fake: Tensor) -> list[Tensor]:
    """Returns |a_i(h) - a_i(h')| / mean |a_i(h)| / L of the L hidden layers of D.

    References:
        Wang et al. (2018), pix2pixHD, equation 4, for the layers of D; here relative to their size.
    """
    with disable(active_dropouts(net)):
        fakes = _hidden_values(net, fake, examples)
        with torch.no_grad():
            reals = _hidden_values(net, examples.high, examples)
    return [
        (fake - real).abs() / real.abs().mean().clamp(min=_LEAST) / len(fakes)
        for fake, real in zip(fakes, reals, strict=True)
    ]


def _hidden_values(net: nn.Module, high: Tensor, examples: Examples) -> list[Tensor]:
    """Returns what the convolutions and dense layers of D but the last put out, in their order."""
    values: list[Tensor] = []
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [
        layer.register_forward_hook(lambda _, inputs, output: values.append(output.float()))
        for layer in layers
    ]
    try:
        discriminator = cast(Discriminator, net)
        discriminator.head(discriminator.features(high, examples.low), examples.label)
    finally:
        for hook in hooks:
            hook.remove()
    return values[:-1]
