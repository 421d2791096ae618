"""Freed memory stays with the process, to be used again.

Sampling frees all that an operation made before the next one asks for as much. glibc's allocator
gives such memory back to the system each time and asks for it anew, and every page of it costs a
page fault: a quarter of the time of sampling, and more on virtual machines.
"""

import ctypes
import platform
from functools import cache

__all__ = ["keep_freed_memory"]

# Parameters of mallopt in glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_MIB = 2**20


@cache
def keep_freed_memory() -> None:
    """Lets the process keep up to 256 MiB of freed memory.

    Only glibc needs it; nothing happens elsewhere. The command line calls this once at its start. A
    program of your own may call it too, or set `MALLOC_TRIM_THRESHOLD_`, `MALLOC_TOP_PAD_` and
    `MALLOC_MMAP_THRESHOLD_`.

    References:
        mallopt(3); PyTorch's performance tuning guide, which advises the environment variables.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    # The last comes too: once the others are set, glibc no longer raises it by itself, and larger
    # blocks than 128 KiB would be mapped and unmapped one by one.
    for parameter, size in ((_TRIM_THRESHOLD, 256), (_TOP_PAD, 64), (_MMAP_THRESHOLD, 256)):
        mallopt(parameter, size * _MIB)
