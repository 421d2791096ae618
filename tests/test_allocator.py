import os
import platform
import subprocess
import sys

import pytest

# Makes and frees six tensors of 4 MiB, as an operation of a net does, and counts the pages that
# this takes from the system after a first round.
FAULTS = """
import resource, sys
import torch
from lapgan.allocator import keep_freed_memory
from lapgan.compute import choose_compute

choose_compute("cpu")
if sys.argv[1] == "kept":
    keep_freed_memory()

def rounds(count):
    for _ in range(count):
        tensors = [torch.ones(2**20) for _ in range(6)]
        del tensors

rounds(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
rounds(50)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    command = [sys.executable, "-c", FAULTS, how]
    # By itself glibc raises this threshold at times, and then returns less.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**17)}
    process = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return int(process.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left alone")
def test_freed_memory_is_used_again_where_it_is_kept() -> None:
    # 50 rounds of 24 MiB are 300,000 pages of 4 KiB.
    assert faults("kept") < 10_000 < faults("returned")
