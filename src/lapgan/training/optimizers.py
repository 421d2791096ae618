"""Optimizers and their schedules."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from lapgan.recipe import Adam, Sgd

__all__ = ["make_optimizer", "set_schedule"]


def make_optimizer(parameters: Iterable[nn.Parameter], recipe: Sgd | Adam) -> torch.optim.Optimizer:
    """Makes the optimizer that the recipe names."""
    if isinstance(recipe, Sgd):
        return torch.optim.SGD(
            parameters, lr=recipe.learning_rate, momentum=recipe.momentum, foreach=True
        )
    return torch.optim.Adam(parameters, lr=recipe.learning_rate, betas=recipe.betas, foreach=True)


def set_schedule(
    optimizer: torch.optim.Optimizer,
    recipe: Sgd | Adam,
    epochs: float,
    progress: float = 0.0,
    share: float = 1.0,
) -> None:
    """Sets learning rate and momentum.

    For `Sgd`, after e whole epochs (Denton et al., 2015, section 4.1):

        rate = learning_rate / (1 + decay)^e,  momentum = min(momentum + momentum_step e, maximum)

    For `Adam` with a cosine decay, after a share p of the budget (Loshchilov and Hutter, 2017):

        rate = learning_rate (1 + 19 (1 + cos(pi p)) / 2) / 20

    Args:
        optimizer: what to set.
        recipe: which schedule.
        epochs: how often the data were seen.
        progress: the share of the budget that is spent, from 0 to 1.
        share: multiplies the rate: G and D may learn at different ones.
    """
    for group in optimizer.param_groups:
        group["lr"] = share * _rate(recipe, int(epochs), min(progress, 1.0))
        if isinstance(recipe, Sgd):
            momentum = recipe.momentum + recipe.momentum_step * int(epochs)
            group["momentum"] = min(momentum, recipe.momentum_max)


def _rate(recipe: Sgd | Adam, epoch: int, progress: float) -> float:
    if isinstance(recipe, Sgd):
        return recipe.learning_rate / (1 + recipe.decay) ** epoch
    if recipe.decay == "none":
        return recipe.learning_rate
    return recipe.learning_rate * (1 + 19 * (1 + math.cos(math.pi * progress)) / 2) / 20
