"""Ranks: the processes that `torchrun` starts, which train, sample and evaluate together.

In training every rank holds the same weights and takes an equal part of each minibatch. Gradients
are averaged over the ranks before a step, so that a step is the one that a single process would
make with the whole minibatch. Rank 0 has the clock and writes the files. Without `torchrun` there
is one rank, and nothing here does anything.

Sampling and the extraction of features are divided over the ranks within `share_work` only: there
every rank makes the same calls and gets all results. Elsewhere a rank works for itself, as rank 0
does when it draws the samples of a run.
"""

import importlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from lapgan.errors import LapganError

__all__ = [
    "Ranks",
    "average_over_ranks",
    "current_ranks",
    "decide_together",
    "gather_in_order",
    "gather_rows",
    "join_ranks",
    "main_rank_first",
    "share_work",
    "sharing_ranks",
    "time_of_main_rank",
    "wait_for_ranks",
]

# Rank 0 may decode a whole data set while the others wait.
_TIMEOUT = timedelta(hours=12)


@dataclass(frozen=True)
class Ranks:
    """Which of the ranks a process is.

    Args:
        rank: of this process, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes the files."""
        return self.rank == 0

    def share_of(self, count: int) -> slice:
        """Returns where this rank's share of a list is; shares differ by one at most."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def part_of(self, count: int, device: torch.device | str = "cpu") -> Tensor:
        """Returns the positions of this rank's part of a minibatch.

        It is an equal share of each half, because an objective may take the halves for different
        purposes (`lapgan.training.update`).

        Args:
            count: of the minibatch.
            device: where the positions are needed.

        Raises:
            LapganError: the halves cannot be divided among the ranks.
        """
        self.check_batch(count)
        half, share = count // 2, count // 2 // self.size
        first = torch.arange(self.rank * share, (self.rank + 1) * share, device=device)
        return torch.cat((first, half + first))

    def check_batch(self, count: int) -> None:
        """Raises a LapganError unless both halves of a minibatch can be divided equally."""
        if self.size > 1 and count % (2 * self.size):
            raise LapganError(
                f"training.batch = {count}: {self.size} ranks need a multiple of {2 * self.size}, "
                "so that each takes the same part of both halves; start another number of "
                "processes, or set another batch in a new run."
            )


_ALONE = Ranks()
# New threads begin with the default, so what they call is not divided again.
_sharing: ContextVar[Ranks] = ContextVar("sharing", default=_ALONE)


def current_ranks() -> Ranks:
    """Returns which of the ranks this process is; the only one outside of `join_ranks`."""
    if not (dist.is_available() and dist.is_initialized()):
        return Ranks()
    return Ranks(dist.get_rank(), dist.get_world_size())


@contextmanager
def join_ranks(device: str = "auto") -> Iterator[Ranks]:
    """Joins the ranks that `torchrun` started, if it did; each takes a GPU of its machine.

    Args:
        device: `auto`, `cpu` or `cuda`.

    Raises:
        LapganError: a rank cannot have a GPU of its own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield current_ranks()
        return
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_gpu:
        _take_gpu(device)
    # Functions of this module have the group of all ranks as a default. Imported while there is
    # one, as by PyTorch's optimizers, they keep its threads, which can crash the process's end.
    importlib.import_module("torch.distributed.nn.functional")
    # Figures and clocks are compared on the CPU, so that no rank waits for its GPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=_TIMEOUT)
    try:
        yield current_ranks()
    finally:
        dist.destroy_process_group()


def average_over_ranks(tensors: Sequence[Tensor]) -> None:
    """Replaces tensors, in place, by their means over the ranks, in one message."""
    ranks = current_ranks()
    if ranks.size == 1 or not tensors:
        return
    flat = torch.cat([x.detach().reshape(-1) for x in tensors])
    with _peers():
        dist.all_reduce(flat)
    flat /= ranks.size
    parts = torch.split(flat, [x.numel() for x in tensors])
    with torch.no_grad():
        for x, part in zip(tensors, parts, strict=True):
            x.copy_(part.view(x.shape))


def decide_together(wish: bool) -> bool:
    """Returns whether any rank wishes it; all of them call this at the same place."""
    if current_ranks().size == 1:
        return wish
    wishes = torch.tensor(float(wish))
    with _peers():
        dist.all_reduce(wishes)
    return bool(wishes)


def time_of_main_rank(seconds: float) -> float:
    """Returns the seconds that rank 0 gave, so that time budgets end at the same step."""
    if current_ranks().size == 1:
        return seconds
    clock = torch.tensor(seconds, dtype=torch.float64)
    with _peers():
        dist.broadcast(clock, src=0)
    return clock.item()


def wait_for_ranks() -> None:
    """Returns when every rank has called it."""
    decide_together(False)


@contextmanager
def main_rank_first() -> Iterator[None]:
    """Lets rank 0 go through a block before the others, which then find what it has made."""
    ranks = current_ranks()
    if not ranks.is_main:
        wait_for_ranks()
    yield
    if ranks.is_main:
        wait_for_ranks()


@contextmanager
def share_work() -> Iterator[Ranks]:
    """Divides sampling and the extraction of features within the block over the ranks.

    Every rank has to make the same calls in the same order.
    """
    token = _sharing.set(current_ranks())
    try:
        yield _sharing.get()
    finally:
        _sharing.reset(token)


def sharing_ranks() -> Ranks:
    """Returns which of the ranks that share the work this process is; the only one by default."""
    return _sharing.get()


def gather_rows(x: Tensor, ranks: Ranks) -> list[Tensor]:
    """Returns the tensors of all ranks, on all ranks, in the order of the ranks.

    Args:
        x: of this rank, on the CPU, (n, ...); those of other ranks differ in n at most.
        ranks: those that call this.
    """
    if ranks.size == 1:
        return [x]
    counts = [torch.zeros(1, dtype=torch.int64) for _ in range(ranks.size)]
    with _peers():
        dist.all_gather(counts, torch.tensor([len(x)]))
    rows = [int(count) for count in counts]
    # All messages of a collective have one length.
    message = x.new_zeros((max(rows), *x.shape[1:]))
    message[: len(x)] = x
    messages = [torch.empty_like(message) for _ in rows]
    if message.numel():
        with _peers():
            dist.all_gather(messages, message)
    return [part[:count] for part, count in zip(messages, rows, strict=True)]


def gather_in_order(results: Iterable[Tensor], empty: Tensor, ranks: Ranks) -> Iterator[Tensor]:
    """Yields the results of all ranks, on all ranks: first the first of each, then the second, ...

    Each rank computes its next result while it waits, if `results` is computed by other threads,
    and holds one of each rank.

    Args:
        results: of this rank, on the CPU, with one row or more each; every rank has as many as
            rank 0, or one fewer if it comes after the last one that has as many.
        empty: no rows, but the other dimensions and the type of the results.
        ranks: those that call this.
    """
    if ranks.size == 1:
        yield from results
        return
    own = iter(results)
    complete = True
    while complete:
        parts = gather_rows(next(own, empty), ranks)
        yield from (part for part in parts if len(part))
        complete = all(len(part) for part in parts)


@contextmanager
def _peers() -> Iterator[None]:
    """Turns a connection that another rank has closed into an error that says so."""
    try:
        yield
    except RuntimeError:
        raise LapganError(
            "another rank has ended, or cannot be reached any more; its own message says why. The "
            "same command starts again, and a training continues from its last checkpoint, also "
            "with fewer ranks."
        ) from None


def _take_gpu(device: str) -> None:
    index, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if ":" in device or index >= count:
        raise LapganError(
            f"--device {device}: each process of torchrun takes a GPU of its own (this one would "
            f"take number {index}), and PyTorch sees {count}; use --device cuda and at most "
            f"--nproc-per-node {max(count, 1)}, or --device cpu."
        )
    torch.cuda.set_device(index)
