"""Recursion: the finest level applied again beyond the size that it was trained at.

    I~_{-1} = u(I~_0) + G_0(z_{-1}, u(I~_0)),    and so on, each time with twice the sides

G_0 was trained on the detail of its own scale, so it adds what is typical there: further edges and
texture, no new content.

References:
    Denton et al. (2015), appendix: levels are "applied recursively" beyond the training size.
"""

from collections.abc import Sequence
from dataclasses import replace

from lapgan.cascade.levels import Level
from lapgan.errors import LapganError
from lapgan.recipe import Recipe

__all__ = ["enlarged_levels"]


def enlarged_levels(
    recipe: Recipe, levels: Sequence[Level], num_classes: int, factor: int
) -> tuple[Level, ...]:
    """Returns the finest level at 2, 4, ... times its size, up to a factor.

    Args:
        recipe: of the cascade.
        levels: its levels, finest first.
        num_classes: how many classes condition it; 0 for none.
        factor: by which the sides of the images grow: a power of 2; 1 for no further level.

    Raises:
        LapganError: the factor is another number, or the level works at its own size only.
    """
    if factor < 1 or factor & (factor - 1):
        raise LapganError(f"upscale {factor}: expected 1, 2, 4, 8 or another power of 2.")
    steps = range(1, factor.bit_length())
    section, finest = recipe.levels[0], levels[0]
    if steps and not section.generator.fits_any_size(section.noise, num_classes):
        what = f"generator {section.generator.kind!r} and noise {section.noise.kind!r}"
        classes = f", and {num_classes} classes" if num_classes else ""
        raise LapganError(
            f"upscale {factor}: level {section.name} of {recipe.name} works at its own size only, "
            f"with {what}{classes}. Use a model whose finest level is fully convolutional: "
            "'residual' or 'modern-patch', or without classes 'paper-conv' or 'paper-lsun', and "
            "noise of planes that are not learned."
        )
    height, width = finest.size
    return tuple(replace(finest, size=(height << step, width << step)) for step in steps)
