"""Nets for which, for a while, no gradients are computed, or nothing is dropped."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

__all__ = ["active_dropouts", "disable", "freeze"]


def active_dropouts(net: nn.Module) -> list[nn.Module]:
    """Returns the dropout layers of a net that are in training mode."""
    return [m for m in net.modules() if isinstance(m, nn.Dropout) and m.training]


@contextmanager
def disable(dropouts: Sequence[nn.Module]) -> Iterator[None]:
    """Lets all values pass through dropout layers that are in training mode."""
    for layer in dropouts:
        layer.eval()
    try:
        yield
    finally:
        for layer in dropouts:
            layer.train()


@contextmanager
def freeze(net: nn.Module) -> Iterator[None]:
    """Computes no gradients of a net's weights, which saves half of the backward pass."""
    net.requires_grad_(False)
    try:
        yield
    finally:
        net.requires_grad_(True)
