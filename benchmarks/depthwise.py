"""Milliseconds of depthwise convolutions with a stride and their gradients, by precision, on a CPU.

    OMP_NUM_THREADS=1 python benchmarks/depthwise.py

Those of EfficientNet-Lite1 on images of 64x64, 64 of them, channels last, with weights that are not
trained: in float32, by autocast to bfloat16, and by autocast as a D on pretrained features has
them. The three take turns in one run; medians of ten.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from training import median_seconds

from lapgan.models.efficientnet import _StridedDepthwise

# Channels, padded length of a side, kernel.
_SHAPES = ((96, 33, 3), (144, 19, 5), (240, 9, 3), (672, 7, 5))
_IMAGES, _ROUNDS = 64, 10


def pass_through(net: nn.Module, x: Tensor) -> Callable[[], None]:
    """Returns an action: a forward and a backward pass, in bfloat16 if the maps are."""
    x = x.clone().requires_grad_()

    def run() -> None:
        with torch.autocast("cpu", enabled=x.dtype == torch.bfloat16):
            y = net(x)
        torch.autograd.grad(y, x, torch.ones_like(y))

    run()
    return run


def main() -> None:
    """Prints a line per convolution."""
    for channels, side, kernel in _SHAPES:
        maps = torch.randn(_IMAGES, channels, side, side).to(memory_format=torch.channels_last)
        net = nn.Conv2d(channels, channels, kernel, stride=2, groups=channels).requires_grad_(False)
        actions = (
            pass_through(net, maps),
            pass_through(net, maps.bfloat16()),
            pass_through(_StridedDepthwise(net), maps.bfloat16()),
        )
        float32, bfloat16, in_d = (1000 * s for s in median_seconds(actions, _ROUNDS))
        print(
            f"{channels} channels, {side}x{side}, kernel {kernel}: "
            f"float32 {float32:.1f} ms, bfloat16 {bfloat16:.1f} ms, as in D {in_d:.1f} ms"
        )


if __name__ == "__main__":
    main()
