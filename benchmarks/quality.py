"""Quality at equal cost: fd-lite0 against minutes of one device, ours and others.

    pip install torchgan diffusers      # on CUDA also lightweight-gan and stylegan2-pytorch
    LAPGAN_DATA=... python benchmarks/quality.py all --out quality [--device cpu]
        [--minutes 5,15,30] [--seeds 0] [--models cifar10-cc-small,dcgan,ddpm]
        [--n 1500,5000] [--jobs 2]

A model is a peer (`peers.py`), or a recipe with changes: `cifar10-cc-small:training.batch=64`.
Without --models, all peers are compared with the recipes for that kind of device.

On a CPU minutes are minutes of one core: trainings run in processes of their own on one thread. On
CUDA they are minutes of the device, which one training at a time should have. A recipe is
trained anew for each budget, since its learning rate falls over the budget; a peer, whose rate does
not, continues from its shorter budget. The samples are then compared with as many training images
at their size. Results are in OUT/MODEL-MINUTES-SEED/result-N.json and are not computed again; an
interrupted training continues. OUT/quality-N.json and OUT/quality-N.svg show all those of N
samples: fewer are for a comparison with a model that takes minutes for a hundred.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False)

_MODELS = {
    "cpu": "cifar10-cc-small,cifar10-small,paper-cifar10,gan-baseline,dcgan,ddpm",
    "cuda": "cifar10-cc,cifar10,paper-cifar10,gan-baseline,dcgan,ddpm,stylegan2,lightweight-gan",
}


def samples_of(
    model: str, minutes: float, seed: int, n: int, folder: Path, device: str
) -> tuple[Any, int]:
    """Trains a model and returns n samples and the images it saw, at the finest level."""
    import torch
    from peers import PEERS, sample_peer, train_peer

    from lapgan.compute import choose_compute
    from lapgan.data import open_images
    from lapgan.recipe import read_recipe
    from lapgan.training.config import RunConfig
    from lapgan.training.run import train

    if model in PEERS:
        pixels = torch.from_numpy(open_images("cifar10").pixels[:].copy())
        peer, seen = train_peer(
            model, choose_compute(device), pixels, 60 * minutes, seed,
            folder.parent / f"{model}-{seed}",
        )  # fmt: skip
        return sample_peer(peer, n, seed), seen
    name, *changes = model.split(":")
    recipe = read_recipe(name, changes)
    cascade = train(
        RunConfig(recipe, folder / "run", "cifar10", minutes=minutes, seed=seed, device=device)
    )
    assert cascade is not None
    return cascade.sample(n, seed), cascade.training[recipe.level_names[0]]["images_seen"]


@app.command("one", hidden=True)
def one(model: str, minutes: float, seed: int, n: str, folder: Path, device: str) -> None:
    """Measures one model after one budget, on each number of samples in n."""
    import torch

    from lapgan.data import open_images
    from lapgan.evaluation.features.extract import (
        extract_features,
        load_extractor,
        read_real_features,
    )
    from lapgan.evaluation.metrics.frechet import frechet_distance
    from lapgan.files import write_json
    from lapgan.pictures import write_png

    if device == "cpu":
        torch.set_num_threads(1)
    counts = counts_of(n)
    images, seen = samples_of(model, minutes, seed, counts[-1], folder, device)
    write_png(folder / "samples.png", images[:: len(images) // 64][:64], zoom=2)
    extractor = load_extractor()
    size = (images.shape[-2], images.shape[-1])
    real = read_real_features(open_images("cifar10"), range(counts[-1]), extractor, size=size)
    drawn = extract_features(images, extractor)
    for count in counts:
        distance = frechet_distance(real[:count], drawn[:count], seed)
        write_json(result_file(folder, count), {
            "model": model, "minutes": minutes, "seed": seed, "n": count, "images_seen": seen,
            "fd-lite0": distance.value, "error": distance.error, "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        })  # fmt: skip


def counts_of(text: str) -> list[int]:
    """Reads numbers of samples, "1500,5000", the smallest first."""
    return sorted(map(int, text.split(",")))


def result_file(folder: Path, n: int) -> Path:
    """Returns the file of the result of n samples."""
    return folder / f"result-{n}.json"


@app.command("all")
def everything(
    out: Annotated[Path, typer.Option()],
    minutes: Annotated[str, typer.Option()] = "5,15,30",
    models: Annotated[str, typer.Option(help="By default all for the device.")] = "",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    seeds: Annotated[str, typer.Option()] = "0",
    n: Annotated[str, typer.Option(help="Numbers of samples.")] = "5000",
    jobs: Annotated[int, typer.Option(help="Trainings at once, one core each.")] = 1,
) -> None:
    """Measures all models, each after its shortest budget first."""
    if device not in _MODELS:
        raise typer.BadParameter(f"--device {device}: expected cpu or cuda.")
    models = models or _MODELS[device]
    budgets, counts = sorted(minutes.split(","), key=float), counts_of(n)
    trainings = [(model, seed) for seed in seeds.split(",") for model in models.split(",")]

    def measure(training: tuple[str, str]) -> None:
        model, seed = training
        for budget in budgets:
            measure_after(budget, model, seed, out, n, device)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(measure, trainings))
    for count in counts:
        draw(out, count, "one core" if device == "cpu" else "the GPU")


def measure_after(budget: str, model: str, seed: str, out: Path, n: str, device: str) -> None:
    """Measures a model after a budget in a process of its own, unless that was done before."""
    folder = out / f"{model}-{budget}-{seed}"
    results = [result_file(folder, count) for count in counts_of(n)]
    if not all(result.exists() for result in results):
        folder.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        command = [sys.executable, __file__, "one", model, budget, seed, n, str(folder), device]
        threads = {"OMP_NUM_THREADS": "1"} if device == "cpu" else {}
        with (folder / "log.txt").open("a") as log:
            failed = subprocess.run(
                command, stdout=log, stderr=log, env={**os.environ, **threads}
            ).returncode
        if failed:
            print(f"{model}, {budget} minutes, seed {seed}: failed, see {log.name}", flush=True)
            return
        print(f"{(time.monotonic() - start) / 60:.1f} minutes in all, ", end="")
    for result in results:
        row = json.loads(result.read_text())
        print(f"{model}, {budget} minutes, seed {seed}: fd-lite0 {row['fd-lite0']:.1f} +- "
              f"{row['error']:.1f} of {row['n']:,}, {row['images_seen']:,} seen",
              flush=True)  # fmt: skip


def draw(out: Path, n: int, what: str) -> None:
    """Writes the results of n samples and their plot: a dot per seed, lines through the means."""
    from matplotlib.figure import Figure

    from lapgan.files import write_atomically, write_json
    from lapgan.plots import COLORS, MARKERS, look, svg

    rows = [
        json.loads(path.read_text()) for path in sorted(out.glob(str(result_file(Path("*"), n))))
    ]
    write_json(out / f"quality-{n}.json", rows)
    with look():
        figure = Figure(figsize=(6.4, 4), layout="constrained")
        axes = figure.subplots()
        for i, model in enumerate(sorted({row["model"] for row in rows})):
            values = defaultdict(list)
            for row in rows:
                if row["model"] == model:
                    values[row["minutes"]].append(row["fd-lite0"])
            color, marker = COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]
            times = sorted(values)
            means = [statistics.mean(values[time]) for time in times]
            axes.plot(times, means, color=color, label=model)
            dots = [(time, value) for time in times for value in values[time]]
            axes.scatter(
                *zip(*dots, strict=True),
                color=color,
                marker=marker,
            )
        axes.set(xlabel=f"minutes of {what}", ylabel="fd-lite0", xscale="log", ylim=(0, None))
        axes.legend()
        write_atomically(out / f"quality-{n}.svg", svg(figure, "fd-lite0 against minutes").encode())


if __name__ == "__main__":
    app()
