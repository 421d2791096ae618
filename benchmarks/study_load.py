"""Many concurrent raters and a server that is killed half way: is any answer lost?

Each rater joins, then answers trial after trial with a thinking time in between, over HTTP on
loopback. Half way the server is ended with SIGKILL, or SIGTERM, and restarted. Afterwards the
database is compared with every acknowledgement that the raters received.

    python benchmarks/study_load.py --raters 200
    python benchmarks/study_load.py --raters 200 --signal TERM
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
    """The measurements of one run.

    `answered`, `lags` and `flushes` are (start, seconds) on one clock. Requests that the killed
    server did not answer are in `waits`, with the time until their repetition was answered.
    """

    acknowledged: dict[str, str] = field(default_factory=dict)
    answered: list[tuple[float, float]] = field(default_factory=list)
    outage: tuple[float, float] = (0.0, 0.0)
    waits: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0
    lags: list[tuple[float, float]] = field(default_factory=list)
    flushes: list[tuple[float, float]] = field(default_factory=list)


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
    """A browser's keep-alive connection: bare HTTP/1.1 over a socket."""

    def __init__(self, port: int, outcome: Outcome) -> None:
        self._port, self._outcome = port, outcome
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(
        self, method: str, path: str, token: str = "", body: object = None
    ) -> tuple[dict[str, str], bytes]:
        """Repeats a request until the server answers it, like the page."""
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        asked = time.perf_counter()
        for wait in [0.5, 1.0, 2.0, 4.0, *[8.0] * 8]:
            began = time.perf_counter()
            try:
                status, headers, answered = await self._once(head.encode() + content)
            except (OSError, asyncio.IncompleteReadError):
                self._streams = None
                await asyncio.sleep(wait * random.uniform(0.5, 1.5))
                continue
            ended = time.perf_counter()
            if status not in (200, 303):
                raise SystemExit(f"{path}: {status} {answered.decode()}")
            if path == "/api/answers":
                self._outcome.answered.append((began, ended - began))
                self._outcome.waits += [ended - asked] if began > asked + 0.1 else []
            return headers, answered
        raise SystemExit(f"{path}: no answer for more than a minute")

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
    """Records how late this process itself is: every measured time may include that."""
    while True:
        due = time.perf_counter() + 0.02
        await asyncio.sleep(0.02)
        outcome.lags.append((due, time.perf_counter() - due))


async def watch_disk(outcome: Outcome, path: Path) -> None:
    """Times a flush of 4 KiB next to the database: no answer can be stored faster."""

    def flush() -> tuple[float, float]:
        began = time.perf_counter()
        file.write(bytes(4096))
        os.fsync(file.fileno())
        return began, time.perf_counter() - began

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
        server.send_signal(signal.Signals[f"SIG{options.signal}"])
        await asyncio.to_thread(server.wait)
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
    return {
        "answers": len(rows),
        "expected": options.raters * options.trials,
        "acknowledged": len(outcome.acknowledged),
        "lost_or_changed": len(lost),
        "doubled": len(rows) - len(stored),
    }


def measure(outcome: Outcome) -> dict[str, object]:
    """Returns the times of answers while the server was up, the outage, the disk and the client."""
    began, seconds = np.array(outcome.answered).T
    killed, up = outcome.outage
    # After an outage all raters come back at once: that rush is also reported separately.
    rush = (began > killed) & (began + seconds <= up + 3)
    return {
        **quantiles("answer", seconds, 0.5, 0.99, 1),
        **(quantiles("answer_3s_after_restart", seconds[rush], 0.5, 0.99) if up else {}),
        **(quantiles("answer_otherwise", seconds[~rush], 0.99) if up else {}),
        "over_200_ms": int((seconds > 0.2).sum()),
        "outage_seconds": round(up - killed, 1),
        "waited_for_the_restart": len(outcome.waits),
        "longest_wait_seconds": round(max(outcome.waits, default=0.0), 1),
        **quantiles("disk_flush", np.array(outcome.flushes)[:, 1], 0.5, 0.99, 1),
        **quantiles("client_lag", np.array(outcome.lags)[:, 1], 0.5, 0.99, 1),
        "slow_seconds": slow_seconds(outcome),
    }


def quantiles(name: str, seconds: np.ndarray, *levels: float) -> dict[str, float]:
    label = {0.5: "p50", 0.99: "p99", 1: "worst"}
    return {
        f"{name}_{label[q]}_ms": round(1000 * float(np.quantile(seconds, q)), 1) for q in levels
    }


def slow_seconds(outcome: Outcome) -> list[str]:
    """Lists each second with an answer over 200 ms, with its slowest flush and client lag."""
    start = outcome.lags[0][0]

    def worst(series: list[tuple[float, float]], second: int) -> int:
        here = [
            late
            for began, late in series
            if began <= second + 1 + start and began + late >= second + start
        ]
        return round(1000 * max(here, default=0.0))

    slow = [(int(began + late - start), late) for began, late in outcome.answered if late > 0.2]
    return [
        f"{second - (outcome.outage[1] - start):+.1f} s: "
        f"{sum(at == second for at, _ in slow)} answers, "
        f"worst {round(1000 * max(late for at, late in slow if at == second))} ms, "
        f"flush {worst(outcome.flushes, second)} ms, client {worst(outcome.lags, second)} ms"
        for second in sorted({at for at, _ in slow})
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raters", type=int, default=200)
    parser.add_argument("--trials", type=int, default=110)
    parser.add_argument("--think", type=float, default=1.0, help="mean seconds between answers")
    parser.add_argument("--ramp", type=float, default=20.0, help="seconds in which raters join")
    parser.add_argument("--database", help="SQLAlchemy URL; SQLite without")
    parser.add_argument("--kill", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--signal", choices=["KILL", "TERM"], default="KILL")
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as scratch:
        study = make_study(Path(scratch), options.trials)
        outcome, seconds = asyncio.run(run(options, study.folder, port))
        report = check(load_study(study.folder), outcome, options) | measure(outcome)
    answers = report["answers"]
    report["server_cpu_ms_per_answer"] = round(1000 * outcome.cpu_seconds / answers, 2)
    report |= {"seconds": round(seconds, 1), "answers_per_second": round(answers / seconds)}
    print(json.dumps(report))
    if report["lost_or_changed"] or report["doubled"] or answers != report["expected"]:
        raise SystemExit("answers were lost or duplicated")


if __name__ == "__main__":
    main()
