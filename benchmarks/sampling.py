"""Sampling speed and memory: images a second for many samples, and peak memory for few and many.

    python benchmarks/sampling.py [--recipe paper-cifar10] [--n 10000] [--peer ddpm]

Weights are random, which costs the same. Each count runs in a process of its own, which writes an
npz archive as `lapgan sample` does and reports its peak resident size; the smaller one also with
freed memory given back to the system (`lapgan.allocator`). A peer (`peers.py`) makes
512 images at once, in this process.
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
import lapgan.compute
from lapgan.cascade import Cascade
from lapgan.sampling import Draw, write_images
if sys.argv[4] == "given back":
    lapgan.compute.keep_freed_memory = lambda: None
cascade = Cascade.load(sys.argv[1])
cascade.sample(64)
start = time.perf_counter()
write_images(Draw(cascade, int(sys.argv[3])), Path(sys.argv[2]))
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def random_cascade(recipe: str, path: Path) -> None:
    from lapgan.cascade import Cascade, Level
    from lapgan.normalization import symmetric_normalization
    from lapgan.recipe import read_recipe

    chosen = read_recipe(recipe)
    names = tuple("abcdefghij") if chosen.data.classes else ()
    levels = [
        Level(size, chosen.level(k).noise.build(),
              chosen.level(k).build_generator(size, len(names)))
        for k, size in enumerate(chosen.sizes)
    ]  # fmt: skip
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
        for count, freed in ((n // 10, "given back"), (n // 10, "kept"), (n, "kept")):
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
