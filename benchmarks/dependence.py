"""Measures the dependence of generators whose answer is known; the table in docs/dependence.md.

    LAPGAN_DATA=... python benchmarks/dependence.py

- ignores: the whole image of another photograph, whatever the level below shows;
- copies: the level below, enlarged;
- stranger's detail: the detail of another photograph on the level below.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lapgan.cascade import Cascade, Level
from lapgan.compute import choose_compute
from lapgan.data import open_images
from lapgan.evaluation.metrics.dependence.measure import measure_dependence
from lapgan.evaluation.metrics.dependence.ties import Relation, Tie
from lapgan.noise import PlaneNoise, VectorNoise
from lapgan.normalization import symmetric_normalization
from lapgan.pyramid import Operator, downsample, residual_of, upsample
from lapgan.recipe import check_recipe

FINE, COARSE = (32, 32), (16, 16)
OPERATOR: Operator = "bilinear"
PAIRS, TRAINING = 1024, 2048
Images = Callable[[Tensor | None, Tensor], Tensor]


class FromPhotographs(nn.Module):
    """A generator that is a formula of the level below and of a photograph that z chooses."""

    def __init__(self, photographs: Tensor, residual: Images) -> None:
        super().__init__()
        self.photographs = photographs
        self.residual = residual

    def forward(self, low: Tensor | None, z: Tensor, label: Tensor | None) -> Tensor:
        """Returns the residuals of a batch."""
        uniform = (z.flatten(1)[:, 0] + 1) / 2
        index = (uniform * len(self.photographs)).long().clamp(max=len(self.photographs) - 1)
        return self.residual(low, self.photographs[index])


def make_cascade(photographs: Tensor, residual: Images) -> Cascade:
    """Makes a cascade of two levels whose coarsest images are those of photographs."""
    conv, dense = {"kind": "paper-conv"}, {"kind": "paper-dense"}
    finer = {"noise": {"kind": "plane"}, "generator": conv, "discriminator": conv}
    coarsest = {"noise": {"kind": "vector"}, "generator": dense, "discriminator": dense}
    content = {"name": "known", "pyramid": {"operator": OPERATOR}}
    recipe = check_recipe(content | {"levels": {"32": finer, "16": coarsest}}, "known")

    def shrink(_: Tensor | None, image: Tensor) -> Tensor:
        return downsample(image, COARSE, OPERATOR)

    levels = [
        Level(FINE, PlaneNoise(), FromPhotographs(photographs, residual)),
        Level(COARSE, VectorNoise(), FromPhotographs(photographs, shrink)),
    ]
    return Cascade(
        recipe, levels, symmetric_normalization(FINE), compute=choose_compute("cpu", "float32")
    )


def ignore(low: Tensor | None, stranger: Tensor) -> Tensor:
    """Returns the residual that turns l_k into a stranger's image."""
    return stranger if low is None else stranger - low


def copy(low: Tensor | None, stranger: Tensor) -> Tensor:
    """Returns a residual of zero."""
    return torch.zeros_like(stranger)


def borrow_detail(low: Tensor | None, stranger: Tensor) -> Tensor:
    """Returns a stranger's own residual."""
    coarse = downsample(stranger, COARSE, OPERATOR)
    return residual_of(stranger, upsample(coarse, FINE, OPERATOR))


def main() -> None:
    """Prints the table."""
    training, held_out = (open_images("cifar10", split=split) for split in ("train", "test"))
    photographs = torch.from_numpy(training.pixels[:10_000].copy()).float() / 127.5 - 1
    images = torch.from_numpy(held_out.pixels[:4096].copy())
    print("| generator | ratio | fraction of noise | image | patch | detail | patch of detail |")
    print("|---|---|---|---|---|---|---|")
    known = {"ignores": ignore, "copies": copy, "a stranger's detail": borrow_detail}
    for name, residual in known.items():
        cascade = make_cascade(photographs, residual)
        (level,) = measure_dependence(cascade, images, PAIRS, TRAINING)
        print_row(name, level.generated, f"{level.diversity.noise_fraction.value:.2f}")
    print_row("real", level.real, "")


def print_row(name: str, tie: Tie, noise: str) -> None:
    """Prints a row: accuracies and bits of both critics of both relations."""
    cells = [name, f"{tie.fidelity.ratio.value:.3f}", noise]
    print("|", " | ".join([*cells, *describe(tie.image), *describe(tie.detail)]), "|", flush=True)


def describe(relation: Relation) -> list[str]:
    """Returns accuracy and bits, of whole images and of patches."""
    return [
        f"{i.accuracy.value:.3f}, {max(i.mutual_information.value, 0):.2f} bits"
        for i in (relation.whole, relation.local)
    ]


if __name__ == "__main__":
    main()
