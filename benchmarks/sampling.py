"""Sampling speed and memory: images per second for many samples, peak memory for few and many.

    python benchmarks/sampling.py [--recipe paper-cifar10] [--n 10000] [--peer ddpm]

Weights are random, which costs the same. Each count runs in a process of its own, which writes an
npz archive as `lapgan sample` does and reports its peak resident size; the smaller one also with
freed memory returned to the system (`lapgan.allocator`). A peer (`peers.py`) generates 512 images
at once, in this process.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

_PEER_IMAGES = 512
COUNT = """
import resource, sys, time
from pathlib import Path
from lapgan.allocator import keep_freed_memory
from lapgan.cascade import Cascade
from lapgan.writing import write_images
if sys.argv[4] == "kept":
    keep_freed_memory()
cascade = Cascade.load(sys.argv[1])
cascade.sample(64)
start = time.perf_counter()
write_images(cascade, Path(sys.argv[2]), int(sys.argv[3]))
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def random_cascade(recipe: str, path: Path) -> None:
    from lapgan.cascade import Cascade, Level
    from lapgan.normalization import symmetric_normalization
    from lapgan.recipe import read_recipe

    chosen = read_recipe(recipe)
    names = tuple("abcdefghij") if chosen.data.classes else ()
    levels = [
        Level(level.size, level.noise, level.build_generator(len(names))) for level in chosen.levels
    ]
    Cascade(chosen, levels, symmetric_normalization(chosen.sizes[0]), names).save(path)


def peer_speed(name: str) -> float:
    import torch
    from peers import PEERS, sample_peer

    from lapgan.compute import choose_compute

    torch.manual_seed(0)
    peer = PEERS[name](choose_compute())
    start = time.perf_counter()
    sample_peer(peer, _PEER_IMAGES, 0)
    return _PEER_IMAGES / (time.perf_counter() - start)


def main(
    recipe: Annotated[str, typer.Option()] = "paper-cifar10",
    n: Annotated[int, typer.Option(min=1000)] = 10_000,
    peer: Annotated[str | None, typer.Option()] = None,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cascade.safetensors"
        random_cascade(recipe, path)
        print(f"{recipe}\n{'images':>7} {'freed memory':>13} {'images/s':>9} {'peak MiB':>9}")
        for count, freed in ((n // 10, "returned"), (n // 10, "kept"), (n, "kept")):
            command = [
                sys.executable, "-c", COUNT, path, Path(folder) / "x.npz", str(count), freed,
            ]  # fmt: skip
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds, memory = map(float, output.split())
            print(f"{count:7} {freed:>13} {count / seconds:9.0f} {memory:9.0f}")
    if peer is not None:
        print(f"{peer}\n{_PEER_IMAGES:7} {peer_speed(peer):9.1f}")


if __name__ == "__main__":
    typer.run(main)
