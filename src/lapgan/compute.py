"""Where and how the nets are computed: device, precision, memory format."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor, nn

from lapgan.errors import LapganError
from lapgan.machine import is_cpu_of_amd

__all__ = ["Compute", "choose_compute"]


_Placed = TypeVar("_Placed", Tensor, nn.Module)
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Compute:
    """A device, and the precision in which its convolutions are computed.

    Args:
        device: where tensors live.
        dtype: float32, or bfloat16 for mixed precision by autocast.
        reason: why this precision, in words.
        compiled: nets in training are compiled; see `lapgan.compilation`.
        cuda_graphs: steps of training are replayed; see `lapgan.training.graphs`.
    """

    device: torch.device
    dtype: torch.dtype
    reason: str
    compiled: bool = False
    cuda_graphs: bool = False

    def autocast(self) -> AbstractContextManager[object]:
        """Returns the context in which the nets run."""
        if self.device.type == "mps":
            return _run_on_mps(self.dtype)
        if self.dtype != torch.float32:
            cached = _cache_keeps_gradients()
            return torch.autocast(self.device.type, self.dtype, cache_enabled=cached)
        return _use_tf32() if self.tf32 else nullcontext()

    def tuned(self) -> AbstractContextManager[object]:
        """Returns a context for work of few shapes, in which cuDNN times its algorithms."""
        return _time_algorithms() if self.device.type == "cuda" else nullcontext()

    def place(self, x: _Placed) -> _Placed:
        """Moves images, maps and nets to the device, with channels last."""
        if isinstance(x, Tensor) and x.dim() != 4:
            return x.to(self.device)
        return x.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def send(self, x: Tensor) -> Tensor:
        """Copies a tensor to the device; the processor does not wait for a CUDA device."""
        if self.device.type == "cuda" and x.device.type == "cpu":
            return x.pin_memory().to(self.device, non_blocking=True)
        return x.to(self.device)

    def generator(self, seed: int) -> torch.Generator:
        """Returns a generator of random numbers on the device."""
        return torch.Generator(device=self.device).manual_seed(seed)

    @property
    def tf32(self) -> bool:
        """Whether products of float32 are computed in TF32, with 11 bits of precision."""
        return self.device.type == "cuda" and self.dtype == torch.float32

    @property
    def precision(self) -> str:
        """The name of the precision: float32 or bfloat16."""
        return next(name for name, dtype in _DTYPES.items() if dtype == self.dtype)

    def seed(self, seed: int) -> None:
        """Seeds the global generators that layers such as Dropout draw from."""
        # torch.manual_seed would start CUDA on machines that only use the CPU.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            # The generator of this device, whichever is the current one.
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(seed)
        elif self.device.type == "mps":
            torch.mps.manual_seed(seed)

    def __str__(self) -> str:
        autocast = " autocast" if self.dtype != torch.float32 else ""
        if self.tf32:
            autocast = " with TF32 products"
        threads = f", {torch.get_num_threads()} threads" if self.device.type == "cpu" else ""
        compiled = ", compiled nets" if self.compiled else ""
        return f"{self.device}, {self.precision}{autocast} ({self.reason}){threads}{compiled}"


def choose_compute(device: str = "auto", precision: str = "auto") -> Compute:
    """Chooses a device and the precision of its convolutions, by rule.

    `auto` takes bfloat16 where the processor is faster by it: a CUDA device or a CPU with matrix
    units for it (AMX), and a CPU of AMD with vector instructions for it (Zen 4 and later), which do
    twice the work of those for float32. Intel's do not: on some they run at half the rate.

    Args:
        device: `auto` (CUDA, or else the CPU), or a device of PyTorch: `cpu`, `cuda:1`, `mps`.
        precision: `auto`, `float32` or `bfloat16`.

    Raises:
        LapganError: there is no such device or precision.
    """
    place = _find_device(device)
    if precision == "auto":
        units = _find_bfloat16_units(place)
        if units is not None:
            return Compute(place, torch.bfloat16, f"{units} for bfloat16")
        return Compute(place, torch.float32, "no fast units for bfloat16")
    if precision not in _DTYPES:
        raise LapganError(f"--precision {precision}: expected auto, {' or '.join(_DTYPES)}.")
    return Compute(place, _DTYPES[precision], "as asked")


@lru_cache
def _cache_keeps_gradients() -> bool:
    """Returns whether weights that autocast cast without gradients are cast again with them.

    PyTorch 2.6 keeps the first ones for all of a step, and G would have no gradients.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", torch.bfloat16):
        weight = torch.ones(1, 1, device="cpu", requires_grad=True)
        with torch.no_grad():
            weight @ weight
        return (weight @ weight).requires_grad


@contextmanager
def _use_tf32() -> Iterator[None]:
    """Lets CUDA compute products of float32 in TF32."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)


@contextmanager
def _time_algorithms() -> Iterator[None]:
    """Lets cuDNN take the fastest algorithm, unless PyTorch's deterministic ones are asked for."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def _run_on_mps(dtype: torch.dtype) -> Iterator[None]:
    """Explains operations that PyTorch does not have for Apple's GPUs."""
    mixed = torch.autocast("mps", dtype) if dtype != torch.float32 else nullcontext()
    try:
        with mixed:
            yield
    except NotImplementedError as error:
        operation = str(error).split(".")[0]
        raise LapganError(
            f"--device mps: {operation}. Use --device cpu, or set PYTORCH_ENABLE_MPS_FALLBACK=1 to "
            "compute such operations on the CPU."
        ) from error


def _find_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise LapganError(f"--device {name}: expected auto, cpu, cuda[:index] or mps.") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise LapganError(f"--device {name}: PyTorch sees no CUDA device; use --device cpu.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise LapganError(
            f"--device {name}: PyTorch sees {torch.cuda.device_count()} CUDA devices, counted from "
            "cuda:0; name one of those."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise LapganError(f"--device {name}: PyTorch sees no GPU of Apple's; use --device cpu.")
    if device.type not in ("cpu", "cuda", "mps"):
        raise LapganError(f"--device {name}: expected auto, cpu, cuda[:index] or mps.")
    return device


def _find_bfloat16_units(device: torch.device) -> str | None:
    """Returns which units of the processor are faster in bfloat16 than in float32, if any are."""
    if device.type == "cuda":
        return "matrix units" if torch.cuda.is_bf16_supported(including_emulation=False) else None
    if device.type != "cpu":
        return None
    # Older versions of PyTorch do not say what a CPU has; float32 is right on all of them.
    find_all: Callable[[], Mapping[str, object]] = getattr(torch.cpu, "get_capabilities", dict)
    capabilities = find_all()
    if capabilities.get("amx_bf16"):
        return "matrix units"
    return "vector units" if capabilities.get("avx512_bf16") and is_cpu_of_amd() else None
