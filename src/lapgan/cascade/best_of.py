"""The best of several candidates: the one whose class a classifier finds most probable.

    x~ = argmax_j log p(c | x~_j),    j = 1 ... K

Candidates are generated down to the classifier's level only; the finer levels then refine the best
one. The classifier is trained on real images alone, and G is not trained against it, so a high
score means that an image looks like its class rather than that it exploits the classifier.

References:
    Razavi et al. (2019), section 3.3, for rejection by a classifier.
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
from lapgan.models.classifier import ClassifierSection, ImageClassifier
from lapgan.pyramid import Stage
from lapgan.sizes import Size, parse_size
from lapgan.weights import Weights, classifier_state

__all__ = ["Candidate", "ClassifierGuide", "keep_best"]

# The stages of a block, and the score of each of its images.
Candidate = tuple[list[Stage], Float[Tensor, " b"]]


@dataclass(frozen=True)
class ClassifierGuide:
    """A classifier, and the level whose images it scores.

    Args:
        section: how the classifier is built.
        net: the classifier.
    """

    section: ClassifierSection
    net: ImageClassifier

    @classmethod
    def from_weights(cls, weights: Weights, path: Path) -> "ClassifierGuide | None":
        """Builds the guide of weights that were read from `path`; None if they have none.

        Raises:
            LapganError: the tensors do not fit the classifier's section.
        """
        section = weights.classifier
        if section is None:
            return None
        try:
            if section.level not in weights.recipe.level_names:
                raise RuntimeError(f"the recipe has no level {section.level}")
            net = section.build(len(weights.class_names))
            net.load_state_dict(classifier_state(weights.tensors))
        except RuntimeError as error:
            raise LapganError(f"{path}: its classifier does not fit its recipe: {error}") from None
        return cls(section, net)

    @property
    def size(self) -> Size:
        """Height and width of the images that it scores."""
        return parse_size(self.section.level)

    def prepare(self, compute: Compute) -> None:
        """Readies the classifier for scoring on the given device."""
        self.net.requires_grad_(False).eval()
        compute.place(self.net)

    def score(
        self, images: Float[Tensor, "b 3 h w"], label: Int64[Tensor, " b"], compute: Compute
    ) -> Float[Tensor, " b"]:
        """Returns log p(c | x) of each image and its class."""
        with compute.autocast():
            log_probabilities: Tensor = self.net(images)
        return log_probabilities.gather(1, label[:, None]).squeeze(1)


def keep_best(candidates: Iterable[Candidate]) -> list[Stage]:
    """Returns for each image of a block the candidate with the highest score, the first of equals.

    Args:
        candidates: blocks of the same levels with scores; one is held in memory at a time.
    """
    return reduce(_keep_better, candidates)[0]


def _keep_better(best: Candidate, other: Candidate) -> Candidate:
    better = other[1] > best[1]
    stages = [_merge(better, *pair) for pair in zip(best[0], other[0], strict=True)]
    return stages, torch.maximum(best[1], other[1])


def _merge(replace: Tensor, stage: Stage, other: Stage) -> Stage:
    """Takes the images of the other stage where `replace` is true."""
    replace = replace[:, None, None, None]
    return Stage(*(
        None if a is None or b is None else torch.where(replace, b, a)
        for a, b in zip(stage, other, strict=True)
    ))  # type: ignore[arg-type]  # fmt: skip
