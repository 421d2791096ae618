"""Ranks without other processes: what each takes, and what one rank alone does."""

import pytest
import torch
from typer.testing import CliRunner

from lapgan.cli import app
from lapgan.distributed import (
    Ranks,
    average_over_ranks,
    current_ranks,
    decide_together,
    join_ranks,
    time_of_main_rank,
)
from lapgan.errors import LapganError


@pytest.mark.parametrize(("batch", "size"), [(8, 1), (8, 2), (24, 3), (32, 4)])
def test_the_ranks_take_each_example_once_and_as_many_of_each_half(batch: int, size: int) -> None:
    parts = [Ranks(rank, size).part_of(batch) for rank in range(size)]
    assert sorted(torch.cat(parts).tolist()) == list(range(batch))
    for part in parts:
        first, second = part.tensor_split(2)
        assert len(first) == len(second)
        assert (first < batch // 2).all()
        assert (second >= batch // 2).all()


def test_a_minibatch_that_cannot_be_divided_is_refused_with_what_would_fit() -> None:
    with pytest.raises(LapganError, match=r"training\.batch = 10: 2 ranks need a multiple of 4"):
        Ranks(0, 2).check_batch(10)
    Ranks(0, 1).check_batch(7)


def test_outside_of_torchrun_there_is_one_rank_and_nothing_changes() -> None:
    gradient = torch.tensor([1.0, 2.0])
    with join_ranks() as ranks:
        assert ranks == current_ranks() == Ranks(0, 1)
        average_over_ranks([gradient])
        assert gradient.tolist() == [1, 2]
        assert decide_together(True)
        assert not decide_together(False)
        assert time_of_main_rank(1.5) == 1.5


def test_a_command_that_would_run_once_per_process_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    result = CliRunner().invoke(app, ["recipes"])
    assert isinstance(result.exception, LapganError)
    assert "once per process" in str(result.exception)
