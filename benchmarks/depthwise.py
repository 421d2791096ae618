"""Milliseconds of depthwise convolutions with a stride and their gradients, by precision, on a CPU.

    OMP_NUM_THREADS=1 python benchmarks/depthwise.py

Those of EfficientNet-Lite1 on images of 64x64, 64 of them, channels last, with weights that are not
trained: in float32, in bfloat16, and as a D on pretrained features has them, which gets and returns
bfloat16 and computes in float32.
"""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

# Channels, padded length of a side, kernel.
_SHAPES = ((96, 33, 3), (144, 19, 5), (240, 9, 3), (672, 7, 5))
_IMAGES, _RUNS = 64, 10


def milliseconds(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Returns the mean time of a forward and a backward pass."""
    x = x.clone().requires_grad_()
    gradient = torch.ones_like(function(x))
    start = time.perf_counter()
    for _ in range(_RUNS):
        torch.autograd.grad(function(x), x, gradient)
    return 1000 * (time.perf_counter() - start) / _RUNS


def main() -> None:
    """Prints a line per convolution."""
    for channels, side, kernel in _SHAPES:
        x = torch.randn(_IMAGES, channels, side, side).to(memory_format=torch.channels_last)
        weight = torch.randn(channels, 1, kernel, kernel)

        def convolve(x: Tensor, weight: Tensor = weight) -> Tensor:
            return F.conv2d(x, weight.to(x.dtype), stride=2, groups=len(weight))

        def convolve_in_float32(x: Tensor) -> Tensor:
            return convolve(x.float()).to(x.dtype)

        float32 = milliseconds(convolve, x)
        bfloat16 = milliseconds(convolve, x.bfloat16())
        in_d = milliseconds(convolve_in_float32, x.bfloat16())
        print(
            f"{channels} channels, {side}x{side}, kernel {kernel}: "
            f"float32 {float32:.1f} ms, bfloat16 {bfloat16:.1f} ms, as in D {in_d:.1f} ms"
        )


if __name__ == "__main__":
    main()
