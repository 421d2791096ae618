"""Images are generated in blocks of a fixed size, side by side on the cores of a CPU.

Image i of a seed is the same however many are generated, and memory does not grow with their
number. Elsewhere several blocks are computed together, each from its own noise.

Threads that share the operations of one block wait for each other after every one of them, and
small operations are soon done. Threads with a block each do not wait, and each block comes out the
same whatever the number of cores. On other devices the threads draw noise and read results while
the device computes.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from jaxtyping import Shaped
from torch import Tensor

from lapgan.sizes import Size

__all__ = ["BLOCK", "group_blocks", "map_in_order", "pad_blocks", "span_of"]

BLOCK = 64
# Python itself runs one thread at a time, so there is a limit; this one was not measured.
_MOST_THREADS = 8
# Of a group, at the finest level: 1,024 images of 32x32. A group of small images is no larger.
_MOST_PIXELS = 2**20
_MOST_BLOCKS = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


def group_blocks(n: int, size: Size, device: torch.device) -> list[range]:
    """Returns the blocks of n images, in groups that are computed together.

    Args:
        n: how many images.
        size: of the finest of them, which memory depends on.
        device: where they are computed; on a CPU each block is a group.
    """
    blocks = math.ceil(n / BLOCK)
    fitting = min(_MOST_PIXELS // (BLOCK * math.prod(size)), _MOST_BLOCKS)
    step = 1 if device.type == "cpu" else max(1, fitting)
    return [range(first, min(first + step, blocks)) for first in range(0, blocks, step)]


def span_of(group: range, n: int) -> slice:
    """Returns where the images of a group of blocks are among all n."""
    return slice(group.start * BLOCK, min(group.stop * BLOCK, n))


def pad_blocks(x: Shaped[Tensor, "n ..."], count: int) -> Shaped[Tensor, "full ..."]:
    """Repeats the last entry until so many blocks are full."""
    return torch.cat((x, x[-1:].expand(count * BLOCK - len(x), *x.shape[1:])))


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], device: torch.device
) -> Iterator[Result]:
    """Yields function(item) for each item, in their order, as `map` does.

    As many run at once as PyTorch has threads, up to 8 on a CPU and 2 elsewhere, with an equal
    number of threads each; at most that many results are held unread.

    Args:
        function: what to compute; it has to enter inference mode and autocast itself.
        items: what to compute it of.
        device: where the tensors live.
    """
    threads = torch.get_num_threads()
    # Two suffice elsewhere: while one waits for its results, the other's are computed.
    workers = min(threads, _MOST_THREADS if device.type == "cpu" else 2)
    if workers == 1:
        yield from map(function, items)
        return
    gpu = torch.cuda.current_device() if device.type == "cuda" else None
    pool = ThreadPoolExecutor(workers, "block", _begin_thread, (threads // workers, gpu))
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


def _begin_thread(threads: int, gpu: int | None) -> None:
    """Readies a thread that computes blocks; its GPU is the first one until it is told another."""
    torch.set_num_threads(threads)
    if gpu is not None:
        torch.cuda.set_device(gpu)
