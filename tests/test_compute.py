from pathlib import Path

import pytest
import torch
from torch import nn

from lapgan.compute import Compute, choose_compute
from lapgan.errors import LapganError

AMX = {"amx_bf16": True, "avx512_bf16": True}
VECTORS = {"amx_bf16": False, "avx512_bf16": True}


def describe_cpu(
    monkeypatch: pytest.MonkeyPatch, folder: Path, system: str, maker: str = "AuthenticAMD"
) -> None:
    """A system that names the maker of its CPU where it does: in a file, or by `platform`."""
    file, name = folder / "cpuinfo", ""
    if system == "Linux":
        file.write_text(f"processor\t: 0\nvendor_id\t: {maker}\n")
    else:
        name = f"AMD64 Family 25 Model 97 Stepping 2, {maker}"
    monkeypatch.setattr("lapgan.machine._CPU_INFO", file)
    monkeypatch.setattr("platform.processor", lambda: name)


@pytest.mark.parametrize(
    ("capabilities", "maker", "precision", "dtype"),
    [
        (AMX, "GenuineIntel", "auto", torch.bfloat16),
        (VECTORS, "GenuineIntel", "auto", torch.float32),
        (VECTORS, "AuthenticAMD", "auto", torch.bfloat16),
        ({"avx512_f": True}, "AuthenticAMD", "auto", torch.float32),
        ({}, "AuthenticAMD", "auto", torch.float32),
        (AMX, "GenuineIntel", "float32", torch.float32),
        (VECTORS, "AuthenticAMD", "float32", torch.float32),
        ({}, "GenuineIntel", "bfloat16", torch.bfloat16),
    ],
)
@pytest.mark.parametrize("system", ["Linux", "Windows"])
def test_mixed_precision_is_for_fast_units_or_as_asked(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    system: str,
    capabilities: dict[str, bool],
    maker: str,
    precision: str,
    dtype: torch.dtype,
):
    describe_cpu(monkeypatch, tmp_path, system, maker)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    compute = choose_compute("cpu", precision)
    assert compute.dtype == dtype
    assert compute.precision == str(dtype).removeprefix("torch.")
    with compute.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_weights_used_without_gradients_have_gradients_in_the_same_step():
    net = torch.nn.Linear(2, 1)
    with choose_compute("cpu", "bfloat16").autocast():
        with torch.no_grad():
            net(torch.ones(1, 2))
        net(torch.ones(1, 2)).sum().backward()
    assert net.weight.grad.tolist() == [[1.0, 1.0]]


def test_a_pytorch_that_does_not_know_the_cpu_computes_in_float32(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_compute("cpu").dtype == torch.float32
    assert choose_compute("cpu", "bfloat16").dtype == torch.bfloat16


@pytest.mark.parametrize(("emulated", "dtype"), [(False, torch.bfloat16), (True, torch.float32)])
def test_a_cuda_device_that_only_emulates_bfloat16_computes_in_float32(
    monkeypatch: pytest.MonkeyPatch, emulated: bool, dtype: torch.dtype
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation: including_emulation or not emulated,
    )
    for device in ("auto", "cuda", "cuda:1"):
        compute = choose_compute(device)
        assert compute.device.type == "cuda"
        assert compute.dtype == dtype
    assert choose_compute("cpu", "float32").device.type == "cpu"
    with pytest.raises(LapganError, match=r"--device cuda:2: PyTorch sees 2 CUDA devices"):
        choose_compute("cuda:2")


@pytest.mark.parametrize(
    ("capabilities", "choice"),
    [
        (AMX, "bfloat16 autocast (matrix units for bfloat16)"),
        (VECTORS, "bfloat16 autocast (vector units for bfloat16)"),
        ({}, "float32 (no fast units for bfloat16)"),
    ],
)
def test_the_choice_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capabilities: dict[str, bool], choice: str
):
    describe_cpu(monkeypatch, tmp_path, "Linux")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    threads = f"{torch.get_num_threads()} threads"
    assert str(choose_compute("cpu")) == f"cpu, {choice}, {threads}"
    assert str(choose_compute("cpu", "float32")) == f"cpu, float32 (as asked), {threads}"


def test_an_unknown_precision_is_named():
    with pytest.raises(LapganError, match="--precision half: expected auto, float32 or bfloat16"):
        choose_compute("cpu", "half")


def test_nets_and_maps_get_channels_last_and_other_tensors_stay():
    compute = choose_compute("cpu", "float32")
    net, maps = compute.place(nn.Conv2d(4, 4, 3)), compute.place(torch.randn(2, 4, 5, 5))
    for tensor in (net.weight, maps):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert compute.place(torch.arange(3.0)).tolist() == [0, 1, 2]


def test_a_seed_repeats_what_layers_draw():
    compute = choose_compute("cpu", "float32")
    draws = []
    for seed in (3, 3, 4):
        compute.seed(seed)
        draws.append(torch.rand(4))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(LapganError, match="--device gpu: expected auto, cpu, cuda"):
        choose_compute("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(LapganError, match="--device cuda: PyTorch sees no CUDA device"):
            choose_compute("cuda")
    if not torch.backends.mps.is_available():
        with pytest.raises(LapganError, match="--device mps: PyTorch sees no GPU of Apple's"):
            choose_compute("mps")
    with pytest.raises(LapganError, match="--device meta: expected auto, cpu, cuda"):
        choose_compute("meta")


def test_an_operation_that_apples_gpus_lack_is_named():
    compute = Compute(torch.device("mps"), torch.float32, "as asked")
    message = r"--device mps: The operator 'aten::x' is not .* PYTORCH_ENABLE_MPS_FALLBACK=1"
    with pytest.raises(LapganError, match=message), compute.autocast():
        raise NotImplementedError("The operator 'aten::x' is not implemented for MPS. And more.")


def test_products_in_tf32_are_for_float32_on_cuda_and_end_with_the_context():
    compute = Compute(torch.device("cuda"), torch.float32, "as asked")
    assert compute.tf32
    assert str(compute) == "cuda, float32 with TF32 products (as asked)"
    with compute.autocast():
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == "highest"
    assert not choose_compute("cpu", "float32").tf32
    assert not Compute(torch.device("cuda"), torch.bfloat16, "").tf32
