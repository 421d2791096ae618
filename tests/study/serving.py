"""A small study's ingredients, and a real server in a process of its own."""

import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx2 as httpx
import numpy as np


def make_images(count, size=6, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def as_set(images):
    return {image.tobytes() for image in images}


def write_npz(path, images):
    np.savez(path, images=images)
    return str(path)


def write_images(folder, count, seed, size=8):
    """An npz source of `count` random images."""
    path = folder / f"source-{seed}.npz"
    write_npz(path, make_images(count, size, seed))
    return path


def make_answer(trial, **changes):
    """A well-formed answer, as the browser sends it."""
    answer = {
        "trial": trial,
        "answer": "real",
        "response_ms": 900.0,
        "achieved_ms": 100.0,
        "frames": 6,
        "refresh_hz": 60.0,
        "dropped_frames": 0,
        "hidden": False,
        "resumed": False,
        "input": "keyboard",
    }
    return {**answer, **changes}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextmanager
def serving(folder, port, *options):
    """A real server in a process of its own; yields (process, base URL)."""
    command = [sys.executable, "-m", "lapgan.study", "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--admin-secret", "open-sesame"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                httpx.get(f"{base}/declined", timeout=2)
                break
            except httpx.TransportError:
                assert process.poll() is None, "the server ended"
                time.sleep(0.1)
        yield process, base
    finally:
        process.terminate()
        process.wait(20)
