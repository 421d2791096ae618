"""The best of several candidates: the one in which a classifier sees the class best.

    x~ = argmax_j log p(c | x~_j),    j = 1 ... K

The candidates are made down to the classifier's level only; the finer levels then refine what was
chosen. Since the classifier learns from real images alone and G has never met it, what it likes
best looks like its class rather than like a trick; and since candidates are G's own samples,
nothing is drawn that G could not draw.

Source: Razavi et al. (2019), "Generating diverse high-fidelity images with VQ-VAE-2", section 3.3,
for rejection by a classifier.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lapgan.compute import Compute
from lapgan.errors import LapganError
from lapgan.models.classifier import ImageClassifier
from lapgan.recipe import ClassifierRecipe
from lapgan.sizes import Size, parse_size
from lapgan.weights import Weights, classifier_state

__all__ = ["Selector", "Step", "best"]

# The low-pass image that a level was given (None at the coarsest) and the image it made of it.
Step = tuple[Tensor | None, Tensor]


@dataclass(frozen=True)
class Selector:
    """A classifier, and the level whose images it judges.

    Args:
        recipe: how the classifier is built.
        net: the classifier.
    """

    recipe: ClassifierRecipe
    net: ImageClassifier

    @classmethod
    def of_weights(cls, weights: Weights, path: Path) -> "Selector | None":
        """Builds the selector of weights that were read from `path`; None if they have none.

        Raises:
            LapganError: the weights do not fit what is said of the classifier.
        """
        if weights.classifier is None:
            return None
        recipe = weights.classifier
        try:
            if recipe.level not in weights.recipe.levels:
                raise RuntimeError(f"the recipe has no level {recipe.level}")
            net = recipe.build(len(weights.class_names))
            net.load_state_dict(classifier_state(weights.tensors))
        except RuntimeError as error:
            raise LapganError(f"{path}: its classifier does not fit its recipe: {error}") from None
        return cls(recipe, net)

    @property
    def size(self) -> Size:
        """Height and width of the images that it judges."""
        return parse_size(self.recipe.level)

    def prepare(self, compute: Compute) -> None:
        """Readies the classifier for judging on the given device."""
        self.net.requires_grad_(False).eval()
        compute.place(self.net)

    def scores(
        self, images: Float[Tensor, "b 3 h w"], label: Int64[Tensor, " b"], compute: Compute
    ) -> Float[Tensor, " b"]:
        """Returns log p(c | x) of the class that each image was asked for."""
        with compute.autocast():
            found: Tensor = self.net(images)
        return found.gather(1, label[:, None]).squeeze(1)


def best(candidates: Iterable[tuple[list[Step], Float[Tensor, " b"]]]) -> list[Step]:
    """Returns for each image of a block the candidate with the highest score, the first of equals.

    Args:
        candidates: blocks of the same levels, and the score of each image; one is kept at a time.
    """
    return reduce(_better, candidates)[0]


def _better(
    kept: tuple[list[Step], Tensor], other: tuple[list[Step], Tensor]
) -> tuple[list[Step], Tensor]:
    changes = other[1] > kept[1]
    steps = [_exchanged(changes, *pair) for pair in zip(kept[0], other[0], strict=True)]
    return steps, torch.maximum(kept[1], other[1])


def _exchanged(changes: Tensor, kept: Step, other: Step) -> Step:
    """Puts the images of another step in the place of those that change."""
    changes = changes[:, None, None, None]
    low = None if kept[0] is None or other[0] is None else torch.where(changes, other[0], kept[0])
    return low, torch.where(changes, other[1], kept[1])
