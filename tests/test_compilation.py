from collections.abc import Iterator

import pytest
import torch

from lapgan import compilation
from lapgan.compilation import choose_compiled
from lapgan.errors import LapganError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> Iterator[None]:
    compilation._find_fault.cache_clear()
    yield
    compilation._find_fault.cache_clear()


def fail(x: object) -> None:
    raise RuntimeError("no C++ compiler found.\nmore of it")


@pytest.mark.parametrize(("works", "on_cuda"), [(True, True), (False, False)])
def test_nets_are_compiled_on_cuda_where_that_works_and_elsewhere_if_asked(
    monkeypatch: pytest.MonkeyPatch, works: bool, on_cuda: bool
):
    run = (lambda x: x) if works else fail
    monkeypatch.setattr(compilation, "compile_function", lambda function: run)
    monkeypatch.setattr(torch, "ones", lambda n, device: n)
    assert choose_compiled(CUDA) is on_cuda
    assert choose_compiled(CUDA, False) is False
    assert choose_compiled(CPU) is False
    if works:
        assert choose_compiled(CPU, True) is True
    else:
        message = r"cannot be compiled for cpu \(no C\+\+ compiler found\)\. .* --no-compile"
        with pytest.raises(LapganError, match=message):
            choose_compiled(CPU, True)
