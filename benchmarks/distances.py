"""What the distances say about degraded images, and how fast the extractor is.

    LAPGAN_DATA=... python benchmarks/distances.py [--data cifar10] [--n 1500] [--small 200]

Compares training images with themselves, with other training images, with test images and with
degraded copies of the test images. The order is checked at 224 pixels too, by the kernel distance
on fewer images.
"""

import io
import time
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from lapgan.data import open_images
from lapgan.evaluation.features.extract import (
    Extractor,
    Features,
    extract_features,
    load_extractor,
)
from lapgan.evaluation.features.lite0 import Lite0
from lapgan.evaluation.measurement import Estimate
from lapgan.evaluation.metrics import density_coverage, frechet, kernel, precision_recall
from lapgan.evaluation.metrics.feature_scores import name_score
from lapgan.evaluation.real import read_crops
from lapgan.models.efficientnet import load_unfolded

SCORES = [module.SCORE for module in (frechet, kernel, precision_recall, density_coverage)]


class Lite0At224(Lite0):
    """The extractor at the size that its net was trained at."""

    INPUT_IMAGE_SIZE = 224


def jpeg(images: Tensor, quality: int) -> Tensor:
    def encode(image: Tensor) -> Tensor:
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)

    return torch.stack([encode(image) for image in images])


def sets(data: str, n: int, seed: int) -> dict[str, Tensor]:
    train, test = open_images(data, split="train"), open_images(data, split="test")
    random = np.random.default_rng(seed)
    chosen = random.choice(len(train), 2 * n, replace=False)
    real = read_crops(train, chosen[:n])
    held_out = read_crops(test, random.choice(len(test), n, replace=False))
    noise = torch.from_numpy(random.integers(0, 256, tuple(real.shape), np.uint8))
    return {
        "the same images": real,
        "other training images": read_crops(train, chosen[n:]),
        "test images": held_out,
        "test, JPEG quality 50": jpeg(held_out, 50),
        "test, blurred (sigma 1 pixel)": gaussian_blur(held_out, [7, 7], [1.0, 1.0]),
        "uniform noise": noise,
    }


def images_per_second(side: int, fuse: bool, images: Tensor) -> float:
    """The better of two runs, which is the one that other work disturbed less."""
    extractor = Lite0("speed", ["1280"]) if side == 128 else Lite0At224("speed", ["1280"])
    if not fuse:
        extractor.net = load_unfolded("efficientnet-lite0", side)
    seconds = []
    with torch.inference_mode():
        for _ in range(3):
            start = time.perf_counter()
            for batch in images.split(16):
                extractor(batch)
            seconds.append(time.perf_counter() - start)
    return len(images) / min(seconds[1:])


def print_speed(images: Tensor) -> None:
    print(f"images/s, {torch.get_num_threads()} threads")
    for side in (128, 224):
        plain, fast = (images_per_second(side, fuse, images) for fuse in (False, True))
        print(f"{side} pixels: as published {plain:.1f}, fused {fast:.1f} ({fast / plain:.1f}x)")


def measure(real: Features, fake: Features, seed: int) -> dict[str, Estimate]:
    return {
        name_score(name, fake.extractor): estimate
        for score in SCORES
        for name, estimate in score.compute(real, fake, seed).items()
    }


def print_table(compared: dict[str, Tensor], extractor: Extractor, seed: int) -> None:
    real = extract_features(compared["the same images"], extractor)
    for name, images in compared.items():
        start = time.perf_counter()
        fake = real if name == "the same images" else extract_features(images, extractor)
        middle = time.perf_counter()
        estimates = measure(real, fake, seed)
        if name == "the same images":
            print("| training images against | " + " | ".join(estimates) + " | s |")
        cells = [f"{d.value:.4f} ± {d.error:.4f}" for d in estimates.values()]
        seconds = f"{middle - start:.0f} + {time.perf_counter() - middle:.0f}"
        print(f"| {name} | " + " | ".join(cells) + f" | {seconds} |", flush=True)


def print_order(compared: dict[str, Tensor], seed: int) -> None:
    at_224 = Extractor("lite0", "224", Lite0At224("lite0-224", ["1280"]).eval())
    nets = {"128": load_extractor(), "224": at_224}
    real = {side: extract_features(compared["the same images"], net) for side, net in nets.items()}
    print("| training images against | kernel distance at 128 pixels | at 224 |")
    for name, images in list(compared.items())[1:]:
        estimates = [
            kernel.kernel_distance(real[side], extract_features(images, net), seed)
            for side, net in nets.items()
        ]
        cells = [f"{d.value:.4f} ± {d.error:.4f}" for d in estimates]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main(
    data: Annotated[str, typer.Option()] = "cifar10",
    n: Annotated[int, typer.Option(min=1281)] = 1500,
    small: Annotated[int, typer.Option(min=16)] = 200,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    compared = sets(data, n, seed)
    print_speed(compared["the same images"][:96])
    print(f"\nn = {n} per set, seed {seed}; seconds for features + scores")
    print_table(compared, load_extractor(), seed)
    print(f"\nn = {small} per set")
    print_order({name: images[:small] for name, images in compared.items()}, seed)


if __name__ == "__main__":
    typer.run(main)
