import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from lapgan.errors import LapganError
from lapgan.evaluation.metrics.entropy.coders import CODERS, best_code, code_bits, residual_values


def _noise(n: int = 30, side: int = 16) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 3, side, side), np.uint8))


@pytest.mark.parametrize("coder", CODERS)
def test_uniform_noise_needs_eight_bits_a_value(coder: str):
    noise = _noise(100)
    assert 8 <= code_bits(noise, coder) / noise.numel() < 8.9


@pytest.mark.parametrize("coder", CODERS)
def test_a_constant_needs_next_to_nothing(coder: str):
    constant = torch.full((64, 3, 32, 32), 130, dtype=torch.uint8)
    assert code_bits(constant, coder) / constant.numel() < 0.03


def test_the_best_coder_is_named():
    ramp = torch.arange(16, dtype=torch.uint8).expand(9, 3, 16, 16)
    code = best_code(ramp)
    assert code.bits == min(code_bits(ramp, coder) for coder in CODERS)
    assert code.bits == code_bits(ramp, code.coder)


def test_bits_are_those_of_the_sheet():
    images = _noise(4, 8)
    sheet = torch.cat([torch.cat([*images[:2]], dim=2), torch.cat([*images[2:]], dim=2)], dim=1)
    file = io.BytesIO()
    Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(file, **CODERS["PNG"])
    assert code_bits(images, "PNG") == 8 * len(file.getvalue())


def test_residuals_and_the_low_pass_image_give_the_image_back():
    fine, low = _noise(20), _noise(20).flip(0)
    residual = residual_values(fine, low)
    assert torch.equal(residual + low - 128, fine)
    assert (residual_values(fine, fine) == 128).all()


def test_a_coder_that_loses_something_is_found_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(CODERS, "WebP", {"format": "WEBP", "lossless": False, "quality": 50})
    with pytest.raises(RuntimeError, match="WebP"):
        code_bits(_noise(), "WebP")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(LapganError, match=r"\.\[eval\]"):
        best_code(_noise())
