"""Pieces of work side by side on the cores of a CPU.

Threads that share the operations of one piece wait for each other after every one of them, and
small operations are soon done. Threads with a piece each do not wait, and each piece comes out the
same whatever the number of cores.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["map_in_order"]

Item = TypeVar("Item")
Result = TypeVar("Result")

# Python itself runs one thread at a time, so there is a limit; this one was not measured.
_MOST = 8


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], device: torch.device
) -> Iterator[Result]:
    """Yields function(item) for each item, in their order, as `map` does.

    On a CPU as many run at once as PyTorch has threads, up to 8, with an equal share of them each;
    no more than that are finished and not yet asked for. Elsewhere they run one after another.

    Args:
        function: what to do; inference mode and autocast have to be entered within.
        items: what to do it with.
        device: where the tensors live.
    """
    threads = torch.get_num_threads()
    workers = min(threads, _MOST)
    if device.type != "cpu" or workers == 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers, "piece", torch.set_num_threads, (threads // workers,))
    running: deque[Future[Result]] = deque()
    try:
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) > workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        # A worker's number is what PyTorch would give to threads that begin later.
        torch.set_num_threads(threads)
