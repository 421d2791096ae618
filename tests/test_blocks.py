import threading
from collections.abc import Iterator

import pytest
import torch

from lapgan.parallel import map_in_order

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


def test_no_more_is_done_than_is_soon_asked_for(threads: int):
    taken = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    results = map_in_order(lambda item: item, items(), CPU)
    assert next(results) == 0
    assert len(taken) <= threads + 1
    results.close()  # type: ignore[attr-defined]
    assert len(taken) <= threads + 1


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
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [threads]


def test_cores_are_shared_out():
    torch.set_num_threads(17)
    each = list(map_in_order(lambda _: torch.get_num_threads(), range(20), CPU))
    assert set(each) == {2}


def test_a_gpu_takes_one_after_another():
    names = map_in_order(lambda _: threading.current_thread().name, range(3), torch.device("meta"))
    assert set(names) == {threading.current_thread().name}
