"""Where a cascade loses quality: distances level by level, from real coarse images and from noise.

    LAPGAN_DATA=... python benchmarks/levels.py cifar10-cc cifar10-cc-small [--n 2000]
        [--classifier cifar10-cc]

For each level, the images that a model makes of it are enlarged to the finest size, and so are real
ones: made from noise, and from real images of each coarser level. The line "enlarged" has the real
coarse images themselves, which a level should not make worse. Real images that are compared with
are the first n, those that are refined the next n.

With --classifier, a second distance is that of the features of a model's classifier, which has seen
nothing but the training images, and the third figure is the class agreement by it. It is for models
whose D was on pretrained features, which fd-lite0 favors. Images larger than those of the
classifier are reduced; at smaller levels there is none.
"""

from typing import Annotated

import torch
import typer
from torch import Tensor

from lapgan import Cascade
from lapgan.cascade.best_of import ClassifierGuide
from lapgan.data import open_images
from lapgan.evaluation.features.extract import Features, extract_features, load_extractor
from lapgan.evaluation.metrics.frechet import frechet_distance
from lapgan.pyramid import Operator, downsample, gaussian_pyramid, upsample
from lapgan.sizes import Size


class ClassifierDistance:
    """Distances in the features of a classifier, and class agreement by it."""

    def __init__(self, guide: ClassifierGuide, real: Tensor, operator: Operator) -> None:
        self.guide, self.operator = guide, operator
        guide.net.requires_grad_(False).eval()
        self.real = self.features(real)

    def reduce(self, x: Tensor) -> Tensor:
        """Returns images of the classifier's size."""
        size = self.guide.size
        return x if x.shape[-2:] == size else downsample(x, size, self.operator)

    def features(self, x: Tensor) -> Features:
        """Returns the classifier's features of images in [-1, 1]."""
        parts = [self.guide.net.features(part) for part in self.reduce(x).split(250)]
        return Features(torch.cat(parts), "classifier")

    def describe(self, x: Tensor, label: Tensor | None) -> str:
        """Returns the end of a line: the distance, and class agreement if there are classes."""
        features = self.features(x)
        text = f", by the classifier {frechet_distance(self.real, features, 0).value:.2f}"
        if label is None:
            return text
        logits = self.guide.net.last(features.values)
        agreement = (logits.argmax(dim=1) == label).float().mean().item()
        return f"{text}, of its class {agreement:.1%}"


class Distances:
    """Distances to real images of a level, all of them enlarged to the finest size."""

    def __init__(
        self,
        real: Tensor,
        size: Size,
        operator: Operator,
        label: Tensor | None,
        guide: ClassifierGuide | None,
    ) -> None:
        self.size, self.operator, self.label = size, operator, label
        self.level = real.shape[-2:]
        self.extractor = load_extractor()
        self.real = self.features(real)
        fits = guide is not None and min(self.level) >= min(guide.size)
        self.classifier = ClassifierDistance(guide, real, operator) if fits else None

    def features(self, x: Tensor) -> Features:
        """Returns the features of images in [-1, 1]."""
        if x.shape[-2:] != self.size:
            x = upsample(x, self.size, self.operator)
        return extract_features(_as_pixels(x), self.extractor)

    def report(self, what: str, x: Tensor) -> None:
        """Prints a line."""
        distance = frechet_distance(self.real, self.features(x), 0).value
        more = ""
        if self.classifier is not None and x.shape[-2:] == self.level:
            more = self.classifier.describe(x, self.label)
        print(f"  {what}: {distance:.1f}{more}", flush=True)


def _as_pixels(x: Tensor) -> Tensor:
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def report_model(
    model: str, pixels: Tensor, labels: Tensor | None, n: int, guide: ClassifierGuide | None
) -> None:
    """Prints the distances of a model for each level and each start."""
    cascade = Cascade.load(model)
    operator, sizes = cascade.recipe.pyramid.operator, cascade.recipe.sizes
    real = gaussian_pyramid(pixels[:n] / 127.5 - 1, sizes, operator)
    coarse = gaussian_pyramid(pixels[n:] / 127.5 - 1, sizes, operator)
    label = labels if cascade.class_names else None
    for finest in range(len(sizes) - 1):
        print(f"{model}, level {cascade.recipe.level_names[finest]}", flush=True)
        distances = Distances(real[finest], sizes[0], operator, label, guide)
        distances.report("real", coarse[finest])
        distances.report("the level below, enlarged", coarse[finest + 1])
        for start in range(finest + 1, len(sizes)):
            begin = _as_pixels(coarse[start])
            blocks = cascade.stages(n, 0, label, begin, finest)
            distances.report(
                f"from real {cascade.recipe.level_names[start]}",
                torch.cat([stages[-1].image for stages in blocks]),
            )
        blocks = cascade.stages(n, 0, label, finest=finest)
        distances.report("from noise", torch.cat([stages[-1].image for stages in blocks]))


def main(
    models: Annotated[list[str], typer.Argument()],
    n: Annotated[int, typer.Option(min=1300)] = 2000,
    data: Annotated[str, typer.Option()] = "cifar10",
    classifier: Annotated[str | None, typer.Option()] = None,
) -> None:
    """Prints the distances of all models."""
    images = open_images(data)
    pixels = torch.from_numpy(images.pixels[: 2 * n].copy())
    labels = None
    if images.labels is not None:
        labels = torch.from_numpy(images.labels[n : 2 * n].copy())
    guide = None if classifier is None else Cascade.load(classifier).guide
    for model in models:
        report_model(model, pixels, labels, n, guide)


if __name__ == "__main__":
    typer.run(main)
