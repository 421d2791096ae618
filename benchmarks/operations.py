"""Operations per second that training reaches, beside those of a matrix product.

    python benchmarks/operations.py [--recipe cifar10-cc-small] [--steps 40]

Operations are those of matrix products and convolutions, forwards and backwards, as
torch.utils.flop_counter counts them (a multiplication and an addition are two) over `steps` steps.
As many steps are then timed without the counter. All else that they do takes time and is not
counted.
"""

import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from torch.utils.flop_counter import FlopCounterMode
from training import noise_task

from lapgan.compute import choose_compute
from lapgan.recipe import read_recipe

_SIDE = 1536


def seconds_of(action: Callable[[], object], times: int) -> float:
    action()
    start = time.perf_counter()
    for _ in range(times):
        action()
    return time.perf_counter() - start


def main(
    recipe: Annotated[str, typer.Option()] = "cifar10-cc-small",
    steps: Annotated[int, typer.Option(min=4)] = 40,
) -> None:
    chosen, compute = read_recipe(recipe), choose_compute()
    a, b = torch.randn(_SIDE, _SIDE), torch.randn(_SIDE, _SIDE)
    product = 10 * 2 * _SIDE**3 / seconds_of(lambda: a @ b, 10)
    print(f"{recipe}, batch {chosen.training.batch}, {compute}, torch {torch.__version__}")
    print(f"float32 matrix product: {product / 1e9:.0f} GFLOP/s")
    print(f"{'level':>6} {'MFLOP/image':>12} {'images/s':>9} {'GFLOP/s':>8} {'of product':>11}")
    for level in chosen.levels:
        task = noise_task(chosen, level, compute)
        state = task.initial_state()
        with FlopCounterMode(display=False) as counter:
            for _ in range(steps):
                task.step(state)
        images = steps * chosen.training.batch
        operations = counter.get_total_flops() / images
        seconds = seconds_of(lambda: task.step(state), steps)  # noqa: B023
        speed = images / seconds
        rate = operations * speed
        figures = f"{speed:9.0f} {rate / 1e9:8.0f} {rate / product:11.0%}"
        print(f"{level.name:>6} {operations / 1e6:12.0f} {figures}")


if __name__ == "__main__":
    typer.run(main)
