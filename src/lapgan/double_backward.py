"""Gradients by the input that are differentiated again, with fast convolutions.

PyTorch derives the gradient of a convolution as a convolution with kernels as large as the image,
which no library is made for. Here that gradient is itself a transposed convolution, whose
derivatives are the usual ones (`benchmarks/double_backward.py`).

References:
    Karras et al. (2020), "Training generative adversarial networks with limited data", whose code
    does so (`conv2d_gradfix`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["differentiable_gradients"]

_Maps = tuple[Tensor, ...]


def differentiable_gradients(function: Callable[[_Maps], Tensor], x: _Maps) -> _Maps:
    """Computes the gradients of sum f(x) by x, which can be differentiated once more.

    Args:
        function: f, of convolutions and other operations.
        x: tensors that require gradients.
    """
    stage = _Stage()
    with _Convolutions(stage):
        total = function(x).sum()
    gradients = torch.autograd.grad(total, x, create_graph=True)
    stage.only_by_input = False
    return gradients


@dataclass
class _Stage:
    """Whether gradients by the input alone are asked for, which come first."""

    only_by_input: bool = True


class _Convolutions(TorchFunctionMode):
    """Replaces two-dimensional convolutions while f is computed."""

    def __init__(self, stage: _Stage) -> None:
        super().__init__()
        self.stage = stage

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        is_plain = func is F.conv2d and not kwargs and len(args) == 7
        if is_plain and not isinstance(args[4], str):
            x, weight, bias, *how = args
            return _Convolve.apply(*_autocast(x, weight, bias), _Geometry(*how), self.stage)
        return func(*args, **(kwargs or {}))


def _autocast(*tensors: Tensor | None) -> list[Tensor | None]:
    """Converts tensors as autocast does for a convolution."""
    device = next(x for x in tensors if x is not None).device.type
    if not torch.is_autocast_enabled(device):
        return list(tensors)
    dtype = torch.get_autocast_dtype(device)
    return [None if x is None else x.to(dtype) for x in tensors]


@dataclass(frozen=True)
class _Geometry:
    """The arguments of a convolution after its weights, as PyTorch has them."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def transpose(self, dy: Tensor, weight: Tensor, size: torch.Size) -> Tensor:
        """Returns the gradient by an input of the given size: a transposed convolution of dy."""
        rest = [
            whole - ((of_dy - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1)
            for whole, of_dy, stride, padding, dilation, kernel in zip(
                size[2:], dy.shape[2:], self.stride, self.padding, self.dilation, weight.shape[2:],
                strict=True,
            )
        ]  # fmt: skip
        return F.conv_transpose2d(
            dy, weight, None, self.stride, self.padding, rest, self.groups, self.dilation
        )


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: _Geometry, stage: _Stage
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how, ctx.stage = how, stage
        return F.conv2d(x, weight, bias, how.stride, how.padding, how.dilation, how.groups)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        how = ctx.how
        if ctx.stage.only_by_input:
            return how.transpose(dy, weight, x.shape), None, None, None, None
        gradients = torch.ops.aten.convolution_backward(
            dy, x, weight, [weight.shape[0]], how.stride, how.padding, how.dilation,
            False, [0, 0], how.groups, ctx.needs_input_grad[:3],
        )  # fmt: skip
        return (*gradients, None, None)
