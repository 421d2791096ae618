"""Conditional entropies of the levels of a pyramid, in bits per pixel, as upper bounds.

    I_{k+1} = floor(d(I_k) + 1/2), clipped to 0 ... 255
    H[I_0] = H[I_K] + Σ_k H[I_k | I_{k+1}]

All levels are 8-bit images and each follows from the finer one, so the chain rule is exact. Any
code of I_k that a decoder with I_{k+1} can read bounds H[I_k | I_{k+1}] from above: here a standard
lossless coder on the residual, and a learned density (see `density.py`) whose bits are counted on
images it was not trained on.

Bits per pixel count all three colors; bits per dimension are a third of that.
"""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from lapgan.data import Images, corner_crops
from lapgan.errors import LapganError
from lapgan.evaluation.metrics.entropy.coders import best_code, residual_values
from lapgan.evaluation.metrics.entropy.contexts import LevelImages
from lapgan.evaluation.metrics.entropy.density import image_bits
from lapgan.evaluation.metrics.entropy.training import train_density
from lapgan.evaluation.metrics.entropy.white import white_noise_bits
from lapgan.files import write_json
from lapgan.progress import tracked
from lapgan.pyramid import Operator, downsample, upsample
from lapgan.recipe import Recipe
from lapgan.sizes import Size, check_sizes, size_text

__all__ = [
    "EntropyConfig",
    "EntropyReport",
    "LevelEntropy",
    "byte_pyramid",
    "measure_entropy",
    "recipe_noise_bits",
]

# Training images beyond this many bytes are left out: minutes of training use no more.
TRAIN_BYTES = 2**29
LEAST_TRAIN, LEAST_TEST = 16, 2
CHUNK = 512


@dataclass(frozen=True)
class EntropyConfig:
    """The settings that determine the values, together with the images.

    Args:
        sizes: the size of every level, finest first.
        operator: which d(.) and u(.), by name.
        minutes: CPU minutes of training for the finest level; each coarser one gets half as many,
            but none less than a quarter.
        n: how many test images, drawn by the seed.
        seed: of training and of the draw.
        crop: crop each image to the finest size, at one of its corners, each in turn.
        noise_bits: H[z_k] by level in bits per pixel, finest first; empty without a recipe.
    """

    sizes: tuple[Size, ...]
    operator: Operator = "block-mean"
    minutes: float = 4.0
    n: int = 1000
    seed: int = 0
    crop: bool = False
    noise_bits: tuple[float, ...] = ()

    @classmethod
    def of_recipe(cls, recipe: Recipe, minutes: float, n: int, seed: int) -> "EntropyConfig":
        """Returns the settings for a recipe's pyramid, crops and noise."""
        return cls(
            tuple(recipe.sizes),
            recipe.pyramid.operator,
            minutes,
            n,
            seed,
            crop=recipe.data.crop == "corners",
            noise_bits=recipe_noise_bits(recipe),
        )

    def level_minutes(self, k: int) -> float:
        """Returns the minutes of training for level k."""
        return self.minutes / min(1 << k, 4)


@dataclass(frozen=True)
class LevelEntropy:
    """Upper bounds of H[I_k | I_{k+1}], or of H[I_K] at the coarsest level, in bits per pixel.

    Args:
        size: height and width of the level.
        given: those of the next coarser level; None at the coarsest.
        learned: mean over test images of -log2 of the learned density.
        standard_error: of that mean.
        standard: what the best standard coder needs for the same images.
        coder: its name.
        n: how many test images.
        minutes: CPU minutes of training.
        seed: of training.
        noise: H[z_k] of the recipe's noise; None without a recipe.
        white: of images of independent uniform bytes, see `white_noise_bits`.
    """

    size: Size
    given: Size | None
    learned: float
    standard_error: float
    standard: float
    coder: str
    n: int
    minutes: float
    seed: int
    noise: float | None
    white: float | None = None

    @property
    def bits(self) -> float:
        """The smaller of the two bounds, in bits per pixel."""
        return min(self.learned, self.standard)

    @property
    def bits_per_dimension(self) -> float:
        """The smaller of the two bounds, in bits per color value."""
        return self.bits / 3

    @property
    def unused(self) -> float | None:
        """1 - bound / H[z_k]: at least this fraction of the noise exceeds what the images need."""
        return None if self.noise is None else 1 - self.bits / self.noise

    @property
    def name(self) -> str:
        """The entropy as it is written: H[96 | 48]."""
        given = "" if self.given is None else f" | {_side_text(self.given)}"
        return f"H[{_side_text(self.size)}{given}]"


@dataclass(frozen=True)
class EntropyReport:
    """The bounds of all levels, and their sum.

    Args:
        data: names and fingerprints of the images.
        settings: the other settings.
        levels: finest first.
    """

    data: dict[str, str]
    settings: EntropyConfig
    levels: tuple[LevelEntropy, ...]

    @property
    def total(self) -> float:
        """The bound of H[I_0] by the chain rule, in bits per pixel of I_0."""
        return self._sum([level.bits for level in self.levels])

    @property
    def standard_error(self) -> float:
        """An upper limit of the total's: errors of levels add up if they are fully correlated."""
        return self._sum([level.standard_error for level in self.levels])

    def _sum(self, values: Sequence[float]) -> float:
        areas = [level.size[0] * level.size[1] for level in self.levels]
        return sum(v * area for v, area in zip(values, areas, strict=True)) / areas[0]

    def as_json(self) -> dict[str, Any]:
        """Returns the report as plain data, with all that is needed to repeat it."""
        derived = [
            asdict(level)
            | {"bits_per_dimension": level.bits_per_dimension, "unused_noise": level.unused}
            for level in self.levels
        ]
        return {
            "unit": "bits per pixel",
            "data": self.data,
            "settings": asdict(self.settings),
            "levels": derived,
            "total": {"value": self.total, "standard_error_at_most": self.standard_error},
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        }


def measure_entropy(
    train: Images, test: Images, settings: EntropyConfig, out: Path | None = None
) -> EntropyReport:
    """Bounds the conditional entropies of all levels, coarsest first.

    Args:
        train: images to train the densities on.
        test: images of the same kind, none of them among `train`.
        settings: levels, operator, time and seed.
        out: a JSON file, written after each level; levels that it already has are not measured
            again.

    Raises:
        LapganError: sizes do not fit the images, there are too few of them, or `out` holds another
            report.
    """
    check_sizes(settings.sizes)
    for images, least in ((train, LEAST_TRAIN), (test, LEAST_TEST)):
        _check_images(images, settings, least)
    data = {
        "train": train.name,
        "test": test.name,
        "train_fingerprint": train.fingerprint,
        "test_fingerprint": test.fingerprint,
    }
    report = EntropyReport(data, settings, _levels_done(out, data, settings))
    count = len(settings.sizes)
    if len(report.levels) == count:
        return report
    most_train = TRAIN_BYTES // (3 * settings.sizes[0][0] * settings.sizes[0][1])
    train_pyramid, test_pyramid = (
        byte_pyramid(_draw_images(images, most, settings), settings.sizes, settings.operator)
        for images, most in ((train, most_train), (test, settings.n))
    )
    for k in reversed(range(count - len(report.levels))):
        level = _measure_level(_level(train_pyramid, k), _level(test_pyramid, k), settings, k)
        report = EntropyReport(data, settings, (level, *report.levels))
        if out is not None:
            write_json(out, report.as_json())
    return report


def byte_pyramid(
    images: UInt8[Tensor, "n 3 h w"], sizes: Sequence[Size], operator: Operator
) -> list[Tensor]:
    """Returns [I_0, ..., I_K] as uint8, with I_{k+1} = floor(d(I_k) + 1/2) clipped to bytes."""
    pyramid = [images]
    for size in sizes[1:]:
        chunks = tracked(torch.split(pyramid[-1], CHUNK), f"pyramid {size_text(size)}")
        pyramid.append(
            torch.cat([_round_to_bytes(downsample(x.float(), size, operator)) for x in chunks])
        )
    return pyramid


def recipe_noise_bits(recipe: Recipe) -> tuple[float, ...]:
    """Returns H[z_k] of every level in bits per pixel, finest first."""
    return tuple(
        level.noise.entropy(level.size) / (level.size[0] * level.size[1]) for level in recipe.levels
    )


def _measure_level(
    train: LevelImages, test: LevelImages, settings: EntropyConfig, k: int
) -> LevelEntropy:
    minutes = settings.level_minutes(k)
    pixels = test.size[0] * test.size[1]
    white = white_noise_bits(settings.sizes, settings.operator)
    code = best_code(_to_code(test, settings.operator))
    bits = image_bits(train_density(train, minutes, settings.seed), test) / pixels
    return LevelEntropy(
        size=test.size,
        given=settings.sizes[k + 1] if test.coarse is not None else None,
        learned=bits.mean().item(),
        standard_error=bits.std().item() / len(test) ** 0.5,
        standard=code.bits / (len(test) * pixels),
        coder=code.coder,
        n=len(test),
        minutes=minutes,
        seed=settings.seed,
        noise=settings.noise_bits[k] if settings.noise_bits else None,
        white=None if white is None else white[k],
    )


def _to_code(level: LevelImages, operator: Operator) -> Tensor:
    if level.coarse is None:
        return level.fine
    low = _round_to_bytes(upsample(level.coarse.float(), level.size, operator))
    return residual_values(level.fine, low)


def _level(pyramid: Sequence[Tensor], k: int) -> LevelImages:
    return LevelImages(pyramid[k], pyramid[k + 1] if k + 1 < len(pyramid) else None)


def _round_to_bytes(x: Tensor) -> Tensor:
    return (x + 0.5).floor().clamp(0, 255).byte()


def _draw_images(images: Images, most: int, settings: EntropyConfig) -> Tensor:
    """Draws up to `most` images, cropped to the finest size if the settings say so."""
    order = np.random.default_rng(settings.seed).permutation(len(images))[:most]
    chosen = np.sort(order)
    if not settings.crop:
        return torch.from_numpy(images.pixels[chosen])
    corners = np.arange(len(chosen)) % 4
    return torch.from_numpy(corner_crops(images, chosen, corners, settings.sizes[0]))


def _check_images(images: Images, settings: EntropyConfig, least: int) -> None:
    size, finest = images.size, settings.sizes[0]
    if settings.crop and (size[0] < finest[0] or size[1] < finest[1]):
        raise LapganError(
            f"{images.name}: images are {size_text(size)}, too small to crop to "
            f"{size_text(finest)}."
        )
    if not settings.crop and tuple(size) != tuple(finest):
        raise LapganError(
            f"{images.name}: images are {size_text(size)}, but the finest level is "
            f"{size_text(finest)}; begin the sizes with {size_text(size)}."
        )
    if len(images) < least:
        raise LapganError(
            f"{images.name}: {len(images)} images are too few; the entropy needs at least "
            f"{LEAST_TRAIN} to train on and {LEAST_TEST} to test with."
        )


def _levels_done(
    out: Path | None, data: dict[str, str], settings: EntropyConfig
) -> tuple[LevelEntropy, ...]:
    if out is None or not out.exists():
        return ()
    try:
        report = json.loads(out.read_text(encoding="utf-8"))
        same = report["data"] == data and report["settings"] == json.loads(
            json.dumps(asdict(settings))
        )
        levels = tuple(_level_of_json(level) for level in report["levels"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LapganError(
            f"{out}: this file exists and is not an entropy report ({error}); choose another --out."
        ) from None
    if not same:
        raise LapganError(
            f"{out}: holds a report of other images or settings; remove it or choose another --out."
        )
    return levels


def _level_of_json(level: dict[str, Any]) -> LevelEntropy:
    # Reports of before have no white noise.
    fields = {"white": None} | level
    fields = {name: fields[name] for name in LevelEntropy.__dataclass_fields__}
    fields["size"] = tuple(fields["size"])
    fields["given"] = None if fields["given"] is None else tuple(fields["given"])
    return LevelEntropy(**fields)


def _side_text(size: Size) -> str:
    """Returns a size as entropies are written: 28 for squares, 28x14 for others."""
    return str(size[0]) if size[0] == size[1] else size_text(size)
