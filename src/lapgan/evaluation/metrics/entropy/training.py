"""Trains a density on single pixels, for a given CPU time.

The budget is time, not images, so the schedules are its own: AdamW with a warm-up of 50 steps and a
cosine to 0, and an average of the weights whose decay depends on the number of steps.
"""

import copy
import math
import time
from collections.abc import Iterator

import torch
from torch import nn

from lapgan.evaluation.metrics.entropy.contexts import LevelImages, Window, draw_pixels
from lapgan.evaluation.metrics.entropy.density import Density
from lapgan.progress import tracked
from lapgan.pyramid import size_of
from lapgan.sizes import size_text

__all__ = ["train_density"]

BATCH = 512
LEARNING_RATE = 1.5e-3
WARM_UP = 50
MAX_DECAY = 0.995
MAX_NORM = 5.0


def train_density(train: LevelImages, minutes: float, seed: int) -> Density:
    """Trains a density on single pixels of `train`, each image equally likely.

    Args:
        train: the images.
        minutes: CPU time of this process, so that other work on the machine costs no training.
        seed: of weights and minibatches; how many steps there is time for depends on the machine.

    Returns:
        the density with averaged weights.
    """
    clock = _Clock(minutes)
    generator = torch.Generator().manual_seed(seed)
    density = _build_density(train, seed)
    density.fit_linear(train, generator)
    optimizer = torch.optim.AdamW(density.parameters(), betas=(0.9, 0.99), weight_decay=1e-4)
    average = copy.deepcopy(density)
    for step, progress in enumerate(clock.progress(f"density {size_text(train.size)}"), start=1):
        optimizer.param_groups[0]["lr"] = _learning_rate(step, progress)
        _update_weights(density, optimizer, train, generator)
        _update_average(average, density, step)
    return average


def _build_density(train: LevelImages, seed: int) -> Density:
    mean = train.fine[:2000].float().mean(dim=(0, 2, 3))
    coarse = None if train.coarse is None else size_of(train.coarse)
    window = Window(train.size, coarse, mean)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return Density(window)


def _update_weights(
    density: Density,
    optimizer: torch.optim.Optimizer,
    train: LevelImages,
    generator: torch.Generator,
) -> None:
    """Takes one step down -log p of a minibatch of pixels."""
    contexts = density.window(train, *draw_pixels(train, BATCH, generator))
    optimizer.zero_grad()
    loss = -density(contexts).sum(dim=1).mean()
    loss.backward()
    nn.utils.clip_grad_norm_(density.parameters(), MAX_NORM)
    optimizer.step()


def _learning_rate(step: int, progress: float) -> float:
    """Returns r min(1, step / 50) (1 + cos(pi progress)) / 2."""
    return LEARNING_RATE * min(1.0, step / WARM_UP) * (1 + math.cos(math.pi * progress)) / 2


@torch.no_grad()
def _update_average(average: nn.Module, net: nn.Module, step: int) -> None:
    """Moves the averaged weights towards the net's, with decay min(0.995, step / (step + 10))."""
    decay = min(MAX_DECAY, step / (step + 10))
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)


class _Clock:
    """A budget of CPU time."""

    def __init__(self, minutes: float) -> None:
        self.start, self.seconds = time.process_time(), max(60 * minutes, 1e-9)

    def progress(self, what: str) -> Iterator[float]:
        """Yields the fraction of the budget that is spent, until all of it is."""
        for percent in tracked(range(100), what):
            while (spent := self._spent()) < (percent + 1) / 100:
                yield spent

    def _spent(self) -> float:
        return (time.process_time() - self.start) / self.seconds
