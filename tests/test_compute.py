import pytest
import torch

from lapgan.compute import choose_compute
from lapgan.errors import LapganError


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"amx_bf16": True}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": True}, torch.bfloat16),
        ({"avx512_f": True}, torch.float32),
    ],
)
def test_mixed_precision_is_chosen_where_there_is_bfloat16_arithmetic(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], dtype: torch.dtype
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    compute = choose_compute("cpu")
    assert compute.dtype == dtype
    with compute.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(LapganError, match="--device gpu: expected auto, cpu or cuda"):
        choose_compute("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(LapganError, match="--device cuda: PyTorch sees no CUDA device"):
            choose_compute("cuda")
