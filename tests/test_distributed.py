"""Ranks without other processes: what each takes, and what one rank alone does."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from typer.testing import CliRunner

from lapgan.cli import app
from lapgan.distributed import (
    Ranks,
    average_over_ranks,
    current_ranks,
    decide_together,
    gather_in_order,
    join_ranks,
    share_work,
    sharing_ranks,
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


@pytest.mark.parametrize(("count", "size"), [(0, 2), (1, 3), (7, 3), (12, 4), (5, 1)])
def test_shares_of_a_list_follow_each_other_and_differ_by_one_at_most(
    count: int, size: int
) -> None:
    items = list(range(count))
    shares = [items[Ranks(rank, size).share_of(count)] for rank in range(size)]
    assert list(itertools.chain(*shares)) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_work_is_shared_within_the_block_and_not_by_threads_that_it_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lapgan.distributed.current_ranks", lambda: Ranks(1, 2))
    with share_work() as ranks, ThreadPoolExecutor(1) as pool:
        assert ranks == sharing_ranks() == Ranks(1, 2)
        assert pool.submit(sharing_ranks).result() == Ranks()
    assert sharing_ranks() == Ranks()


@pytest.mark.parametrize("count", range(7))
def test_results_of_ranks_are_put_in_order(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other two ranks are played by lists: each has every third result."""
    results = [torch.full((k + 1, 2), k) for k in range(count)]
    empty = torch.empty((0, 2), dtype=torch.int64)
    others = [iter(results[rank::3]) for rank in (1, 2)]
    monkeypatch.setattr(
        "lapgan.distributed.gather_rows",
        lambda x, ranks: [x, *(next(other, empty) for other in others)],
    )
    gathered = list(gather_in_order(results[::3], empty, Ranks(0, 3)))
    assert [part.tolist() for part in gathered] == [part.tolist() for part in results]


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
