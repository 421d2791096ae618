import threading
from collections.abc import Iterator

import pytest
import torch

from lapgan.cascade.blocks import BLOCK, map_in_order, number_blocks, pad_block, span_of

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> int:
    torch.set_num_threads(request.param)
    return int(request.param)


@pytest.mark.usefixtures("threads")
def test_results_come_in_the_order_of_the_items():
    delays = [0.05, 0.0, 0.02, 0.0, 0.01]

    def late(item: int) -> int:
        threading.Event().wait(delays[item])
        return item * item

    assert list(map_in_order(late, range(5), CPU)) == [0, 1, 4, 9, 16]
    assert list(map_in_order(late, [], CPU)) == []


def test_as_many_run_at_once_as_there_are_threads(threads: int):
    """Each waits for all the others of its batch: with fewer at once this would never end."""
    together = threading.Barrier(threads, timeout=10)
    assert len(list(map_in_order(lambda _: together.wait(), range(2 * threads), CPU))) == (
        2 * threads
    )


def test_no_more_is_computed_than_is_soon_read(threads: int):
    started = []

    def items() -> Iterator[int]:
        for item in range(100):
            started.append(item)
            yield item

    results = map_in_order(lambda item: item, items(), CPU)
    assert next(results) == 0
    assert len(started) <= threads + 1
    results.close()  # type: ignore[attr-defined]
    assert len(started) <= threads + 1


def test_an_error_reaches_the_caller_and_the_threads_are_as_they_were(threads: int):
    def fails(item: int) -> int:
        if item == 2:
            raise ValueError("the third")
        return item

    results = map_in_order(fails, range(10), CPU)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="the third"):
        next(results)
    assert torch.get_num_threads() == threads
    counts: list[int] = []
    thread = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert counts == [threads]


def test_cores_are_shared_out():
    torch.set_num_threads(17)
    each = list(map_in_order(lambda _: torch.get_num_threads(), range(20), CPU))
    assert set(each) == {2}


def test_a_gpu_takes_one_after_another():
    names = map_in_order(lambda _: threading.current_thread().name, range(3), torch.device("meta"))
    assert set(names) == {threading.current_thread().name}


@pytest.mark.parametrize("n", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
def test_blocks_cover_all_images_once_and_in_order(n: int):
    spans = [span_of(block, n) for block in number_blocks(n)]
    assert [i for span in spans for i in range(n)[span]] == list(range(n))
    assert all(span.stop - span.start == BLOCK for span in spans[:-1])


@pytest.mark.parametrize(
    "x",
    [torch.randn(3, 2, 5), torch.arange(7), torch.rand(BLOCK, 1)],
    ids=("maps", "labels", "full"),
)
def test_a_block_is_filled_up_with_its_last_entry(x: torch.Tensor):
    full = pad_block(x)
    assert full.shape == (BLOCK, *x.shape[1:])
    assert full.dtype == x.dtype
    assert torch.equal(full[: len(x)], x)
    assert all(torch.equal(entry, x[-1]) for entry in full[len(x) :])
