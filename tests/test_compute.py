import pytest
import torch

from lapgan.compute import _bfloat16_pays, choose_compute
from lapgan.errors import LapganError


@pytest.mark.parametrize(
    ("capabilities", "seconds", "dtype"),
    [
        ({"amx_bf16": True}, {}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": True}, {torch.bfloat16: 1.0}, torch.bfloat16),
        ({"avx512_bf16": True}, {torch.bfloat16: 1.9}, torch.float32),
        ({"avx512_f": True}, {}, torch.float32),
    ],
)
def test_mixed_precision_is_chosen_where_bfloat16_is_the_faster(
    monkeypatch: pytest.MonkeyPatch,
    capabilities: dict[str, bool],
    seconds: dict[torch.dtype, float],
    dtype: torch.dtype,
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(
        "lapgan.compute._seconds_to_square", lambda x: {torch.float32: 2.0, **seconds}[x.dtype]
    )
    monkeypatch.setattr("lapgan.compute._bfloat16_pays", _bfloat16_pays.__wrapped__)
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
