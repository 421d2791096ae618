"""Images are generated in blocks of a fixed size, side by side on the cores of a CPU.

Image i of a seed is the same however many are generated, and memory does not grow with their
number.

Threads that share the operations of one block wait for each other after every one of them, and
small operations are soon done. Threads with a block each do not wait, and each block comes out the
same whatever the number of cores.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["BLOCK", "map_in_order", "number_blocks", "pad_block", "span_of"]

BLOCK = 64
# Python itself runs one thread at a time, so there is a limit; this one was not measured.
_MOST_THREADS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def number_blocks(n: int) -> range:
    """Returns the numbers of the blocks of n images."""
    return range(math.ceil(n / BLOCK))


def span_of(block: int, n: int) -> slice:
    """Returns where the images of a block are among all n."""
    return slice(block * BLOCK, min((block + 1) * BLOCK, n))


def pad_block(x: Float[Tensor, "n ..."]) -> Float[Tensor, "block ..."]:
    """Repeats the last entry until the block is full."""
    return torch.cat((x, x[-1:].expand(BLOCK - len(x), *x.shape[1:])))


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], device: torch.device
) -> Iterator[Result]:
    """Yields function(item) for each item, in their order, as `map` does.

    On a CPU as many run at once as PyTorch has threads, up to 8, with an equal number of threads
    each; at most that many results are held unread. Elsewhere they run one after another.

    Args:
        function: what to compute; it has to enter inference mode and autocast itself.
        items: what to compute it of.
        device: where the tensors live.
    """
    threads = torch.get_num_threads()
    workers = min(threads, _MOST_THREADS)
    if device.type != "cpu" or workers == 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers, "block", torch.set_num_threads, (threads // workers,))
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
