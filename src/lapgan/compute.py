"""Where and how the nets are computed: device, precision, memory format."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor, nn

from lapgan.allocator import keep_freed_memory
from lapgan.errors import LapganError

__all__ = ["Compute", "choose_compute"]


_Placed = TypeVar("_Placed", Tensor, nn.Module)


@dataclass(frozen=True)
class Compute:
    """A device, and the precision in which its convolutions are computed.

    Args:
        device: where tensors live.
        dtype: float32, or bfloat16 for mixed precision by autocast.
        reason: why, in words.
    """

    device: torch.device
    dtype: torch.dtype
    reason: str

    def autocast(self) -> AbstractContextManager[object]:
        """Returns the context in which the nets run."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def place(self, x: _Placed) -> _Placed:
        """Moves images, maps and nets to the device, with channels last."""
        if isinstance(x, Tensor) and x.dim() != 4:
            return x.to(self.device)
        return x.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def seed(self, seed: int) -> None:
        """Seeds the global generators that layers such as Dropout draw from."""
        # torch.manual_seed would wake CUDA up on machines that only use the CPU.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def __str__(self) -> str:
        precision = {torch.float32: "float32", torch.bfloat16: "bfloat16 autocast"}[self.dtype]
        threads = f", {torch.get_num_threads()} threads" if self.device.type == "cpu" else ""
        return f"{self.device}, {precision} ({self.reason}){threads}"


def choose_compute(device: str = "auto") -> Compute:
    """Chooses mixed precision where bfloat16 is computed fast, float32 elsewhere.

    On a CPU the process keeps freed memory from here on (`lapgan.allocator`).

    Args:
        device: `auto`, or a PyTorch device such as `cpu` or `cuda:1`.

    Raises:
        LapganError: there is no such device.
    """
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        chosen = torch.device(name)
    except RuntimeError:
        raise LapganError(f"--device {device}: expected auto, cpu or cuda[:index].") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise LapganError(f"--device {device}: PyTorch sees no CUDA device; use --device cpu.")
    if chosen.type == "cpu":
        keep_freed_memory()
    if _computes_bfloat16_fast(chosen):
        return Compute(chosen, torch.bfloat16, "bfloat16 arithmetic found")
    return Compute(chosen, torch.float32, "no fast bfloat16 arithmetic")


def _computes_bfloat16_fast(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    found = torch.cpu.get_capabilities()
    return bool(found.get("amx_bf16") or (found.get("avx512_bf16") and _bfloat16_pays()))


@cache
def _bfloat16_pays() -> bool:
    """Tells whether this CPU multiplies bfloat16 at least a fifth faster than float32.

    The vector instructions of AVX-512 BF16 run at twice the rate of float32 on some CPUs and at
    half of it on others, which nothing but the clock tells.
    """
    operands = [torch.ones(512, 512, dtype=dtype) for dtype in (torch.bfloat16, torch.float32)]
    rounds = [[_seconds_to_square(x) for x in operands] for _ in range(8)]
    bfloat16, float32 = map(min, zip(*rounds, strict=True))
    return bool(1.2 * bfloat16 < float32)


def _seconds_to_square(x: Tensor) -> float:
    start = time.perf_counter()
    torch.mm(x, x)
    return time.perf_counter() - start
