"""Whether nets are compiled by `torch.compile`, and what becomes of its errors.

A compiled net computes the same up to rounding, with fewer and larger kernels. The first steps of a
level wait for the compiler, 20 to 60 seconds on a machine with many cores.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from lapgan.errors import LapganError

__all__ = ["choose_compiled", "compile_function", "compile_net", "explain_compiler_errors"]

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def choose_compiled(device: torch.device, asked: bool | None = None) -> bool:
    """Decides whether nets are compiled.

    Args:
        device: where they run.
        asked: what the user wants; None for the default, which is to compile on CUDA devices if
            that works there, and not to compile elsewhere.

    Raises:
        LapganError: it is asked for and does not work.
    """
    if asked is False or (asked is None and device.type != "cuda"):
        return False
    fault = _find_fault(device)
    if fault is not None and asked:
        raise LapganError(_explain(f"nets cannot be compiled for {device}", fault))
    return fault is None


def compile_net(net: nn.Module) -> None:
    """Compiles the forward pass of a net, in place; each shape is compiled for itself."""
    net.compile(dynamic=False)


def compile_function(
    function: Callable[_Arguments, _Result],
) -> Callable[_Arguments, _Result]:
    """Returns a compiled function; each shape is compiled for itself."""
    return torch.compile(function, dynamic=False)


@contextmanager
def explain_compiler_errors(compiled: bool) -> Iterator[None]:
    """Turns errors of the compiler into a LapganError that says how to do without it.

    Args:
        compiled: whether there is anything compiled in the block.
    """
    if not compiled:
        yield
        return
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        raise LapganError(_explain("the nets cannot be compiled", _first_line(error))) from error


@lru_cache
def _find_fault(device: torch.device) -> str | None:
    """Returns why a small function cannot be compiled; None if it can."""
    try:
        compile_function(_probe)(torch.ones(8, device=device))
    except Exception as error:
        # Compilers fail in many ways: none is installed, or none for this device.
        return _first_line(error)
    return None


def _probe(x: Tensor) -> Tensor:
    return (x + 1).cos()


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")


def _explain(what: str, why: str) -> str:
    return (
        f"{what} ({why}). PyTorch needs a C++ compiler, and Triton for CUDA; install them, or use "
        "--no-compile in a new run folder."
    )
