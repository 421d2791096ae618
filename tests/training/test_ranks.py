"""Several processes train one level, as `torchrun` starts them on one machine or on two."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

# Without dropout, since the masks of ranks are not those of one process; with a multiple of eight
# examples per rank and half, the group of the standard deviation in D; and without Adam, whose
# first steps have the same length however small a gradient is.
_RECIPE = """
name = "tiny"
[data]
source = "dead-leaves:64"
flip = true
[pyramid]
operator = "area-linear"
[training]
batch = 32
images = {images}
objective = "{objective}"
penalty = {{ kind = "exact", weight = 0.5, every = 2 }}
optimiser = {{ kind = "sgd", learning_rate = 0.01, momentum = 0.5 }}
ema_half_life = 64
clip_gradients = 5.0
rollbacks = 1
[levels.32]
noise = {{ kind = "mixed", dimension = 4, planes = 1 }}
conditioning_noise = {{ max = 0.1, sample = 0.0 }}
generator = {{ kind = "residual", maps = [16, 16] }}
discriminator = {{ kind = "residual", maps = [16, 16] }}
[levels.16]
noise = {{ kind = "vector", dimension = 4 }}
generator = {{ kind = "residual-coarsest", maps = 16 }}
discriminator = {{ kind = "residual", maps = [16] }}
"""
_TORCHRUN = (sys.executable, "-m", "torch.distributed.run")


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def _command(tmp_path: Path, out: str, objective: str, images: int = 96) -> list[str]:
    recipe = tmp_path / f"{objective}-{images}.toml"
    recipe.write_text(_RECIPE.format(objective=objective, images=images))
    options = ["--out", str(tmp_path / out), "--precision", "float32"]
    return ["-m", "lapgan", "train", str(recipe), *options]


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _assert_same_weights(one: Path, other: Path) -> None:
    for level in ("level-16", "level-32"):
        a, b = (load_file(run / level / "state.safetensors") for run in (one, other))
        assert a.keys() == b.keys()
        for name, tensor in a.items():
            difference = (tensor.double() - b[name].double()).abs().max().item()
            assert difference <= 1e-4 * max(1.0, tensor.abs().max().item()), (level, name)


@pytest.mark.parametrize("objective", ["relativistic", "non-saturating"])
def test_two_ranks_make_the_weights_that_one_process_makes(
    objective: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    _run([sys.executable, *_command(tmp_path, "one", objective)], environment)
    two = [*_TORCHRUN, "--nproc-per-node", "2", *_command(tmp_path, "two", objective)]
    _run(two, environment)
    _assert_same_weights(tmp_path / "one", tmp_path / "two")
    logs = [(tmp_path / run / "level-32" / "log.jsonl").read_text() for run in ("one", "two")]
    one, other = (json.loads(log.splitlines()[-1]) for log in logs)
    for name in ("images_seen", "loss_d", "loss_g", "real_accuracy", "penalty"):
        assert other[name] == pytest.approx(one[name], rel=1e-3), name


def test_two_machines_meet_at_an_endpoint(tmp_path: Path, environment: dict[str, str]) -> None:
    command = _command(tmp_path, "two", "relativistic")
    meeting = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    meeting += ["--rdzv-endpoint", f"127.0.0.1:{_free_port()}", "--rdzv-id", "tiny"]
    machines = [
        subprocess.Popen([*_TORCHRUN, *meeting, *command], env=environment, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]  # fmt: skip
    messages = [machine.communicate(timeout=900)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], messages
    _run([sys.executable, *_command(tmp_path, "one", "relativistic")], environment)
    _assert_same_weights(tmp_path / "one", tmp_path / "two")


_USES_AN_OPTIMIZER = """
from pathlib import Path
import torch
from lapgan.distributed import join_ranks, wait_for_ranks
with join_ranks("cpu"):
    torch.optim.SGD([torch.ones(1, requires_grad=True)], 0.1).step()
    wait_for_ranks()
threads = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
assert not any("gloo" in thread for thread in threads), threads
"""


def test_no_thread_of_the_ranks_outlives_their_work(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """One that does can crash the end of the process, when Python is gone."""
    script = tmp_path / "ranks.py"
    script.write_text(_USES_AN_OPTIMIZER)
    _run([*_TORCHRUN, "--nproc-per-node", "2", str(script)], environment)


def test_a_rank_that_is_killed_ends_all_and_fewer_ranks_go_on(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    command = _command(tmp_path, "run", "relativistic", images=10_000_000)
    log = tmp_path / "run" / "level-16" / "log.jsonl"
    everything = subprocess.Popen(
        [*_TORCHRUN, "--nproc-per-node", "2", *command], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    _wait_for(log)
    victim = next(_children_with_rank(everything.pid, 1))
    os.kill(victim, signal.SIGKILL)
    _, messages = everything.communicate(timeout=120)
    assert everything.returncode != 0
    assert "another rank has ended" in messages
    assert "Traceback" not in "\n".join(
        line for line in messages.splitlines() if line.startswith("[rank")
    )
    _, *options = _command(tmp_path, "run", "relativistic", images=10_000_000)
    seen = json.loads(log.read_text().splitlines()[-1])["images_seen"]
    alone = subprocess.Popen(
        [sys.executable, "-m", *options], env=environment, stdout=subprocess.DEVNULL
    )
    _wait_for(log, more_than=seen)
    alone.send_signal(signal.SIGTERM)
    assert alone.wait(timeout=60) == 130


def _wait_for(log: Path, more_than: int = 0) -> None:
    for _ in range(1200):
        lines = log.read_text().splitlines() if log.exists() else []
        if lines and json.loads(lines[-1])["images_seen"] > more_than:
            return
        time.sleep(0.1)
    raise AssertionError(f"{log}: nothing was logged")


def _children_with_rank(parent: int, rank: int) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "status").read_text()
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"\nPPid:\t{parent}\n" in status and f"RANK={rank}".encode() in variables:
            yield int(folder.name)
