import pytest
import torch

from lapgan.compute import choose_compute
from lapgan.errors import LapganError


@pytest.mark.parametrize(
    ("matrix_units", "dtype"), [(True, torch.bfloat16), (False, torch.float32)]
)
def test_mixed_precision_is_chosen_where_there_are_matrix_units(
    monkeypatch: pytest.MonkeyPatch, matrix_units: bool, dtype: torch.dtype
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": matrix_units})
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
