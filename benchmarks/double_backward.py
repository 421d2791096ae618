"""The exact gradient penalty and its gradients: our convolutions against PyTorch's own.

    python benchmarks/double_backward.py [--recipe cifar10-cc] [--batch 64] [--device auto]

For each level of the recipe, of examples that are noise: the time of the penalty and of its
gradients by the weights of D, the median of some rounds, by turns. "difference" is that of all
gradients together, relative to their norm.
"""

import statistics
import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from lapgan import penalty
from lapgan.compute import choose_compute
from lapgan.double_backward import differentiable_gradients
from lapgan.recipe import read_recipe

Maps = tuple[Tensor, ...]
Gradients = Callable[[Callable[[Maps], Tensor], Maps], Maps]


def plain_gradients(function: Callable[[Maps], Tensor], x: Maps) -> Maps:
    return torch.autograd.grad(function(x).sum(), x, create_graph=True)


def measure(net: nn.Module, maps: Maps, gradients: Gradients) -> tuple[float, Tensor]:
    """Returns seconds, and all gradients by the weights as one vector."""
    penalty.differentiable_gradients = gradients  # type: ignore[assignment]
    net.zero_grad()
    _wait()
    start = time.perf_counter()
    penalty.exact_penalty(lambda maps: net.head(maps, None), maps).backward()  # type: ignore[operator]
    _wait()
    seconds = time.perf_counter() - start
    found = [p.grad.flatten() for p in net.parameters() if p.grad is not None]
    return seconds, torch.cat(found)


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def main(
    recipe: Annotated[str, typer.Option()] = "cifar10-cc",
    batch: Annotated[int, typer.Option(min=8, help="Real and generated examples.")] = 64,
    device: Annotated[str, typer.Option()] = "auto",
    rounds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    chosen, compute = read_recipe(recipe), choose_compute(device)
    print(f"{recipe}, {batch} examples, {compute}, torch {torch.__version__}")
    print(f"{'level':>6} {'PyTorch':>9} {'ours':>9} {'ratio':>6} {'difference':>10}   (seconds)")
    for level in chosen.levels:
        torch.manual_seed(0)
        net = compute.place(level.build_discriminator(0))
        examples = torch.randn(2, batch, 3, *level.size, device=compute.device)
        low = None if level is chosen.levels[-1] else examples[1]
        with torch.no_grad():
            # The last convolution of a block starts at zero.
            for weight in net.parameters():
                weight += 0.02 * torch.randn_like(weight)
            maps = net.features(examples[0], low)  # type: ignore[operator]
        times: dict[Gradients, list[float]] = {plain_gradients: [], differentiable_gradients: []}
        found = {}
        with compute.autocast():
            for _ in range(rounds + 1):
                for gradients, seconds in times.items():
                    elapsed, found[gradients] = measure(net, maps, gradients)
                    seconds.append(elapsed)
        slow, fast = (statistics.median(seconds[1:]) for seconds in times.values())
        one, other = found.values()
        difference = (one - other).norm() / one.norm()
        print(f"{level.name:>6} {slow:9.3f} {fast:9.3f} {slow / fast:6.1f} {difference:10.1e}")


if __name__ == "__main__":
    typer.run(main)
