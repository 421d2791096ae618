"""Optimisers and their schedules, as functions of epochs seen."""

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


def set_schedule(optimiser: torch.optim.Optimizer, recipe: Sgd | Adam, epochs: float) -> None:
    """Sets learning rate and momentum for the given number of epochs.

        rate = learning_rate / (1 + decay)^e,  momentum = min(momentum + momentum_step e, maximum)

    Source: Denton et al. (2015), section 4.1. Epochs are whole: the schedule moves once an epoch.
    """
    if isinstance(recipe, Adam):
        return
    epoch = int(epochs)
    for group in optimiser.param_groups:
        group["lr"] = recipe.learning_rate / (1 + recipe.decay) ** epoch
        group["momentum"] = min(recipe.momentum + recipe.momentum_step * epoch, recipe.momentum_max)
