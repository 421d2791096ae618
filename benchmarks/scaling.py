"""What training costs as its parts grow: ranks, levels at once, image size, minibatch, images.

    python benchmarks/scaling.py --data cifar10 [--steps 40] [--out scaling.json]
    python benchmarks/scaling.py --read scaling.json --plot docs/pictures/scaling.png

Each row is a run of its own: `lapgan train` in a new process, or `torchrun` with several, on one
thread per process. Images per second are those after the first record, so that start and data are
not in them; ratios are against the first row of a table.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from matplotlib import pyplot as plt

_RECIPE = """
name = "scaling"
[training]
batch = {batch}
images = {images}
objective = "relativistic"
optimiser = {{ kind = "adam", betas = [0.0, 0.99] }}
[pyramid]
operator = "area-linear"
[levels.{size}]
noise = {{ kind = "mixed", dimension = 16, planes = 2 }}
generator = {{ kind = "residual", maps = [{maps}, {maps}] }}
discriminator = {{ kind = "residual", maps = [{maps}, {maps}] }}
[levels.{half}]
noise = {{ kind = "vector", dimension = 16, distribution = "normal" }}
generator = {{ kind = "residual-coarsest", maps = {maps} }}
discriminator = {{ kind = "residual", maps = [{maps}] }}
"""


def _train(
    data: str, steps: int, *, size: int = 32, batch: int = 64, ranks: int = 1, jobs: int = 1
) -> float:
    """Returns the images per second of the finest level, or of both together with two jobs."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.toml"
        text = _RECIPE.format(batch=batch, images=steps * batch, size=size, half=size // 2, maps=32)
        recipe.write_text(text)
        start = [sys.executable]
        if ranks > 1:
            start += ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
        levels = [] if jobs > 1 else ["--level", str(size)]
        subprocess.run(
            [*start, "-m", "lapgan", "train", str(recipe), "--data", data, "--out", f"{folder}/run",
             "--jobs", str(jobs), *levels],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        logs = Path(folder).glob("run/level-*/log.jsonl")
        return sum(_rate(log) for log in logs)


def _random_images(folder: Path, size: int) -> str:
    pixels = np.random.default_rng(0).integers(256, size=(512, size, size, 3), dtype=np.uint8)
    np.savez(folder / f"{size}.npz", images=pixels)
    return str(folder / f"{size}.npz")


def _rate(log: Path) -> float:
    """Returns the images per second between the first record and the last."""
    records = [json.loads(line) for line in log.read_text().splitlines()]
    first, last = records[0], records[-1]
    if first is last:
        return last["images_per_second"]
    return (last["images_seen"] - first["images_seen"]) / (last["seconds"] - first["seconds"])


def _table(title: str, rows: Sequence[tuple[str, float]]) -> None:
    print(f"\n| {title} | images/s | ratio |\n|---|---|---|")
    for name, rate in rows:
        print(f"| {name} | {rate:.1f} | {rate / rows[0][1]:.2f} |")


def main(
    data: Annotated[str, typer.Option(help="Images of 32x32.")] = "dead-leaves:2048",
    steps: Annotated[int, typer.Option(min=1)] = 150,
    out: Annotated[Path | None, typer.Option(help="A file for the tables, as JSON.")] = None,
    read: Annotated[
        Path | None, typer.Option(help="What --out wrote, instead of measuring.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="A picture of all but the first table.")] = None,
) -> None:
    """Measures all of it and prints tables in Markdown."""
    if read:
        tables = json.loads(read.read_text())
    else:
        print(f"{os.cpu_count()} cores, PyTorch {torch.__version__}")
        with tempfile.TemporaryDirectory() as folder:
            tables = _measure(data, steps, Path(folder))
    for title, rows in tables.items():
        _table(title, rows)
    if out:
        out.write_text(json.dumps(tables, indent=1))
    if plot:
        _plot({title: rows for title, rows in tables.items() if "processes" not in title}, plot)


def _plot(tables: Mapping[str, Sequence[tuple[str, float]]], path: Path) -> None:
    """Draws images per second against what grows, both on logarithmic scales."""
    figure, axes = plt.subplots(1, len(tables), figsize=(9, 2.8), layout="constrained")
    for axis, (title, rows) in zip(axes, tables.items(), strict=True):
        sizes = [int(name.replace(",", "")) for name, _ in rows]
        axis.loglog(sizes, [rate for _, rate in rows], "o-", color="tab:blue")
        axis.set_xticks(sizes, [name for name, _ in rows], minor=False)
        axis.set_xticks([], minor=True)
        axis.set(xlabel=title, ylim=(8, 500))
        axis.set_yticks([10, 30, 100, 300], ["10", "30", "100", "300"])
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("images per second")
    figure.savefig(path, dpi=100)


def _measure(data: str, steps: int, folder: Path) -> dict[str, list[tuple[str, float]]]:
    return {
        "processes, level 32": [
            ("one", _train(data, steps)),
            ("two ranks of torchrun, one level", _train(data, steps, ranks=2)),
            ("two levels side by side", _train(data, steps, jobs=2)),
        ],
        "images per minibatch, level 32": [
            (str(batch), _train(data, max(steps * 64 // batch, 8), batch=batch))
            for batch in (16, 32, 64, 128)
        ],
        "height and width": [
            (
                str(size),
                _train(_random_images(folder, size), max(steps * 32**2 // size**2, 8), size=size),
            )
            for size in (16, 32, 64, 96)
        ],
        "images in the data set, level 32": [
            (f"{count:,}", _train(f"dead-leaves:{count}", steps))
            for count in (512, 2048, 8192, 32768)
        ],
    }


if __name__ == "__main__":
    typer.run(main)
