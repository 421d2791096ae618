"""Milliseconds of processor time of group normalization in training, PyTorch's and ours.

    OMP_NUM_THREADS=1 python benchmarks/group_norm.py

One forward and one backward pass over maps as the residual nets have them: bfloat16, channels last.
"""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lapgan.models.group_norm import normalize_groups

_GROUPS, _RUNS = 16, 20


def milliseconds(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Returns the mean time of a forward and a backward pass."""
    x = x.clone().requires_grad_()
    gradient = torch.ones_like(x)
    for run in range(_RUNS + 3):
        if run == 3:
            start = time.process_time()
        torch.autograd.grad(function(x), x, gradient)
    return 1000 * (time.process_time() - start) / _RUNS


def main() -> None:
    """Prints a line per shape."""
    for shape in ((64, 16, 32, 32), (64, 64, 16, 16), (64, 96, 8, 8)):
        x = torch.randn(shape).bfloat16().to(memory_format=torch.channels_last)
        scale, shift = torch.ones(shape[:2]), torch.zeros(shape[:2])
        theirs = milliseconds(lambda x: F.group_norm(x, _GROUPS), x)
        ours = milliseconds(lambda x: normalize_groups(x, _GROUPS, scale, shift), x)  # noqa: B023
        print(f"{shape}: PyTorch {theirs:.1f} ms, ours {ours:.1f} ms", flush=True)


if __name__ == "__main__":
    main()
