"""Where a cascade loses quality: fd-lite0 level by level, from real coarse images and from noise.

    LAPGAN_DATA=... python benchmarks/levels.py cifar10-cc cifar10-cc-small [--n 2000]

For each level, the images that a model makes of it are enlarged to the finest size, and so are real
ones: made from noise, and from real images of each coarser level. The line "enlarged" has the real
coarse images themselves, which a level should not make worse. Real images that are compared with
are the first n, those that are refined the next n.
"""

from typing import Annotated

import torch
import typer
from torch import Tensor

from lapgan import Cascade
from lapgan.data import open_images
from lapgan.evaluation.features.extract import extract_features, load_extractor
from lapgan.evaluation.metrics.frechet import frechet_distance
from lapgan.pyramid import Operator, gaussian_pyramid, upsample
from lapgan.sizes import Size


class Distances:
    """Distances to real images of a level, all of them enlarged to the finest size."""

    def __init__(self, real: Tensor, size: Size, operator: Operator) -> None:
        self.size, self.operator = size, operator
        self.extractor = load_extractor()
        self.real = self.features(real)

    def features(self, x: Tensor) -> Tensor:
        """Returns the features of images in [-1, 1]."""
        if x.shape[-2:] != self.size:
            x = upsample(x, self.size, self.operator)
        return extract_features(_as_pixels(x), self.extractor)

    def report(self, what: str, x: Tensor) -> None:
        """Prints a line."""
        print(f"  {what}: {frechet_distance(self.real, self.features(x), 0).value:.1f}", flush=True)


def _as_pixels(x: Tensor) -> Tensor:
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def report_model(model: str, pixels: Tensor, labels: Tensor | None, n: int) -> None:
    """Prints the distances of a model for each level and each start."""
    cascade = Cascade.load(model)
    operator, sizes = cascade.recipe.pyramid.operator, cascade.recipe.sizes
    real = gaussian_pyramid(pixels[:n] / 127.5 - 1, sizes, operator)
    coarse = gaussian_pyramid(pixels[n:] / 127.5 - 1, sizes, operator)
    label = labels if cascade.class_names else None
    for finest in range(len(sizes) - 1):
        print(f"{model}, level {cascade.recipe.level_names[finest]}", flush=True)
        distances = Distances(real[finest], sizes[0], operator)
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
) -> None:
    """Prints the distances of all models."""
    images = open_images(data)
    pixels = torch.from_numpy(images.pixels[: 2 * n].copy())
    labels = None
    if images.labels is not None:
        labels = torch.from_numpy(images.labels[n : 2 * n].copy())
    for model in models:
        report_model(model, pixels, labels, n)


if __name__ == "__main__":
    typer.run(main)
