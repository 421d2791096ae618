"""What a run costs on this machine, measured before it starts, and which recipe would fit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from lapgan.compute import Compute
from lapgan.recipe import Recipe, recipe_names
from lapgan.training.config import Budget, RunConfig
from lapgan.training.speed import measure_speeds

__all__ = ["LevelCost", "advise", "measure_costs"]

_SECONDS = 0.5
_LONG = 24 * 3600
# Below this fraction of a recipe's images a level is far from what the recipe is for.
_FAR = 0.02


@dataclass(frozen=True)
class LevelCost:
    """What a level costs.

    Args:
        name: of the level.
        rate: images per second.
        budget: when its training ends.
    """

    name: str
    rate: float
    budget: Budget

    @property
    def seconds(self) -> float:
        """How long its training takes."""
        return min(self.budget.images / self.rate, self.budget.seconds)

    @property
    def images(self) -> int:
        """How many images it then has seen."""
        return round(self.seconds * self.rate)

    def __str__(self) -> str:
        return (
            f"level {self.name}: about {self.rate:,.0f} images/s, {self.images:,} images in "
            f"{_describe_time(self.seconds)}"
        )


def measure_costs(config: RunConfig, compute: Compute) -> Iterator[LevelCost]:
    """Yields what each selected level costs, coarsest first, by about half a second of steps each.

    Nothing is written. Nets are not compiled: those that will be are faster. Other work on the
    machine counts, and so does its absence later.

    Args:
        config: the run; it need not have begun.
        compute: where the nets run.
    """
    levels = config.selected_levels
    for level, speed in zip(
        levels, measure_speeds(config.recipe, compute, _SECONDS, levels), strict=True
    ):
        yield LevelCost(level.name, speed.images_per_second, config.budget(level))


def advise(recipe: Recipe, costs: Sequence[LevelCost], device: torch.device) -> str | None:
    """Says what fits better if a recipe takes more than a day on a CPU, or gets nowhere.

    Args:
        recipe: of the run.
        costs: of its levels.
        device: where it runs.

    Returns:
        A sentence; None if there is nothing to say.
    """
    seconds = sum(cost.seconds for cost in costs)
    # Few images that were asked for as such are what the user wants.
    in_time = [cost.images for cost in costs if cost.images < cost.budget.images]
    fraction = min([1.0, *(images / recipe.training.images for images in in_time)])
    if device.type != "cpu" or (seconds <= _LONG and fraction >= _FAR):
        return None
    names = [f"{recipe.name}-medium", f"{recipe.name}-small"]
    better = [name for name in names if name in recipe_names()]
    advice = (
        f"made for a CPU: {', '.join(better)}" if better else "a GPU, or smaller nets, would help"
    )
    if seconds > _LONG:
        return f"together that is {_describe_time(seconds)}; {advice}"
    return f"that is {fraction:.1%} of the recipe's images, {recipe.training.images:,}; {advice}"


def _describe_time(seconds: float) -> str:
    if seconds >= 48 * 3600:
        return f"{seconds / 86400:.1f} days"
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.1f} minutes"
