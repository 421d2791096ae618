"""Generated coarse images, from the coarser levels of the run or of a trained model.

In training the low-pass images of a level are those of real images. In sampling they are those of
the images that the coarser levels generate, which differ. At a level with `generated_low` G works
on both, for that fraction of a minibatch on generated ones; D's real examples stay as they are:

    real: (h_k, u(I_{k+1})),    generated: (G_k(z_k, l_k), l_k) with l_k = u(I_{k+1}) or u(I~_{k+1})

There is no residual h_k to u(I~_{k+1}), so a supervised distance cannot be measured there.

References:
    Bengio et al. (2015), "Scheduled sampling for sequence prediction", section 2.4, who train a
    model of sequences on what it has generated itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from lapgan.cascade.levels import Level, build_level, descend, perturb
from lapgan.compute import Compute
from lapgan.errors import LapganError
from lapgan.noise import draw_normal
from lapgan.pyramid import Operator, upsample
from lapgan.recipe import LevelRecipe, Recipe
from lapgan.run_folder import RunFolder
from lapgan.training.examples import Examples
from lapgan.training.starting import StartingModel
from lapgan.weights import Weights, read_weights

__all__ = [
    "CoarseLevels",
    "check_coarse_levels",
    "coarse_levels",
    "is_of_run",
    "with_generated_low",
]


@dataclass(frozen=True)
class CoarseLevels:
    """The levels below the one in training, with trained generators.

    Args:
        levels: coarsest first.
        operator: u(.) of the pyramid.
        compute: where the generators run.
    """

    levels: Sequence[Level]
    operator: Operator
    compute: Compute

    @torch.no_grad()
    def draw(self, count: int, label: Tensor | None, generator: torch.Generator) -> Tensor:
        """Generates coarse images (count, 3, h, w) in the scale of the nets, on the device.

        Args:
            count: how many.
            label: class indices (count,), or None without classes.
            generator: of their noise.
        """
        pairs = pairwise([self.levels[0], *self.levels])
        noise = [level.draw_noise(count, below.size, generator) for below, level in pairs]
        stages = descend(
            self.levels,
            self.operator,
            [self.compute.place(z) for z, _ in noise],
            label,
            autocast=self.compute.autocast,
            epsilon=[None if e is None else self.compute.place(e) for _, e in noise],
        )
        return stages[-1].image


def coarse_levels(
    out: Path,
    start: StartingModel | None,
    recipe: Recipe,
    level: LevelRecipe,
    class_names: Sequence[str],
    compute: Compute,
) -> CoarseLevels | None:
    """Builds the coarser levels that generate low-pass images; None without `generated_low`.

    Each is the one of the run, as far as it is trained, or else that of the starting model.

    Args:
        out: the run's folder.
        start: the trained model that the run starts from, if there is one.
        recipe: of the run.
        level: the level in training.
        class_names: of the run; empty without classes.
        compute: where they run.

    Raises:
        LapganError: neither has one of the levels, or the model's is another one.
    """
    if not level.generated_low:
        return None
    levels = []
    for coarser in reversed(recipe.levels[level.index + 1 :]):
        own = RunFolder(out).part(coarser.name).chosen
        if own is not None:
            built = build_level(own, read_weights(own), coarser)
        else:
            weights = _take_level(start, recipe, level, coarser, class_names)
            built = build_level(out, weights, coarser)
        built.prepare(compute)
        levels.append(built)
    return CoarseLevels(levels, recipe.pyramid.operator, compute)


def check_coarse_levels(
    out: Path,
    start: StartingModel | None,
    recipe: Recipe,
    levels: Sequence[LevelRecipe],
    class_names: Sequence[str],
) -> None:
    """Raises what `coarse_levels` would raise at one of the `levels` of a run, trained in turn."""
    for level in levels:
        if not level.generated_low:
            continue
        for coarser in recipe.levels[level.index + 1 :]:
            if not is_of_run(out, coarser, levels):
                _take_level(start, recipe, level, coarser, class_names)


def is_of_run(out: Path, level: LevelRecipe, levels: Sequence[LevelRecipe]) -> bool:
    """Whether a run that trains `levels` has a level of its own before a finer one begins."""
    return level in levels or RunFolder(out).part(level.name).chosen is not None


def with_generated_low(
    examples: Examples,
    levels: CoarseLevels,
    level: LevelRecipe,
    generator: torch.Generator,
) -> Examples:
    """Gives a fraction of the examples a generated low-pass image beside the real one.

    They are chosen at random, and their conditioning noise has the same sigma.

    Args:
        examples: of the level.
        levels: that generate the coarse images, of the same classes.
        level: the level in training.
        generator: of the choice and of all noise.
    """
    assert examples.low is not None
    count = round(level.generated_low * len(examples))
    order = torch.randperm(len(examples), generator=generator, device=generator.device)
    chosen = order[:count]
    label = None if examples.label is None else examples.label[chosen]
    image = levels.draw(count, label, generator)
    if examples.sigma is not None:
        noise = levels.compute.place(draw_normal(image.shape, generator))
        image = perturb(image, examples.sigma[chosen].view(-1, 1, 1, 1), noise)
    low = upsample(image, level.size, levels.operator).to(examples.low)
    return replace(examples, generated_low=examples.low.index_copy(0, chosen, low))


def _take_level(
    start: StartingModel | None,
    recipe: Recipe,
    level: LevelRecipe,
    coarser: LevelRecipe,
    class_names: Sequence[str],
) -> Weights:
    if start is None:
        raise LapganError(
            f"levels.{level.name}.generated_low = {level.generated_low:g}: level {coarser.name} "
            "generates its low-pass images, and this run has no weights of it. Train that level "
            "first or with this one, name a model that has it (--start-from MODEL), or set the key "
            "to 0."
        )
    return start.take_level(coarser, recipe, class_names)
