"""The command line: one short function a command.

PyTorch takes seconds to import, so each command imports what it needs.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from lapgan.errors import LapganError
from lapgan.study.commands import study_app

if TYPE_CHECKING:
    from lapgan.cascade import Cascade
    from lapgan.evaluation.metrics.entropy.levels import EntropyConfig
    from lapgan.recipe import Recipe
    from lapgan.training.listener import Callback
    from lapgan.training.run import Order

__all__ = ["app", "main"]

app = typer.Typer(
    help="Laplacian pyramids of adversarial networks: image generators that work coarse to fine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(study_app, name="study")
console = Console(highlight=False, soft_wrap=True)

RunOrFile = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="A run folder, a .safetensors file, or a model of the package."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")]
BestOf = Annotated[
    int,
    typer.Option(
        min=1, metavar="K", help="Of K candidates keep the one that shows its class best."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:INDEX.")]


def main() -> None:
    """Runs the command line; a LapganError becomes one message and exit status 1."""
    try:
        app()
    except LapganError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"[red]error:[/red] {escape(str(error))}"
        )
        sys.exit(1)


@app.command()
def train(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="A recipe's name (see `recipes`) or a TOML file."),
    ],
    out: Annotated[Path, typer.Option(help="The run folder; an interrupted run goes on in it.")],
    data: Annotated[
        str | None,
        typer.Option(help="cifar10, dead-leaves, a folder of images, parquet, or hub:OWNER/NAME."),
    ] = None,
    level: Annotated[
        list[str] | None, typer.Option(metavar="SIZE", help="Train this level only; repeatable.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Training time for all levels together.")
    ] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Examples each level sees.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Levels to train at once.")] = 1,
    seed: Seed = 0,
    device: Device = "auto",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out images that cannot be used.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard event files too.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")
    ] = False,
) -> None:
    """Train the levels of a cascade.

    Levels are trained coarsest first. Without --minutes and --images each sees as many examples as
    the recipe says. Stop with Ctrl-C; the same command goes on where it stopped.
    """
    from lapgan.recipe import read_recipe
    from lapgan.training.run import Order

    chosen = read_recipe(recipe, set_ or ())
    order = Order(
        recipe=chosen,
        data=_source(data, chosen),
        out=out,
        levels=tuple(_level_index(chosen, name) for name in level or ()),
        images=images,
        minutes=minutes,
        jobs=jobs,
        seed=seed,
        device=device,
        on_invalid="skip" if skip_bad else "stop",
    )
    if dry_run:
        _describe(order)
    else:
        _train(order, tensorboard)


@app.command()
def classifier(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder of `train`.")],
    data: Annotated[
        str | None, typer.Option(help="What the run learns from, as for `train`.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0, help="Training time.")] = 10.0,
    level: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Judge this level; by default the one below the finest."),
    ] = None,
    maps: Annotated[int | None, typer.Option(min=1, help="How wide it is; 64 by default.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out images that cannot be used.")
    ] = False,
) -> None:
    """Give a class-conditional run a classifier, for `sample --best-of`.

    It learns from the real images alone, and the levels are left as they are. Stop with Ctrl-C;
    the same command goes on where it stopped.
    """
    from lapgan.training.classifier import ClassifierConfig, held_out_accuracy, train_classifier
    from lapgan.training.folder import recipe_of
    from lapgan.training.job import Budget

    order = ClassifierConfig(
        out=run,
        data=_source(data, recipe_of(run)),
        budget=Budget(2**62, 60 * minutes),
        level=level,
        maps=maps,
        seed=seed,
        device=device,
        on_invalid="skip" if skip_bad else "stop",
    )
    _trained(run, device, lambda listener: train_classifier(order, listener))
    found = held_out_accuracy(order)
    if found is not None:
        console.print(f"right on {found[0]:.1%} of {found[1]:,} held-out images")


@app.command()
def sample(
    model: RunOrFile,
    out: Annotated[
        Path, typer.Option(help="What to write: a .png sheet, an .npz file, or a folder of PNGs.")
    ],
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many images.")] = 64,
    seed: Seed = 0,
    class_: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME", help="Only this class, or its index; repeatable."),
    ] = None,
    chain: Annotated[
        bool, typer.Option("--chain", help="Show every level beside its residual (.png only).")
    ] = False,
    from_: Annotated[
        Path | None,
        typer.Option("--from", help="Refine this coarse image, as n samples of it."),
    ] = None,
    best_of: BestOf = 1,
    zoom: Annotated[int, typer.Option(min=1, max=16, help="Enlarge the sheet.")] = 1,
    device: Device = "auto",
) -> None:
    """Generate images from noise, or from a given coarse image."""
    from lapgan.cascade import Cascade
    from lapgan.compute import choose_compute
    from lapgan.sampling import Draw, read_coarse, write_chain, write_images

    cascade = Cascade.load(model, choose_compute(device)).best_of(best_of)
    coarse = None if from_ is None else read_coarse(from_)
    draw = Draw(cascade, n, seed, cascade.labels(n, class_ or ()), coarse)
    write = write_chain if chain else write_images
    write(draw, out, zoom)
    console.print(f"wrote {escape(str(out))}")


@app.command()
def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Run folders, .safetensors files, or folders of images that another program "
            "made; NAME=PATH gives a name.",
        ),
    ],
    data: Annotated[str, typer.Option(help="What the models were trained on, as for `train`.")],
    metrics: Annotated[
        str | None, typer.Option(help="Which, with commas; all by default. See docs/evaluation.md.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="On few images: two minutes for CIFAR-10.")
    ] = False,
    images: Annotated[
        int | None, typer.Option(min=1, help="Images of each model, instead of 10,000.")
    ] = None,
    scale: Annotated[
        str, typer.Option(help="Of the pixels, for Parzen: standardised, unit or symmetric.")
    ] = "standardised",
    extractor: Annotated[
        list[str] | None,
        typer.Option(help="Net for features: lite0 or inception; repeatable. lite0 by default."),
    ] = None,
    inception_weights: Annotated[
        Path | None,
        typer.Option(help="Inception's weights, for FID; fetched by --extractor inception."),
    ] = None,
    best_of: BestOf = 1,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="The folder of the report.")] = Path("evaluation"),
    device: Device = "auto",
) -> None:
    """Tell how good models are: likelihoods, distances, dependence between levels, and a report."""
    with _needs("eval"):
        from lapgan.evaluation.config import DEFAULT, QUICK, EvaluationConfig
        from lapgan.evaluation.report import write_report
        from lapgan.evaluation.suite import evaluate as run

    config = EvaluationConfig(
        models,
        data,
        counts=QUICK if quick else DEFAULT,
        images=images,
        metrics=None if metrics is None else metrics.split(","),
        scale=scale,
        extractors=extractor or (),
        inception_weights=inception_weights,
        best_of=best_of,
        seed=seed,
        device=device,
    )
    evaluation = run(config, lambda measurement: console.print(escape(str(measurement))))
    for path in write_report(evaluation, out):
        console.print(f"wrote {escape(str(path))}")


@app.command()
def info(model: RunOrFile) -> None:
    """Describe a trained model."""
    from lapgan.weights import CLASSIFIER, read_weights

    weights = read_weights(model)
    recipe = weights.recipe
    console.print(f"{recipe.name}: {escape(recipe.description)}")
    console.print(f"operator {recipe.pyramid.operator}, data {recipe.data.normalisation}")
    console.print(f"classes: {', '.join(map(escape, weights.class_names)) or 'none'}")
    for key in recipe.levels:
        count = sum(t.numel() for name, t in weights.tensors.items() if f"levels.{key}." in name)
        figures = weights.training.get(key)
        told = "no weights yet" if figures is None else _told(figures)
        console.print(f"level {key}: {count:,} parameters in G, {told}")
    if weights.classifier is not None:
        chosen, figures = weights.classifier, weights.training[CLASSIFIER]
        console.print(f"classifier of level {chosen.level}: {_told(figures)}")


@app.command()
def pack(
    model: RunOrFile,
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
) -> None:
    """Write a trained model as one small file, in half precision."""
    from lapgan.weights import halved, read_weights, write_weights

    if out.suffix != ".safetensors":
        raise LapganError(f"--out {out}: expected a name that ends in .safetensors.")
    weights = read_weights(model)
    weights.check_complete(model)
    write_weights(out, halved(weights))
    console.print(f"wrote {escape(str(out))}, {out.stat().st_size / 2**20:.1f} MiB")


@app.command()
def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Print this one instead.")
    ] = None,
) -> None:
    """List the recipes of the package, or print one."""
    from lapgan.recipe import read_recipe, recipe_names, recipe_text

    if name is not None:
        typer.echo(recipe_text(name))
        return
    for known in recipe_names():
        console.print(f"{known:18} {escape(read_recipe(known).description)}")


@app.command()
def prepare(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Pictures: a folder, parquet, or hub:OWNER/NAME.")
    ],
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    size: Annotated[int, typer.Option(min=2, help="Height and width of the new pictures.")] = 64,
    n: Annotated[
        int | None, typer.Option("--n", "-n", min=1, help="Only the first n pictures.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="Which part of the data: train, test, or a name they have for it.")
    ] = "train",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out pictures that cannot be used.")
    ] = False,
) -> None:
    """Crop and reduce your pictures to squares of one size, as training needs them."""
    with _needs("data"):
        from lapgan.data import prepare_images

        count = prepare_images(
            data, out, (size, size), split=split, count=n, on_invalid="skip" if skip_bad else "stop"
        )
    console.print(f"wrote {count:,} pictures to {escape(str(out))}")


@app.command()
def entropy(
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help="cifar10, dead-leaves, a folder, parquet, or hub:."),
    ],
    recipe: Annotated[
        str | None, typer.Option(help="Take sizes, operator and noise from this recipe.")
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(help="The levels instead, finest first: 32,16,8,4.")
    ] = None,
    operator: Annotated[
        str, typer.Option(help="With --sizes: burt-adelson, bilinear or block-mean.")
    ] = "block-mean",
    minutes: Annotated[
        float,
        typer.Option(
            min=0, help="CPU minutes for the finest level; coarser ones half, then a quarter."
        ),
    ] = 4.0,
    n: Annotated[int, typer.Option("--n", "-n", min=2, help="How many test images.")] = 1000,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="A .json report; an interrupted one goes on.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="A figure: .svg, .png or .pdf.")] = None,
) -> None:
    """Bound the entropy of each level given the next coarser one, in bits a pixel."""
    with _needs("eval"):
        from lapgan.data import open_images
        from lapgan.evaluation.metrics.entropy.levels import measure_entropy
        from lapgan.evaluation.metrics.entropy.views import make_entropy_table, write_entropy_plot

    settings = _entropy_settings(recipe, sizes, operator, minutes, n, seed)
    train, test = (open_images(data, split=split) for split in ("train", "test"))
    report = measure_entropy(train, test, settings, out)
    console.print(make_entropy_table(report))
    if plot is not None:
        write_entropy_plot(report, plot)


@contextmanager
def _needs(extra: str) -> Iterator[None]:
    """Turns a missing package into what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise LapganError(
            f"this command needs {error.name}, which is not installed: "
            f"pip install 'lapgan[{extra}]'."
        ) from None


def _source(data: str | None, recipe: "Recipe") -> str:
    if data is not None or recipe.data.source is not None:
        return data or recipe.data.source or ""
    raise LapganError(
        f"recipe {recipe.name} names no data of its own; say where the images are with --data."
    )


def _entropy_settings(
    recipe: str | None, sizes: str | None, operator: str, minutes: float, n: int, seed: int
) -> "EntropyConfig":
    from lapgan.evaluation.metrics.entropy.levels import EntropyConfig
    from lapgan.pyramid import OPERATORS
    from lapgan.recipe import read_recipe
    from lapgan.sizes import parse_size

    if (recipe is None) == (sizes is None):
        raise LapganError("entropy: say either --recipe NAME or --sizes such as 32,16,8,4.")
    if recipe is not None:
        return EntropyConfig.of_recipe(read_recipe(recipe), minutes, n, seed)
    for known in OPERATORS:
        if operator == known:
            levels = tuple(parse_size(size.strip()) for size in (sizes or "").split(","))
            return EntropyConfig(levels, known, minutes, n, seed)
    raise LapganError(f"--operator {operator}: expected one of {', '.join(OPERATORS)}.")


def _level_index(recipe: "Recipe", name: str) -> int:
    if name in recipe.levels:
        return list(recipe.levels).index(name)
    raise LapganError(
        f"--level {name}: recipe {recipe.name} has the levels {', '.join(recipe.levels)}."
    )


def _train(order: "Order", tensorboard: bool) -> None:
    from lapgan.training.display import CallbackList, TensorBoard
    from lapgan.training.run import train

    def run(listener: "Callback") -> "Cascade | None":
        if tensorboard:
            listener = CallbackList([listener, TensorBoard(order.out)])
        return train(order, listener)

    _trained(order.out, order.device, run)


def _trained(out: Path, device: str, run: "Callable[[Callback], Cascade | None]") -> None:
    """Shows a training run while it goes, and says how it ended."""
    from lapgan.compute import choose_compute
    from lapgan.training.display import shown
    from lapgan.training.folder import CASCADE_FILE

    console.print(f"computing on {choose_compute(device)}")
    try:
        with shown(console) as listener:
            cascade = run(listener)
    except KeyboardInterrupt:
        console.print(f"stopped; the same command goes on from {escape(str(out))}")
        raise typer.Exit(130) from None
    if cascade is not None:
        console.print(f"wrote {escape(str(out / CASCADE_FILE))}")


def _describe(order: "Order") -> None:
    """Prints what a training run would do."""
    from lapgan.compute import choose_compute
    from lapgan.training.run import plan

    console.print_json(order.recipe.model_dump_json())
    for line in plan(order):
        console.print(escape(line))
    console.print(f"computing on {choose_compute(order.device)}; nothing was written (--dry-run)")


def _told(figures: "dict[str, object]") -> str:
    data = figures["data"]
    name = data["name"] if isinstance(data, dict) else data
    return (
        f"{figures['images_seen']:,} images in {figures['seconds']} s on {name}, "
        f"seed {figures['seed']}, {figures['compute']}"
    )
