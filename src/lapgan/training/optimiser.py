"""Optimisers and their schedules."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from lapgan.recipe import Adam, Sgd

__all__ = ["make_optimiser", "set_schedule"]


def make_optimiser(parameters: Iterable[nn.Parameter], recipe: Sgd | Adam) -> torch.optim.Optimizer:
    """Makes the optimiser that the recipe names."""
    if isinstance(recipe, Sgd):
        return torch.optim.SGD(
            parameters, lr=recipe.learning_rate, momentum=recipe.momentum, foreach=True
        )
    return torch.optim.Adam(parameters, lr=recipe.learning_rate, betas=recipe.betas, foreach=True)


def set_schedule(
    optimiser: torch.optim.Optimizer, recipe: Sgd | Adam, epochs: float, progress: float = 0.0
) -> None:
    """Sets learning rate and momentum.

    For `Sgd`, after e whole epochs (Denton et al., 2015, section 4.1):

        rate = learning_rate / (1 + decay)^e,  momentum = min(momentum + momentum_step e, maximum)

    For `Adam` with a cosine decay, after a share p of the budget (Loshchilov and Hutter, 2017):

        rate = learning_rate (1 + 19 (1 + cos(pi p)) / 2) / 20

    Args:
        optimiser: what to set.
        recipe: which schedule.
        epochs: how often the data were seen.
        progress: the share of the budget that is spent, from 0 to 1.
    """
    for group in optimiser.param_groups:
        if isinstance(recipe, Sgd):
            group["lr"] = recipe.learning_rate / (1 + recipe.decay) ** int(epochs)
            momentum = recipe.momentum + recipe.momentum_step * int(epochs)
            group["momentum"] = min(momentum, recipe.momentum_max)
        elif recipe.decay == "cosine":
            cosine = (1 + math.cos(math.pi * min(progress, 1.0))) / 2
            group["lr"] = recipe.learning_rate * (1 + 19 * cosine) / 20
