"""Parzen log-densities: ours against scikit-learn's KernelDensity and a plain torch.cdist.

    python benchmarks/parzen.py [--samples 10000] [--images 2000] [--dimension 3072]

Each runs in a process of its own, on the same random numbers. Memory is by how much the peak
resident size while the method runs exceeds what was resident before, when its inputs were there and
its libraries warm (Linux only).
"""

import math
import multiprocessing
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from lapgan.evaluation.metrics.parzen import parzen_log_density

SIGMA = 0.77
Method = Callable[[Tensor, Tensor], Tensor]


def ours(x: Tensor, samples: Tensor) -> Tensor:
    return parzen_log_density(x, samples, SIGMA)


def plain_cdist(x: Tensor, samples: Tensor) -> Tensor:
    exponents = -torch.cdist(x, samples).square() / (2 * SIGMA**2)
    m, d = samples.shape
    return exponents.logsumexp(dim=1) - math.log(m) - d / 2 * math.log(2 * math.pi * SIGMA**2)


def scikit_learn(x: Tensor, samples: Tensor) -> Tensor:
    """KernelDensity with one leaf; the bounds of its default tree cancel in many dimensions."""
    from sklearn.neighbors import KernelDensity

    density = KernelDensity(bandwidth=SIGMA, leaf_size=len(samples))
    density.fit(samples.double().numpy())
    return torch.from_numpy(density.score_samples(x.double().numpy()))


METHODS: tuple[Method, ...] = (ours, plain_cdist, scikit_learn)


def measure(method: Method, sizes: tuple[int, int, int], runs: int) -> tuple[float, float, Tensor]:
    """Returns seconds (the best run's), MiB, and the log-densities."""
    m, n, d = sizes
    generator = torch.Generator().manual_seed(0)
    # Clustered as images are: the nearest samples decide.
    centers = torch.randn(m, d, generator=generator)
    x = centers[torch.randint(m, (n,), generator=generator)]
    x = x + 0.7 * torch.randn(n, d, generator=generator)
    method(x[:16], centers[:64])
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _memory("VmRSS")
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        values = method(x, centers)
        seconds.append(time.perf_counter() - start)
    return min(seconds), _memory("VmHWM") - before, values


def _memory(what: str) -> float:
    """Returns a figure of this process in MiB."""
    line = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert line
    return int(line[1]) / 1024


def main(
    samples: Annotated[int, typer.Option(min=1)] = 10_000,
    images: Annotated[int, typer.Option(min=1)] = 2_000,
    dimension: Annotated[int, typer.Option(min=1)] = 3_072,
) -> None:
    sizes = (samples, images, dimension)
    print(f"{samples} samples, {images} images, {dimension} dimensions, "
          f"{torch.get_num_threads()} threads")  # fmt: skip
    spawn = multiprocessing.get_context("spawn")
    exact: Tensor | None = None
    first = 0.0
    for method in METHODS:
        with spawn.Pool(1) as pool:
            runs = 3 if method in (ours, plain_cdist) else 1
            seconds, memory, values = pool.apply(measure, (method, sizes, runs))
        first = first or seconds
        exact = values if exact is None else exact
        apart = ((values - exact) / exact).abs().max().item()
        print(f"{method.__name__:22} {seconds:8.2f} s  {seconds / first:6.1f} x  {memory:7.0f} MiB"
              f"  furthest from ours {apart:.1e}", flush=True)  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
