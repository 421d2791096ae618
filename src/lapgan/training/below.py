"""The levels below one in training, already trained: what they generate for it to work on.

A level that saw real low-pass images alone meets its first generated one when the cascade is
sampled, and adds to the errors of the level below. With `training.exposure` it learns on generated
ones.

Source: the gap is the exposure bias of Ranzato et al. (2016); a stack of generators trained one
after another, each on the one before, is Zhang et al. (2017), StackGAN.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lapgan.cascade import Level, build_level
from lapgan.compute import Compute
from lapgan.errors import LapganError
from lapgan.pyramid import Operator, image_of, upsample
from lapgan.recipe import Recipe
from lapgan.weights import LEVEL_FILE, read_weights

__all__ = ["Below", "load_below"]


@dataclass(frozen=True)
class Below:
    """Trained levels that make images for a finer one.

    Args:
        levels: coarsest first.
        operator: of the pyramid.
        compute: where they run.
    """

    levels: Sequence[Level]
    operator: Operator
    compute: Compute

    @torch.no_grad()
    def sample(self, n: int, label: Tensor | None, generator: torch.Generator) -> Tensor:
        """Generates n images of the finest of the levels, in the scale of the nets."""
        image: Tensor | None = None
        for level in self.levels:
            z = self.compute.place(level.noise.sample(n, level.size, generator))
            low = None if image is None else upsample(image, level.size, self.operator)
            high = level.residual(low, z, label, self.compute)
            image = image_of(high, low)
        assert image is not None
        return image


def load_below(run: Path, recipe: Recipe, k: int, compute: Compute) -> Below:
    """Loads the averaged weights of all levels coarser than k from a run folder.

    Raises:
        LapganError: one of them is not trained yet, or its file is damaged.
    """
    levels = []
    for j in reversed(range(k + 1, len(recipe.levels))):
        name = recipe.level_name(j)
        path = run / f"level-{name}" / LEVEL_FILE
        if not path.exists():
            raise LapganError(
                f"level {recipe.level_name(k)}: recipe {recipe.name} trains it on samples of the "
                f"level below (training.exposure), but there is no {path} yet. Train level {name} "
                "first, or set training.exposure=0."
            )
        level = build_level(path, read_weights(path), j)
        level.prepare(compute)
        levels.append(level)
    return Below(levels, recipe.pyramid.operator, compute)
