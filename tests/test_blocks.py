import threading
from collections.abc import Iterator

import pytest
import torch

from lapgan.cascade.blocks import BLOCK, group_blocks, map_in_order, pad_blocks, span_of

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


@pytest.mark.parametrize("threads", [8], indirect=True)
@pytest.mark.usefixtures("threads")
def test_a_gpu_computes_one_result_while_another_is_read():
    names = map_in_order(lambda _: threading.current_thread().name, range(9), torch.device("meta"))
    assert len(set(names)) <= 2


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("n", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5, 40 * BLOCK])
def test_groups_cover_all_images_once_and_in_order(n: int, device: str):
    groups = group_blocks(n, (32, 32), torch.device(device))
    assert [block for group in groups for block in group] == list(range(-(-n // BLOCK)))
    spans = [span_of(group, n) for group in groups]
    assert [i for span in spans for i in range(n)[span]] == list(range(n))


@pytest.mark.parametrize(
    ("size", "device", "blocks"),
    [
        ((32, 32), "cpu", 1),
        ((8, 8), "meta", 16),
        ((64, 64), "meta", 4),
        ((64, 128), "meta", 2),
        ((1024, 1024), "meta", 1),
    ],
)
def test_a_group_has_about_as_many_pixels_whatever_the_size(
    size: tuple[int, int], device: str, blocks: int
):
    groups = group_blocks(2000 * BLOCK, size, torch.device(device))
    assert {len(group) for group in groups} == {blocks}


@pytest.mark.parametrize(
    "x",
    [torch.randn(3, 2, 5), torch.arange(7), torch.rand(BLOCK, 1)],
    ids=("maps", "labels", "full"),
)
@pytest.mark.parametrize("count", [1, 3])
def test_blocks_are_filled_up_with_the_last_entry(x: torch.Tensor, count: int):
    full = pad_blocks(x, count)
    assert full.shape == (count * BLOCK, *x.shape[1:])
    assert full.dtype == x.dtype
    assert torch.equal(full[: len(x)], x)
    assert all(torch.equal(entry, x[-1]) for entry in full[len(x) :])
