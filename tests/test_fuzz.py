"""Damaged and odd inputs through the command line: one message, no traceback, nothing half made.

    LAPGAN_FUZZ=5000 python -m pytest -m slow tests/test_fuzz.py

Every case is a valid file that was damaged at random. The command may use it or refuse it, but it
may only fail with a LapganError, in seconds, and leave what was there as it was.
"""

import io
import json
import os
import re
import shutil
import signal
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lapgan.cascade import Cascade
from lapgan.cli import app
from lapgan.errors import LapganError
from lapgan.recipe import check_recipe
from lapgan.training.config import RunConfig
from lapgan.training.run import train

CASES = int(os.environ.get("LAPGAN_FUZZ", "300"))
SECONDS = 60
SIDE = 12
TINY = f"""
name = "tiny"
[training]
batch = 8
images = 16
[pyramid]
operator = "block-mean"
[levels.{SIDE}]
noise = {{ kind = "plane" }}
generator = {{ kind = "paper-conv", maps = 2 }}
discriminator = {{ kind = "paper-conv", maps = 2 }}
[levels.6]
noise = {{ kind = "vector", dimension = 3 }}
generator = {{ kind = "paper-dense", units = 4 }}
discriminator = {{ kind = "paper-dense", units = 4 }}
"""
DESIGN = """
title = "A study"
seed = 3
mode = "durations"
trials = 8
durations_ms = [50, 100, 1000]
blocks = 2
practice_trials = 2
catch_trials = 1
examples = 2
images_per_source = 4
crop = 8
zoom = 2
[exclusion]
rushed_share = 0.2
"""
# What takes the place of a value in TOML and JSON. Numbers of nets that fit no memory are there;
# those that just fit would be made.
VALUES = (
    "-1", "0", "1", "3", "0.5", "1e300", "nan", "inf", "-inf", '"x"', '""', "true", "null", "[]",
    "{}", "[1, [2]]", "1000000000000", "10" + "0" * 30, "1979-05-27", '"\\u0000"', "'''",
)  # fmt: skip


def picture(random: np.random.Generator, kind: str) -> bytes:
    stream = io.BytesIO()
    pixels = random.integers(0, 256, (SIDE + 3, SIDE, 3), dtype=np.uint8)
    if kind == "16-bit":
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 200).save(stream, "PNG")
    elif kind == "alpha":
        Image.fromarray(pixels).convert("RGBA").save(stream, "PNG")
    elif kind == "rotated":
        exif = Image.Exif()
        exif[0x0112] = int(random.integers(0, 12))
        Image.fromarray(pixels).save(stream, "JPEG", exif=exif)
    elif kind == "palette":
        Image.fromarray(pixels).convert("P").save(stream, "GIF")
    else:
        Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


KINDS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "16-bit", "alpha", "rotated", "palette")


def damage(content: bytes, random: np.random.Generator) -> bytes:
    """Truncates, flips, removes, repeats, overwrites or inserts bytes, once or more."""
    for _ in range(int(random.integers(1, 4))):
        n = len(content)
        a, b = sorted(random.integers(0, n + 1, 2).tolist())
        b = min(b, a + 64)
        some = random.bytes(int(random.integers(1, 9)))
        if random.random() < 0.5:  # headers are at the ends
            a, b = (a % 64, a % 64 + 4) if random.random() < 0.6 else (max(n - 12, 0), n)
        content = [
            content[:a],
            content[:a] + some + content[a + len(some) :],
            content[:a] + content[b:],
            content[:b] + content[a:],
            content[:a] + bytes(b - a) + content[b:],
            content[:a] + b"\xff" * (b - a) + content[b:],
            content[:a] + some + content[a:],
            b"",
        ][int(random.choice(8, p=[0.2, 0.25, 0.1, 0.1, 0.1, 0.1, 0.13, 0.02]))]
    return content


def garble(text: str, random: np.random.Generator) -> bytes:
    """Changes a value, swaps or removes lines, cuts the text, or puts a character in."""
    lines = text.splitlines()
    for _ in range(int(random.integers(1, 3))):
        i, j = random.integers(0, len(lines), 2)
        match random.integers(0, 6):
            case 0 | 1 | 2:
                values = list(re.finditer(r'(?<=[=:,] )("[^"]*"|[-\w.]+)', lines[i]))
                if values:
                    span = values[int(random.integers(len(values)))].span()
                    value = str(random.choice(VALUES))
                    lines[i] = lines[i][: span[0]] + value + lines[i][span[1] :]
            case 3:
                lines[i], lines[j] = lines[j], lines[i]
            case 4:
                lines[i] = lines[i][: int(random.integers(0, len(lines[i]) + 1))]
            case _:
                lines[i] += str(random.choice(["\x00", "é", "[", '"', "=", "\ufeff", "🙂", "\\"]))
    content = "\n".join(lines).encode()
    return content + b"\xff\xfe" if random.random() < 0.05 else content


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder, a recipe, a run of two levels, and a parquet file, all valid."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    folder, random = tmp_path_factory.mktemp("workshop"), np.random.default_rng(0)
    (folder / "data").mkdir()
    for index in range(16):
        pixels = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "data" / f"{index}.png")
    (folder / "tiny.toml").write_text(TINY)
    recipe = check_recipe(tomllib.loads(TINY), "tiny")
    assert train(RunConfig(recipe, folder / "run", data=str(folder / "data"))) is not None
    encoded = [{"bytes": picture(random, "PNG"), "path": None} for _ in range(4)]
    table = pa.table({"image": encoded, "label": [0, 1, 0, 1]})
    pq.write_table(table, folder / "images.parquet")
    np.savez(folder / "images.npz", images=random.integers(0, 256, (4, 9, 9, 3), dtype=np.uint8))
    return folder


@contextmanager
def time_limit() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"took longer than {SECONDS} seconds")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def invoke(*arguments: object) -> bool:
    """Runs a command; returns whether it succeeded, and fails at any other error than its own."""
    with time_limit():
        result = CliRunner().invoke(app, list(map(str, arguments)))
    if isinstance(result.exception, LapganError):
        assert str(result.exception).strip()
        return False
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code == 0


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def check_made(out: Path, *arguments: object) -> None:
    """Runs a command that makes `out`: whole if it succeeds, else nothing, and no leftovers."""
    before = {path.name for path in out.parent.iterdir()}
    assert invoke(*arguments, "--out", out) == out.exists()
    after = {path.name for path in out.parent.iterdir()}
    assert after - before <= {out.name}


def fuzz_pictures(workshop: Path, tmp: Path, random: np.random.Generator) -> None:
    folder = tmp / "pictures"
    folder.mkdir()
    for index in range(3):
        (folder / f"{index}.png").write_bytes(picture(random, "PNG"))
    kind = str(random.choice(KINDS))
    suffix = str(random.choice(["png", "jpg", "gif", "webp", "tiff"]))
    (folder / f"odd.{suffix}").write_bytes(damage(picture(random, kind), random))
    options = ["--skip-invalid"] * int(random.integers(2)) + ["--hold-out", "1"]
    check_made(tmp / "out", "prepare", folder, "--size", 8, *options)


def fuzz_coarse_image(workshop: Path, tmp: Path, random: np.random.Generator) -> None:
    (tmp / "coarse.png").write_bytes(damage(picture(random, str(random.choice(KINDS))), random))
    check_made(tmp / "out.png", "sample", workshop / "run", "--from", tmp / "coarse.png", "--n", 1)


def fuzz_source(workshop: Path, tmp: Path, random: np.random.Generator) -> None:
    name = str(random.choice(["images.parquet", "images.npz"]))
    (tmp / name).write_bytes(damage((workshop / name).read_bytes(), random))
    check_made(tmp / "out", "prepare", tmp / name, "--size", 8)


def fuzz_recipe(workshop: Path, tmp: Path, random: np.random.Generator) -> None:
    (tmp / "recipe.toml").write_bytes(garble(TINY, random))
    out, data = tmp / "out", workshop / "data"
    invoke("train", tmp / "recipe.toml", "--data", data, "--out", out, "--dry-run")
    assert not out.exists()


def fuzz_design(workshop: Path, tmp: Path, random: np.random.Generator) -> None:
    (tmp / "study.toml").write_bytes(garble(DESIGN, random))
    data = workshop / "data"
    options = ["--real", data, "--source", f"other={data}", "--split", "train"]
    out = tmp / "study"
    assert invoke("study", "new", out, *options, "--recipe", tmp / "study.toml") == out.exists()
    assert {path.name for path in tmp.iterdir()} <= {"study", "study.toml"}


def fuzz_weights(workshop: Path, tmp: Path, random: np.random.Generator) -> None:
    file, content = tmp / "model.safetensors", (workshop / "run/cascade.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    if random.random() < 0.6:  # the header, whose length is kept right
        header = garble(json.dumps(json.loads(content[8 : 8 + size]), indent=1), random)
        content = len(header).to_bytes(8, "little") + header + content[8 + size :]
    else:
        content = damage(content, random)
    file.write_bytes(content)
    invoke("info", file)
    check_made(tmp / "out.png", "sample", file, "--n", 1)
    check_made(tmp / "packed.safetensors", "pack", file)


def fuzz_metadata(workshop: Path, tmp: Path, random: np.random.Generator) -> None:
    """The recipe and the figures within the header of a weights file."""
    file, content = tmp / "model.safetensors", (workshop / "run/cascade.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    key = str(random.choice(sorted(header["__metadata__"])))
    value = header["__metadata__"][key]
    with suppress(ValueError):  # some values are plain text
        value = json.dumps(json.loads(value), indent=1)
    header["__metadata__"][key] = garble(value, random).decode(errors="replace")
    encoded = json.dumps(header).encode()
    file.write_bytes(len(encoded).to_bytes(8, "little") + encoded + content[8 + size :])
    invoke("info", file)
    check_made(tmp / "out.png", "sample", file, "--n", 1)


def fuzz_run(workshop: Path, tmp: Path, random: np.random.Generator) -> None:
    run = tmp / "run"
    shutil.copytree(workshop / "run", run)
    names = ["run.json", "level-6/state.safetensors", "level-12/log.jsonl",
             "level-12/weights.safetensors", "level-12/state.safetensors"]  # fmt: skip
    file = run / str(random.choice(names))
    is_text = file.suffix in (".json", ".jsonl")
    content = file.read_bytes()
    spoiled = garble(content.decode(), random) if is_text else damage(content, random)
    file.write_bytes(spoiled)
    before = contents(run)
    recipe, data = workshop / "tiny.toml", workshop / "data"
    if not invoke("train", recipe, "--data", data, "--out", run):
        after = contents(run)
        assert before.keys() <= after.keys()
        assert after[str(file.relative_to(run))] == spoiled
    invoke("info", run)
    check_made(tmp / "out.png", "sample", run, "--n", 1)


FUZZERS = [
    fuzz_pictures, fuzz_coarse_image, fuzz_source, fuzz_recipe, fuzz_design, fuzz_weights,
    fuzz_metadata, fuzz_run,
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("fuzz", FUZZERS)
def test_damaged_input_is_used_or_explained(
    fuzz: Callable[[Path, Path, np.random.Generator], None], workshop: Path, tmp_path: Path
):
    failures = []
    for seed in range(-(-CASES // len(FUZZERS))):
        folder = tmp_path / str(seed)
        folder.mkdir()
        try:
            fuzz(workshop, folder, np.random.default_rng(seed))
        except Exception as error:  # so that one run names all seeds that fail
            failures.append(f"seed {seed}: {type(error).__name__}: {error}"[:300])
        shutil.rmtree(folder)
    assert not failures, "\n".join(failures)


@pytest.mark.slow
def test_the_workshop_is_valid(workshop: Path, tmp_path: Path):
    """Undamaged, all of it works, so that the cases test the damage."""
    for source in ("data", "images.parquet", "images.npz"):
        assert invoke("prepare", workshop / source, "--size", 8, "--out", tmp_path / source)
    assert isinstance(Cascade.load(workshop / "run"), Cascade)
    (tmp_path / "study.toml").write_text(DESIGN)
    data = workshop / "data"
    options = ["--real", data, "--source", f"other={data}", "--split", "train"]
    options += ["--recipe", tmp_path / "study.toml"]
    assert invoke("study", "new", tmp_path / "study", *options)
