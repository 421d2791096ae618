"""Huszár's comment on the paper, tried out: noises and supervised mixes at equal cost.

    LAPGAN_DATA=... python benchmarks/critique.py all --out critique [--minutes 2] [--seeds 0,1]
        [--precision auto] [--variants paper:plane,paper:vector-100,...] [--images 1500]
    python benchmarks/critique.py table --out critique

A variant is a net, a noise and a supervised mix at level 14 of `paper-cifar10`, on 8x8 images below
it; the level below is not trained: it shows held-out photographs. Minutes are CPU minutes of one
core: a net with a plane of noise sees as many images as fit into them, any other variant of the net
as many more or fewer as its steps are cheaper or dearer, timed by turns with those of the plane.
Each variant and seed is one process on one thread, with its result in OUT/VARIANT-SEED/result.json;
results that are there are not computed again, and an interrupted training goes on. `table` prints
docs/critique.md's table from them.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False)

LEVEL = "14"
# Blocks that are timed, after one that fills caches; each has as many steps as a penalty's period.
BLOCKS, BLOCK = 8, 4
# Pairs for the dependence; low-pass images and draws for the bits of noise.
PAIRS, LOWS, DRAWS = 256, 4, 1024
RESIDUAL = (
    'training.objective="relativistic"',
    'training.penalty={ kind = "exact", weight = 1.0, every = 4 }',
    'training.optimiser={ kind = "adam", learning_rate = 4e-4, betas = [0.0, 0.99] }',
    "training.clip_gradients=5.0",
    "training.batch=64",
    'levels.14.generator={ kind = "residual", maps = [32, 64], style = 64, groups = 8 }',
    'levels.14.discriminator={ kind = "residual", maps = [32, 64], units = 64 }',
)
NETS: dict[str, tuple[str, ...]] = {"paper": (), "residual": RESIDUAL}
NOISES = {
    "plane": '{ kind = "plane" }',
    "normal": '{ kind = "plane", distribution = "normal" }',
    "vector-100": '{ kind = "vector", dimension = 100 }',
    "vector-16": '{ kind = "vector", dimension = 16 }',
    "sublinear": '{ kind = "sublinear", exponent = 0.5, coefficient = 8.0 }',
    "low-rank": '{ kind = "low-rank", rank = 100 }',
    "hashed": '{ kind = "hashed", dimension = 100 }',
    "mixed": '{ kind = "mixed", dimension = 64, planes = 4 }',
}
MIXES = {
    "l1": '{ weight = 3.0, distance = "l1" }',
    "l2": '{ weight = 3.0, distance = "l2" }',
    "pyramid": '{ weight = 3.0, distance = "pyramid" }',
    "features": '{ weight = 3.0, distance = "features" }',
    "best-of-4": '{ weight = 3.0, distance = "l1", best_of = 4 }',
    "fading": '{ weight = 3.0, distance = "l1", schedule = "cosine", final = 0.0 }',
}
DEFAULT = (
    "paper:plane,paper:vector-100,paper:plane:l1,paper:plane:best-of-4,paper:vector-16,"
    "residual:plane,residual:vector-100,residual:plane:l1,residual:plane:best-of-4,"
    "paper:sublinear,paper:low-rank,paper:hashed,paper:normal,"
    "paper:plane:l2,paper:plane:pyramid,paper:plane:features,paper:plane:fading"
)


def path_name(variant: str) -> str:
    """Returns what a variant is called in the names of files."""
    return variant.replace(":", "+")


def recipe_of(variant: str) -> Any:
    """Reads NET:NOISE or NET:NOISE:MIX as a recipe."""
    from lapgan.recipe import read_recipe

    net, noise, *mix = variant.split(":")
    changes = [*NETS[net], f"levels.{LEVEL}.noise={NOISES[noise]}"]
    changes += [f"levels.{LEVEL}.supervised={MIXES[name]}" for name in mix]
    return read_recipe("paper-cifar10", changes)


def level_task(variant: str, folder: Path, precision: str) -> Any:
    """Prepares the training of a variant's level, for trial steps."""
    from lapgan.compute import choose_compute
    from lapgan.data import open_images
    from lapgan.run_folder import PartFolder
    from lapgan.training.config import Budget
    from lapgan.training.examples import normalization_of, training_batches
    from lapgan.training.level import LevelTask

    recipe, images = recipe_of(variant), open_images("cifar10")
    return LevelTask(
        recipe=recipe, level=recipe.level(LEVEL), batches=training_batches(recipe, images, 0),
        normalization=normalization_of(recipe, images), folder=PartFolder(folder / "timed"),
        budget=Budget(images=10**9), seed=0, compute=choose_compute("cpu", precision),
    )  # fmt: skip


def time_steps(variants: list[str], folder: Path, precision: str) -> list[list[float]]:
    """Returns the CPU seconds of a step of each variant, one value per block; blocks take turns."""
    tasks = [level_task(variant, folder, precision) for variant in variants]
    states, seconds = [task.initial_state() for task in tasks], [[] for _ in tasks]
    for _ in range(1 + BLOCKS):
        for task, state, blocks in zip(tasks, states, seconds, strict=True):
            start = time.process_time()
            for _ in range(BLOCK):
                task.step(state)
            blocks.append((time.process_time() - start) / BLOCK)
    return [blocks[1:] for blocks in seconds]


def plan_images(variant: str, minutes: float, out: Path, precision: str) -> int:
    """Returns how many images a variant may see; every seed of it sees as many."""
    from lapgan.files import write_json

    plan = out / f"{path_name(variant)}.json"
    if not plan.exists():
        plane, batch = f"{variant.split(':')[0]}:plane", recipe_of(variant).training.batch
        if variant == plane:
            # What else a machine does makes steps slower, never faster.
            (seconds,) = time_steps([variant], out, precision)
            images = 60 * minutes / min(seconds) * batch
        else:
            ours, theirs = time_steps([variant, plane], out, precision)
            price = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
            images = plan_images(plane, minutes, out, precision) / price
        write_json(plan, {"images": batch * max(1, round(images / batch))})
    return int(json.loads(plan.read_text())["images"])


def train_variant(
    variant: str, minutes: float, seed: int, folder: Path, precision: str
) -> dict[str, Any]:
    """Trains the level for as many images as fit; returns what training cost, and its course."""
    from lapgan.training.config import LogIntervals, RunConfig
    from lapgan.training.log import read_records
    from lapgan.training.run import train

    recipe, images = recipe_of(variant), plan_images(variant, minutes, folder.parent, precision)
    intervals = LogIntervals(log=2.0, checkpoint=30.0, first_sheet=1e9)
    start = time.process_time()
    train(RunConfig(recipe, folder / "run", "cifar10", (LEVEL,), images=images, seed=seed,
                    device="cpu", precision=precision, intervals=intervals))  # fmt: skip
    records = list(read_records(folder / "run" / f"level-{LEVEL}" / "log.jsonl"))
    return {
        "images_seen": images,
        "cpu_seconds": time.process_time() - start,
        "accuracy_of_d": [
            [r["images_seen"], (r["real_accuracy"] + r["fake_accuracy"]) / 2] for r in records
        ],
    }


def cascade_of(variant: str, folder: Path, photographs: Any) -> Any:
    """Makes a cascade of the trained level above photographs (n, 3, 28, 28)."""
    from dependence import FromPhotographs

    from lapgan.cascade import Cascade, Level
    from lapgan.cascade.levels import build_level
    from lapgan.compute import choose_compute
    from lapgan.noise import VectorNoise
    from lapgan.pyramid import gaussian_pyramid
    from lapgan.weights import read_weights

    path = folder / "run" / f"level-{LEVEL}" / "weights.safetensors"
    weights = read_weights(path)
    recipe, normalization = weights.recipe, weights.normalization
    *_, coarse = gaussian_pyramid(
        normalization.normalize(photographs), recipe.sizes, recipe.pyramid.operator
    )
    photographer = FromPhotographs(coarse, lambda _, image: image)
    below = Level(recipe.sizes[-1], VectorNoise(dimension=1), photographer)
    level = build_level(path, weights, recipe.level(LEVEL))
    return Cascade(recipe, [level, below], normalization, compute=choose_compute("cpu", "float32"))


def images_at_level(split: str, first: int, count: int, cascade: Any) -> Any:
    """Returns real images at the level's size, uint8, as training sees them."""
    from lapgan.data import open_images
    from lapgan.evaluation.real import read_crops
    from lapgan.pyramid import gaussian_pyramid

    pixels = read_crops(open_images("cifar10", split=split), range(first, first + count), (28, 28))
    sizes = cascade.recipe.sizes[:2]
    image = gaussian_pyramid(
        cascade.normalization.normalize(pixels), sizes, cascade.recipe.pyramid.operator
    )[-1]
    return cascade.normalization.denormalize(image)


def real_features(count: int, cascade: Any, cache: Path) -> Any:
    """Returns the features of training images, computed once for all variants."""
    import safetensors.torch

    from lapgan.evaluation.features.extract import Features, extract_features, load_extractor
    from lapgan.weights import write_tensors

    path = cache / f"real-{count}.safetensors"
    if not path.exists():
        images = images_at_level("train", 0, count, cascade)
        write_tensors(path, {"values": extract_features(images, load_extractor()).values}, {})
    return Features(safetensors.torch.load_file(path)["values"])


def measure(cascade: Any, count: int, seed: int, cache: Path) -> dict[str, Any]:
    """Measures distance, dependence, and the use of noise."""
    from lapgan.evaluation.features.extract import extract_features, load_extractor
    from lapgan.evaluation.metrics.dependence.measure import measure_dependence
    from lapgan.evaluation.metrics.frechet import frechet_distance
    from lapgan.evaluation.metrics.noise_use import measure_noise_use
    from lapgan.pyramid import upsample

    size, real = cascade.sizes[0], real_features(count, cascade, cache)
    distance = frechet_distance(
        real, extract_features(cascade.sample(count, seed), load_extractor())
    )
    held_out = images_at_level("test", 5000, 4 * PAIRS, cascade)
    (level,) = measure_dependence(cascade, held_out, PAIRS, 2 * PAIRS, seed)
    shown = next(iter(cascade.stages(LOWS, seed + 1)))
    low = upsample(shown[0].image, size, cascade.operator)
    use = measure_noise_use(cascade, 0, low, draws=DRAWS, seed=seed)
    return {
        "fd-lite0": [distance.value, distance.error],
        "fidelity_ratio": pair(level.generated.fidelity.ratio),
        "noise_fraction": pair(level.diversity.noise_fraction),
        "diversity": pair(level.diversity.relative_to_real),
        "bits_image": pair(level.generated.image.local.mutual_information),
        "bits_detail": pair(level.generated.detail.local.mutual_information),
        "real_bits_image": pair(level.real.image.local.mutual_information),
        "real_bits_detail": pair(level.real.detail.local.mutual_information),
        "noise_entropy": use.entropy,
        "noise_lower": pair(use.lower),
        "noise_upper": pair(use.upper),
        "noise_dimension": pair(use.dimension),
        "noise_rank": cascade.levels[0].noise.covariance_rank(size),
    }


def pair(estimate: Any) -> list[float | None]:
    """Returns an estimate as value and standard error."""
    return [estimate.value, estimate.error]


@app.command("one", hidden=True)
def one(variant: str, minutes: float, seed: int, images: int, precision: str, folder: Path) -> None:
    """Trains and measures one variant."""
    import torch

    from lapgan.allocator import keep_freed_memory
    from lapgan.data import open_images
    from lapgan.evaluation.real import read_crops
    from lapgan.files import write_json
    from lapgan.pictures import write_png

    torch.set_num_threads(1)
    keep_freed_memory()
    training = train_variant(variant, minutes, seed, folder, precision)
    photographs = read_crops(open_images("cifar10", split="test"), range(5000), (28, 28))
    cascade = cascade_of(variant, folder, photographs)
    write_png(folder / "samples.png", cascade.sample(64, seed), zoom=4)
    start = time.process_time()
    figures = measure(cascade, images, seed, folder.parent)
    write_json(folder / "result.json", {
        "variant": variant, "minutes": minutes, "seed": seed, "precision": precision,
        **training, **figures,
        "evaluation_seconds": time.process_time() - start, "torch": torch.__version__,
    })  # fmt: skip


@app.command("all")
def everything(
    out: Annotated[Path, typer.Option()],
    minutes: Annotated[float, typer.Option(help="CPU minutes of training per variant.")] = 2.0,
    seeds: Annotated[str, typer.Option()] = "0,1",
    variants: Annotated[str, typer.Option(help="NET:NOISE[:MIX], comma-separated.")] = DEFAULT,
    images: Annotated[int, typer.Option(help="Images for the distance.")] = 1500,
    precision: Annotated[str, typer.Option(help="Of training, as `lapgan train` has it.")] = "auto",
) -> None:
    """Trains and measures all variants, the first seed of all before the second."""
    for seed in seeds.split(","):
        for variant in variants.split(","):
            folder = out / f"{path_name(variant)}-{seed}"
            if (folder / "result.json").exists():
                continue
            folder.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, __file__, "one", variant, str(minutes), seed, str(images),
                       precision, str(folder)]  # fmt: skip
            threads = {**os.environ, "OMP_NUM_THREADS": "1"}
            with (folder / "log.txt").open("a") as log:
                failed = subprocess.run(command, stdout=log, stderr=log, env=threads).returncode
            print(f"{variant}, seed {seed}: " + (
                f"failed, see {log.name}" if failed else describe(folder / "result.json")
            ), flush=True)  # fmt: skip
    table(out)


@app.command("reference")
def reference(
    out: Annotated[Path, typer.Option()],
    images: Annotated[int, typer.Option(help="Images for the distance.")] = 1500,
) -> None:
    """Measures the distance of what needs no training: held-out images, and residuals of zero.

    It takes the normalization from any variant that was trained.
    """
    from lapgan.data import open_images
    from lapgan.evaluation.features.extract import extract_features, load_extractor
    from lapgan.evaluation.metrics.frechet import frechet_distance
    from lapgan.evaluation.real import read_crops
    from lapgan.files import write_json
    from lapgan.pyramid import upsample

    folder = next(path.parent for path in sorted(out.glob("*/result.json")))
    variant = json.loads((folder / "result.json").read_text())["variant"]
    photographs = read_crops(open_images("cifar10", split="test"), range(images), (28, 28))
    cascade = cascade_of(variant, folder, photographs)
    coarse = cascade.levels[1].generator.photographs
    low = upsample(coarse, cascade.sizes[0], cascade.operator)
    shown = {
        "held-out images": images_at_level("test", 0, images, cascade),
        "residual of zero": cascade.normalization.denormalize(low),
    }
    real, extractor = real_features(images, cascade, out), load_extractor()
    values = {
        name: frechet_distance(real, extract_features(pixels, extractor)).value
        for name, pixels in shown.items()
    }
    write_json(out / "reference.json", values)
    print(values)


@app.command("shown")
def shown(
    models: Annotated[list[str], typer.Argument(help="Model or run, as MODEL:SIZE.")],
    draws: Annotated[int, typer.Option()] = 2048,
    lows: Annotated[int, typer.Option(help="Low-pass images.")] = 4,
    seed: int = 0,
) -> None:
    """Prints how many bits of its noise a level of a trained model shows."""
    from lapgan.cascade import Cascade
    from lapgan.evaluation.metrics.noise_use import draw_low_pass, measure_noise_use

    print("| model | noise | rank | at least | at most | directions |")
    print("|---" * 6 + "|")
    for text in models:
        name, _, level = text.rpartition(":")
        cascade = Cascade.load(name)
        k = cascade.recipe.level_names.index(level)
        low, labels = draw_low_pass(cascade, k, lows, seed)
        use = measure_noise_use(cascade, k, low, labels, draws, seed)
        rank = cascade.levels[k].noise.covariance_rank(cascade.sizes[k])
        cells = [f"{name} at {level}", f"{use.entropy:,.0f}", f"{rank:,}"]
        cells += [f"{x.value:,.0f} ± {x.error:,.0f}" for x in (use.lower, use.upper, use.dimension)]
        print("| " + " | ".join(cells) + " |", flush=True)


def describe(path: Path) -> str:
    """Returns one line of a result."""
    row = json.loads(path.read_text())
    return f"fd-lite0 {row['fd-lite0'][0]:.1f}, {row['images_seen']:,} images"


# Heading, figure, and digits after the point.
COLUMNS = (
    ("fd-lite0", "fd-lite0", 0),
    ("fidelity ratio", "fidelity_ratio", 3),
    ("sd given l / real sd", "diversity", 2),
    ("fraction of noise", "noise_fraction", 2),
    ("bits in image", "bits_image", 2),
    ("bits in detail", "bits_detail", 2),
    ("bits of noise", "noise_entropy", 0),
    ("shown, at least", "noise_lower", 0),
    ("at most", "noise_upper", 0),
    ("directions", "noise_dimension", 1),
)


@app.command("table")
def table(out: Annotated[Path, typer.Option()]) -> None:
    """Prints the results: the mean over seeds, and the values of single seeds if there are two."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(out.glob("*/result.json")):
        row = json.loads(path.read_text())
        rows.setdefault(row["variant"], []).append(row)
    order = [variant for variant in DEFAULT.split(",") if variant in rows]
    headings = ["variant", "seeds", "images", "D right, %", *(heading for heading, _, _ in COLUMNS)]
    print("| " + " | ".join(headings) + " |")
    print("|---" * len(headings) + "|")
    for variant in [*order, *(name for name in rows if name not in order)]:
        results = rows[variant]
        right = zip(*(quarters(r["accuracy_of_d"]) for r in results), strict=True)
        cells = [variant.replace(":", " "), str(len(results)),
                 f"{statistics.mean(r['images_seen'] for r in results):,.0f}",
                 ", ".join(f"{100 * statistics.mean(part):.0f}" for part in right)]  # fmt: skip
        cells += [spread([value_of(r[key]) for r in results], digits) for _, key, digits in COLUMNS]
        print("| " + " | ".join(cells) + " |")


def quarters(course: list[list[float]]) -> list[float]:
    """Returns the mean of a course over each quarter of the images of a training."""
    ends = [course[-1][0] * part / 4 for part in range(5)]
    return [
        statistics.mean(value for images, value in course if start < images <= end)
        for start, end in itertools.pairwise(ends)
    ]


def value_of(figure: Any) -> float:
    """Returns a figure without its standard error."""
    return float(figure[0] if isinstance(figure, list) else figure)


def spread(values: list[float], digits: int) -> str:
    """Returns the mean, and half the range of the seeds."""
    text = f"{statistics.mean(values):,.{digits}f}"
    half = (max(values) - min(values)) / 2
    return text if half == 0 else f"{text} ± {half:,.{digits}f}"


if __name__ == "__main__":
    app()
