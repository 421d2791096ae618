import platform
import subprocess
import sys

import pytest

# Counts the pages that making and freeing six tensors of 4 MiB, as an operation of a net does,
# takes from the system, after a first round.
FAULTS = """
import resource, sys
import torch
from lapgan.compute import choose_compute

if sys.argv[1] == "chosen":
    choose_compute("cpu")

def rounds(count):
    for _ in range(count):
        kept = [torch.ones(2**20) for _ in range(6)]
        del kept

rounds(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
rounds(50)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    command = [sys.executable, "-c", FAULTS, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are not told")
def test_on_a_cpu_freed_memory_is_used_again() -> None:
    # 50 rounds of 24 MiB are 300,000 pages of 4 KiB.
    assert faults("chosen") < 10_000 < faults("not chosen")
