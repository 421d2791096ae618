"""The manifest beside exported graphs: what a program needs to feed them and to read images."""

from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from lapgan.cascade import Cascade, Level
from lapgan.noise import AnyNoise, MixedNoise, PlaneNoise, is_vector
from lapgan.normalization import Normalization
from lapgan.sizes import Size
from lapgan.weights import generator_tensors, pretrained_names, tensors_digest

__all__ = ["FORMAT", "describe_cascade", "describe_noise"]

FORMAT = "lapgan-onnx 1"


def describe_cascade(cascade: Cascade, model: str) -> dict[str, Any]:
    """Describes a cascade in terms of JSON.

    Args:
        cascade: what was exported.
        model: its name, for people.

    Returns:
        `format`, `model`, `description`, `license` (None where it is not known), `lapgan` and
        `torch` (versions), `sha256` of the generators, `operator`, `classes`, `classifier` (with
        the `level` that it judges, or None), and `levels`, coarsest first. A level has `name`,
        `size`, `noise`, `sigma` of its conditioning noise or None, and `mean` and `std` with
        pixel = clip(round(mean + std x), 0, 255): one number each,
        or a list of 3 h w where they differ per pixel.
    """
    names = cascade.recipe.level_names
    levels = [
        _describe_level(name, level, cascade.normalization)
        for name, level in zip(names, cascade.levels, strict=True)
    ]
    tensors: dict[str, Tensor] = {}
    for name, level in zip(names, cascade.levels, strict=True):
        tensors |= generator_tensors(name, level.generator)
    tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
    return {
        "format": FORMAT,
        "model": model,
        "description": cascade.recipe.description,
        "license": "MIT" if model in pretrained_names() else None,
        "lapgan": version("lapgan"),
        "torch": torch.__version__,
        "sha256": tensors_digest("", tensors),
        "operator": cascade.operator,
        "classes": list(cascade.class_names),
        "classifier": cascade.guide and {"level": cascade.guide.section.level},
        "levels": levels[::-1],
    }


def _describe_level(name: str, level: Level, normalization: Normalization) -> dict[str, Any]:
    mean, std = normalization.at(level.size)
    return {
        "name": name,
        "size": list(level.size),
        "noise": describe_noise(level.noise, level.size),
        "sigma": level.sigma,
        "mean": _shorten(mean),
        "std": _shorten(std),
    }


def describe_noise(noise: AnyNoise, size: Size) -> dict[str, Any]:
    """Returns kind, shape, and distribution, which is None where values depend on each other."""
    distribution = None
    if isinstance(noise, MixedNoise):
        distribution = "normal"
    elif isinstance(noise, PlaneNoise) or is_vector(noise):
        distribution = noise.distribution
    shape = noise.sample(1, size, torch.Generator()).shape[1:]
    return {"kind": noise.kind, "shape": list(shape), "distribution": distribution}


def _shorten(plane: Tensor) -> float | list[float]:
    first = float(plane.flatten()[0])
    return first if bool((plane == first).all()) else plane.flatten().tolist()
