"""Milliseconds of the operations of patch nets: by PyTorch's own way, and by ours.

    OMP_NUM_THREADS=1 python benchmarks/patch_operations.py [--batch 32]

The two take turns in one run. The first two lines are a forward and a backward pass in the
precision that training chooses here, with maps as `cifar10-cc-small` has them; the second has the
activation before and after D's maps are laid out flat.
"""

import statistics
import time
from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

from lapgan.compute import choose_compute
from lapgan.models.heads import activate_flat
from lapgan.models.patch import _conv2x2
from lapgan.training.level import _mean_std
from lapgan.training.update import _draw_normal_like

_RUNS = 30
_Action = Callable[[], object]


def milliseconds(actions: tuple[_Action, _Action]) -> list[float]:
    """Returns the median time of each action."""
    times: tuple[list[float], list[float]] = ([], [])
    for run in range(_RUNS + 3):
        for action, kept in zip(actions, times, strict=True):
            start = time.perf_counter()
            action()
            if run >= 3:
                kept.append(1000 * (time.perf_counter() - start))
    return [statistics.median(kept) for kept in times]


def pass_through(
    function: Callable[[Tensor], Tensor], x: Tensor, parameters: list[nn.Parameter]
) -> _Action:
    """Returns an action: a forward and a backward pass in the precision of training."""
    compute = choose_compute()
    gradient: Tensor | None = None

    def run() -> None:
        nonlocal gradient
        with compute.autocast():
            y = function(x)
        if gradient is None:
            gradient = torch.ones_like(y)
        torch.autograd.grad(y, [x, *parameters], gradient)

    return run


def laid_out(maps: Tensor) -> Tensor:
    """Returns maps as they are in training."""
    maps = maps.to(choose_compute().dtype, memory_format=torch.channels_last)
    return maps.requires_grad_()


def strided_convolutions(maps: Tensor, conv: nn.Conv2d) -> tuple[_Action, _Action]:
    """Returns a convolution with stride 2 by PyTorch, and the same as a matrix product."""
    maps = laid_out(maps)
    parameters = list(conv.to(memory_format=torch.channels_last).parameters())

    def product(x: Tensor) -> Tensor:
        return _conv2x2(x.permute(0, 2, 3, 1), conv).permute(0, 3, 1, 2)

    return pass_through(conv, maps, parameters), pass_through(product, maps, parameters)


def activations(maps: Tensor) -> tuple[_Action, _Action]:
    """Returns an activation before and after maps are laid out flat."""
    maps = laid_out(maps)
    return (
        pass_through(lambda x: F.leaky_relu(x, 0.2).flatten(1), maps, []),
        pass_through(lambda x: activate_flat(x, 0.2), maps, []),
    )


def main(batch: Annotated[int, typer.Option(min=8)] = 32) -> None:
    """Prints a line per operation."""
    grid, fine = torch.randn(batch, 128, 8, 8), torch.randn(batch, 12, 16, 16)
    channels_last = fine.to(memory_format=torch.channels_last)
    image = torch.randn(batch, 3, 32, 32)
    comparisons = {
        "2x2 with stride 2, 128 to 256 maps": strided_convolutions(
            grid, nn.Conv2d(128, 256, 2, stride=2)
        ),
        "activation of D's last maps": activations(torch.randn(batch, 256, 4, 4)),
        "instance noise, 12 maps of 16x16": (
            lambda: torch.randn_like(channels_last),
            lambda: _draw_normal_like(channels_last),
        ),
        "standard deviation, 32x32": (lambda: image.std(dim=0), lambda: _mean_std(image)),
    }
    print(f"batch {batch}, {choose_compute()}, torch {torch.__version__}")
    for name, actions in comparisons.items():
        theirs, ours = milliseconds(actions)
        ratio = theirs / ours
        print(f"{name}: PyTorch {theirs:.2f} ms, ours {ours:.2f} ms, {ratio:.1f} times as fast")


if __name__ == "__main__":
    typer.run(main)
