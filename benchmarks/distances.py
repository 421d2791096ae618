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
from lapgan.evaluation.distances import kernel_distance, measure
from lapgan.evaluation.features import Extractor, extract_features, load_extractor
from lapgan.evaluation.lite0 import Lite0, pretrained_net
from lapgan.evaluation.real import real_crops


class Lite0At224(Lite0):
    """The extractor at the size that its net was trained at."""

    INPUT_IMAGE_SIZE = 224


def jpeg(images: Tensor, quality: int) -> Tensor:
    def coded(image: Tensor) -> Tensor:
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)

    return torch.stack([coded(image) for image in images])


def sets(data: str, n: int, seed: int) -> dict[str, Tensor]:
    train, test = open_images(data, split="train"), open_images(data, split="test")
    random = np.random.default_rng(seed)
    chosen = random.choice(len(train), 2 * n, replace=False)
    real = real_crops(train, chosen[:n])
    held_out = real_crops(test, random.choice(len(test), n, replace=False))
    noise = torch.from_numpy(random.integers(0, 256, tuple(real.shape), np.uint8))
    return {
        "the same images": real,
        "other training images": real_crops(train, chosen[n:]),
        "test images": held_out,
        "test, JPEG quality 50": jpeg(held_out, 50),
        "test, blurred (sigma 1 pixel)": gaussian_blur(held_out, [7, 7], [1.0, 1.0]),
        "uniform noise": noise,
    }


def images_a_second(side: int, fuse: bool, images: Tensor) -> float:
    """The better of two runs, which is the one that other work disturbed less."""
    extractor = Lite0("speed", ["1280"]) if side == 128 else Lite0At224("speed", ["1280"])
    if not fuse:
        extractor.net = pretrained_net(side)
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
        plain, fast = (images_a_second(side, fuse, images) for fuse in (False, True))
        print(f"{side} pixels: as published {plain:.1f}, fused {fast:.1f} ({fast / plain:.1f}x)")


def print_table(compared: dict[str, Tensor], extractor: Extractor, seed: int) -> None:
    real = extract_features(compared["the same images"], extractor)
    for name, images in compared.items():
        start = time.perf_counter()
        fake = real if name == "the same images" else extract_features(images, extractor)
        middle = time.perf_counter()
        distances = measure(real, fake, seed=seed)
        if name == "the same images":
            print("| training images against | " + " | ".join(d.name for d in distances) + " | s |")
        cells = [f"{d.value:.4f} ± {d.error:.4f}" for d in distances]
        seconds = f"{middle - start:.0f} + {time.perf_counter() - middle:.0f}"
        print(f"| {name} | " + " | ".join(cells) + f" | {seconds} |", flush=True)


def print_order(compared: dict[str, Tensor], seed: int) -> None:
    at_224 = Extractor("lite0", "224", Lite0At224("lite0-224", ["1280"]).eval())
    nets = {"128": load_extractor(), "224": at_224}
    real = {side: extract_features(compared["the same images"], net) for side, net in nets.items()}
    print("| training images against | kernel distance at 128 pixels | at 224 |")
    for name, images in list(compared.items())[1:]:
        found = [kernel_distance(real[side], extract_features(images, net), seed)
                 for side, net in nets.items()]  # fmt: skip
        print(f"| {name} | " + " | ".join(f"{d.value:.4f} ± {d.error:.4f}" for d in found) + " |",
              flush=True)  # fmt: skip


def main(
    data: Annotated[str, typer.Option()] = "cifar10",
    n: Annotated[int, typer.Option(min=1281)] = 1500,
    small: Annotated[int, typer.Option(min=16)] = 200,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    compared = sets(data, n, seed)
    print_speed(compared["the same images"][:96])
    print(f"\nn = {n} a set, seed {seed}; seconds for features + scores")
    print_table(compared, load_extractor(), seed)
    print(f"\nn = {small} a set")
    print_order({name: images[:small] for name, images in compared.items()}, seed)


if __name__ == "__main__":
    typer.run(main)
