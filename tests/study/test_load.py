"""Many raters at once, and a server killed in the middle: `pytest -m load tests/study`.

What an answer costs depends on the machine and on what else runs there: it is asserted only where
LAPGAN_LOAD_P99_MS gives a limit in milliseconds.
"""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from lapgan.study.simulate import Observers, simulate_into
from lapgan.study.store import Store

pytestmark = pytest.mark.load

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "study_load.py"
RATERS = os.environ.get("LAPGAN_LOAD_RATERS", "200")
TRIALS = os.environ.get("LAPGAN_LOAD_TRIALS", "110")


def run_benchmark(*options):
    command = [sys.executable, str(BENCHMARK), "--raters", RATERS, "--trials", TRIALS, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    return json.loads(done.stdout)


def check(report):
    assert report["answers"] == report["acknowledged"] == report["expected"]
    assert report["lost_or_changed"] == report["doubled"] == 0
    assert report["answer_p99_ms"] < float(os.environ.get("LAPGAN_LOAD_P99_MS", "inf"))


def find_postgres():
    """The folder of initdb and postgres, from PATH or Debian's place."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).parent
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


@contextmanager
def postgres(folder):
    """A PostgreSQL of its own on a socket in `folder`; yields its URL."""
    pytest.importorskip("psycopg")
    programs = find_postgres()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    # PostgreSQL refuses to run as root; Debian's package brings a user for it.
    become = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if become:
        shutil.chown(folder, "postgres")
    data = folder / "data"
    initdb = [programs / "initdb", "-D", data, "-U", "study", "-A", "trust", "--no-sync"]
    subprocess.run([*become, *initdb], check=True, stdout=subprocess.DEVNULL, cwd="/")
    start = [
        programs / "pg_ctl",
        "-D",
        data,
        "-w",
        "-o",
        f"-k {folder} -h ''",
        "-l",
        folder / "log",
    ]
    subprocess.run([*become, *start, "start"], check=True, stdout=subprocess.DEVNULL, cwd="/")
    try:
        yield f"postgresql://study@/postgres?host={folder}"
    finally:
        stop = [programs / "pg_ctl", "-D", data, "-m", "immediate", "stop"]
        subprocess.run([*become, *stop], check=True, stdout=subprocess.DEVNULL, cwd="/")


@pytest.fixture
def postgres_url():
    """The URL of a fresh PostgreSQL; its socket needs a short path."""
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    folder.chmod(0o755)
    with postgres(folder) as url:
        yield url
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
def test_no_answer_is_lost_or_doubled_on_sqlite(signal):
    check(run_benchmark("--signal", signal))


def test_no_answer_is_lost_or_doubled_on_postgresql(postgres_url):
    check(run_benchmark("--database", postgres_url))


def test_postgresql_and_sqlite_keep_the_same(make_study, postgres_url):
    study = make_study(mode="staircase", trials=16)
    rows = []
    for url in (None, postgres_url):
        store = Store(study, url)
        simulate_into(store, Observers({"gan": 2.0}), 2, np.random.default_rng(0))
        random_ones = ("rater", "trial", "answered_at")
        rows.append(
            [{k: v for k, v in row.items() if k not in random_ones} for row in store.rows()]
        )
        store.set_paused(True)
        assert store.is_paused()
        assert [rater["done"] for rater in store.progress()] == [20, 20]
        store.close()
    assert rows[0] == rows[1]
