"""Many raters at once against a real server, killed in the middle: is any answer lost?

Each rater joins, then answers trial after trial with a thinking time between, over HTTP on
loopback. Half way the server is killed with SIGKILL and started again. Afterwards the database
is compared with every acknowledgement that any rater received.

    python benchmarks/study_load.py --raters 200
    python benchmarks/study_load.py --raters 200 --database postgresql://USER@/NAME?host=DIR
"""

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from lapgan.study.design import Design
from lapgan.study.stimuli import Study, freeze, load_study
from lapgan.study.store import Store


@dataclass
class Outcome:
    """What the raters saw; `answered` holds (start, seconds) of requests that were answered."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    answered: list[tuple[float, float]] = field(default_factory=list)
    outage: tuple[float, float] = (0.0, 0.0)
    retries: int = 0
    cpu_seconds: float = 0.0
    lags: list[float] = field(default_factory=list)
    flushes: list[float] = field(default_factory=list)


def make_study(folder: Path, trials: int) -> Study:
    rng = np.random.default_rng(0)
    count = trials // 4 + 20
    for name in ("real", "a", "b", "c"):
        images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        np.savez(folder / f"{name}.npz", images=images)
    design = Design(
        trials=trials,
        practice_trials=0,
        catch_trials=0,
        examples=0,
        images_per_source=count,
        blocks=5,
    )
    fakes = {name: str(folder / f"{name}.npz") for name in ("a", "b", "c")}
    return freeze(folder / "study", design, str(folder / "real.npz"), fakes)


def start(study: Path, port: int, database: str | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "lapgan.study", "serve", str(study), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--rate", "joins=100000/minute"]
    command += ["--database", database] if database else []
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    for _ in range(300):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
            return server
        time.sleep(0.1)
    raise SystemExit("the server did not start")


class Connection:
    """One browser's kept-alive connection: HTTP/1.1 over a socket, and nothing more."""

    def __init__(self, port: int, outcome: Outcome) -> None:
        self._port, self._outcome = port, outcome
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(
        self, method: str, path: str, token: str = "", body: object = None
    ) -> tuple[dict[str, str], bytes]:
        """Repeats a request until the server answers it, as the page does."""
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        while True:
            began = time.perf_counter()
            try:
                status, headers, answered = await self._once(head.encode() + content)
            except (OSError, asyncio.IncompleteReadError):
                self._outcome.retries += 1
                self._streams = None
                await asyncio.sleep(0.3)
                continue
            if status not in (200, 303):
                raise SystemExit(f"{path}: {status} {answered.decode()}")
            if path == "/api/answers":
                self._outcome.answered.append((began, time.perf_counter() - began))
            return headers, answered

    async def _once(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return int(first.split()[1]), headers, body


async def take_part(port: int, outcome: Outcome, options: argparse.Namespace, seed: int) -> None:
    rng = random.Random(seed)
    connection = Connection(port, outcome)
    await asyncio.sleep(rng.uniform(0, options.ramp))
    headers, _ = await connection.request("POST", "/join")
    token = headers["location"].partition("#")[2]
    while True:
        _, sitting = await connection.request("GET", "/api/sitting", token)
        following = json.loads(sitting)["next"]
        if following is None:
            return
        while following is not None:
            await asyncio.sleep(rng.uniform(0.5, 1.5) * options.think)
            body = answer(following["trial"], rng)
            _, receipt = await connection.request("POST", "/api/answers", token, body)
            outcome.acknowledged[body["trial"]] = body["answer"]
            following = json.loads(receipt)["next"]


async def watch_clients(outcome: Outcome) -> None:
    """Notes how late this process itself is: every measured time may contain as much."""
    while True:
        due = time.perf_counter() + 0.02
        await asyncio.sleep(0.02)
        outcome.lags.append(time.perf_counter() - due)


async def watch_disk(outcome: Outcome, path: Path) -> None:
    """Times a flush of 4 KiB beside the database: no answer can be stored sooner."""

    def flush() -> float:
        began = time.perf_counter()
        file.write(bytes(4096))
        os.fsync(file.fileno())
        return time.perf_counter() - began

    with path.open("wb", buffering=0) as file:
        while True:
            outcome.flushes.append(await asyncio.to_thread(flush))
            await asyncio.sleep(0.5)


def answer(trial: str, rng: random.Random) -> dict[str, object]:
    return {
        "trial": trial,
        "answer": rng.choice(["real", "fake"]),
        "response_ms": 800.0,
        "achieved_ms": 100.0,
        "frames": 6,
        "refresh_hz": 60.0,
        "dropped_frames": 0,
        "hidden": False,
        "resumed": False,
        "input": "keyboard",
    }


async def run(options: argparse.Namespace, study: Path, port: int) -> tuple[Outcome, float]:
    server = start(study, port, options.database)
    outcome = Outcome()
    half = options.raters * options.trials // 2
    began = time.perf_counter()
    watches = [
        asyncio.create_task(watch_clients(outcome)),
        asyncio.create_task(watch_disk(outcome, study.parent / "flushed")),
    ]
    raters = asyncio.gather(
        *(take_part(port, outcome, options, seed) for seed in range(options.raters))
    )
    if options.kill:
        while len(outcome.acknowledged) < half:
            await asyncio.sleep(0.05)
        outcome.cpu_seconds += cpu_seconds(server)
        killed = time.perf_counter()
        server.send_signal(signal.SIGKILL)
        server.wait()
        server = await asyncio.to_thread(start, study, port, options.database)
        outcome.outage = (killed, time.perf_counter())
    await raters
    for watch in watches:
        watch.cancel()
    outcome.cpu_seconds += cpu_seconds(server)
    server.terminate()
    server.wait()
    return outcome, time.perf_counter() - began


def cpu_seconds(server: subprocess.Popen[bytes]) -> float:
    times = psutil.Process(server.pid).cpu_times()
    return times.user + times.system


def check(study: Study, outcome: Outcome, options: argparse.Namespace) -> dict[str, object]:
    store = Store(study, options.database)
    rows = store.rows()
    store.close()
    stored = {row["trial"]: "real" if row["said_real"] else "fake" for row in rows}
    lost = [trial for trial, said in outcome.acknowledged.items() if stored.get(trial) != said]
    began, seconds = np.array(outcome.answered).T
    killed, up = outcome.outage
    # Everybody comes back at once after an outage: that crowd is counted apart.
    counted = (began + seconds < killed) | (began > up + 3)
    steady = 1000 * seconds[counted]
    slow = (began + seconds)[counted & (seconds > 0.2)]
    crowd = [
        1000
        * seconds[(began > killed) & (began + seconds > up + s) & (began + seconds <= up + s + 1)]
        for s in range(6 if options.kill else 0)
    ]
    return {
        "answers": len(rows),
        "expected": options.raters * options.trials,
        "acknowledged": len(outcome.acknowledged),
        "lost_or_changed": len(lost),
        "doubled": len(rows) - len(stored),
        "retries": outcome.retries,
        "p50_ms": round(float(np.quantile(steady, 0.5)), 1),
        "p99_ms": round(float(np.quantile(steady, 0.99)), 1),
        "over_200_ms": len(slow),
        "seconds_with_such": len(np.unique(np.floor(slow))),
        "p99_ms_with_restart": round(1000 * float(np.quantile(seconds, 0.99)), 1),
        "outage_seconds": round(up - killed, 1),
        # Of the answers given in the 1st, 2nd, ... second after the restart.
        "after_restart_answers": [len(part) for part in crowd],
        "after_restart_p99_ms": [
            round(float(np.quantile(part, 0.99))) if len(part) else None for part in crowd
        ],
        "disk_flush_p50_ms": round(1000 * float(np.quantile(outcome.flushes, 0.5)), 1),
        "disk_flush_p99_ms": round(1000 * float(np.quantile(outcome.flushes, 0.99)), 1),
        "disk_flush_worst_ms": round(1000 * max(outcome.flushes), 1),
        "client_lag_p50_ms": round(1000 * float(np.quantile(outcome.lags, 0.5)), 1),
        "client_lag_p99_ms": round(1000 * float(np.quantile(outcome.lags, 0.99)), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raters", type=int, default=200)
    parser.add_argument("--trials", type=int, default=110)
    parser.add_argument("--think", type=float, default=1.0, help="mean seconds between answers")
    parser.add_argument("--ramp", type=float, default=20.0, help="seconds in which raters join")
    parser.add_argument("--database", help="SQLAlchemy URL; SQLite without")
    parser.add_argument("--kill", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as scratch:
        study = make_study(Path(scratch), options.trials)
        outcome, seconds = asyncio.run(run(options, study.folder, port))
        found = check(load_study(study.folder), outcome, options)
    found["server_cpu_ms_per_answer"] = round(1000 * outcome.cpu_seconds / found["answers"], 2)
    found |= {"seconds": round(seconds, 1), "answers_per_second": round(found["answers"] / seconds)}
    print(json.dumps(found))
    if found["lost_or_changed"] or found["doubled"] or found["answers"] != found["expected"]:
        raise SystemExit("answers were lost or doubled")


if __name__ == "__main__":
    main()
