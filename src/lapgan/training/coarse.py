"""Generated coarse images, from the coarser levels of a trained model.

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
from lapgan.sizes import size_text
from lapgan.training.examples import Examples
from lapgan.training.starting import StartingModel
from lapgan.weights import Weights

__all__ = ["CoarseLevels", "coarse_levels", "coarse_weights", "with_generated_low"]


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
    start: StartingModel | None,
    recipe: Recipe,
    level: LevelRecipe,
    num_classes: int,
    compute: Compute,
) -> CoarseLevels | None:
    """Builds the coarser levels that generate low-pass images; None without `generated_low`.

    Args:
        start: the trained model that has them.
        recipe: of the run.
        level: the level in training.
        num_classes: how many classes condition the run; 0 for none.
        compute: where they run.

    Raises:
        LapganError: there is no such model, or it is another pyramid.
    """
    weights = coarse_weights(start, recipe, level, num_classes)
    if start is None or weights is None:
        return None
    coarser = weights.recipe.levels[-_count_coarser(recipe, level) :]
    levels = [build_level(Path(start.name), weights, each) for each in reversed(coarser)]
    for built in levels:
        built.prepare(compute)
    return CoarseLevels(levels, recipe.pyramid.operator, compute)


def coarse_weights(
    start: StartingModel | None, recipe: Recipe, level: LevelRecipe, num_classes: int
) -> Weights | None:
    """Returns the weights that have the levels of `coarse_levels`; raises what that raises."""
    if not level.generated_low:
        return None
    key = f"levels.{level.name}.generated_low"
    if start is None or start.weights is None:
        named = "MODEL" if start is None else start.name
        raise LapganError(
            f"{key} = {level.generated_low:g}: needs a trained model whose coarser levels generate "
            f"the low-pass images: --start-from {named}; or set it to 0."
        )
    place, count = f"{key}: --start-from {start.name}", _count_coarser(recipe, level)
    _check_agreement(place, start.weights, recipe, count, num_classes)
    return start.weights


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


def _check_agreement(
    place: str, weights: Weights, recipe: Recipe, count: int, num_classes: int
) -> None:
    """Raises a LapganError if the coarsest `count` levels of a model are not the recipe's."""
    there = weights.recipe
    trained = [x for x in there.levels[-count:] if x.name not in weights.missing]
    for what, found, expected in (
        ("coarser levels", _sizes(trained), _sizes(recipe.levels[-count:])),
        ("pyramid.operator", there.pyramid.operator, recipe.pyramid.operator),
        ("data.normalisation", there.data.normalisation, recipe.data.normalisation),
        ("classes", len(weights.class_names), num_classes),
    ):
        if found != expected:
            raise LapganError(
                f"{place}: {what}: expected {expected}, as in this run, found {found}. Choose a "
                "model with the same coarser levels, or set the key to 0."
            )


def _count_coarser(recipe: Recipe, level: LevelRecipe) -> int:
    return len(recipe.levels) - level.index - 1


def _sizes(levels: Sequence[LevelRecipe]) -> str:
    return ", ".join(size_text(level.size) for level in levels) or "none"
