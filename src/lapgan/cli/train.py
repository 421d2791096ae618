"""Commands that train: the levels of a cascade, and its classifier."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from lapgan.cli.options import (
    Device,
    Precision,
    Seed,
    SkipInvalid,
    StartFrom,
    complete_recipe,
    console,
    on_invalid,
    quote,
)

if TYPE_CHECKING:
    from lapgan.cascade import Cascade
    from lapgan.compute import Compute
    from lapgan.training.callbacks import Callback
    from lapgan.training.classifier import ClassifierConfig
    from lapgan.training.config import RunConfig

__all__ = ["classifier", "train"]


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A recipe's name (see `recipes`) or a TOML file.",
            autocompletion=complete_recipe,
        ),
    ],
    out: Annotated[Path, typer.Option(help="The run folder; an interrupted run continues in it.")],
    data: Annotated[
        str | None,
        typer.Option(help="A data source, such as cifar10 or a folder of images."),
    ] = None,
    level: Annotated[
        list[str] | None, typer.Option(metavar="SIZE", help="Train this level only; repeatable.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Training time for all levels together.")
    ] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Examples per level.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Levels to train at once.")] = 1,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    compile_: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile",
            help="Compile G and D by torch.compile; by default on CUDA devices.",
        ),
    ] = None,
    cuda_graphs: Annotated[
        bool,
        typer.Option(
            "--cuda-graphs/--no-cuda-graphs",
            help="Replay the steps of training as CUDA graphs on a CUDA device.",
        ),
    ] = True,
    skip_invalid: SkipInvalid = False,
    select: Annotated[
        str | None,
        typer.Option(
            metavar="CRITERION",
            help="Keep the best averaged G by this score of held-out images, parzen or fd, and "
            "sample with it.",
        ),
    ] = None,
    select_every: Annotated[
        int, typer.Option(min=1, metavar="IMAGES", help="Examples between two scores.")
    ] = 50_000,
    start_from: StartFrom = None,
    workers: Annotated[
        int,
        typer.Option(min=0, help="Processes that decode the images of stream:SOURCE; 0: a thread."),
    ] = 0,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard event files too.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")
    ] = False,
) -> None:
    """Train the levels of a cascade.

    Levels are trained coarsest first. Without --minutes and --images each level sees as many
    examples as the recipe says. Stop with Ctrl-C; the same command continues where it stopped.
    """
    from lapgan.recipe import read_recipe
    from lapgan.training.config import RunConfig

    criterion = None
    if select is not None:
        from lapgan.selection import choose_criterion

        criterion = choose_criterion(select, select_every)

    config = RunConfig(
        recipe=read_recipe(recipe, set_ or ()),
        out=out,
        data=data,
        levels=tuple(level or ()),
        images=images,
        minutes=minutes,
        jobs=jobs,
        seed=seed,
        device=device,
        precision=precision,
        compile=compile_,
        cuda_graphs=cuda_graphs,
        on_invalid=on_invalid(skip_invalid),
        select=criterion,
        workers=workers,
        start_from=start_from,
    )
    if dry_run:
        _print_plan(config)
    else:
        _train(config, tensorboard)


def classifier(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="A run folder of `train`; with --out, any model."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Train it in this folder, and write MODEL with it there."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="The data that MODEL was trained on, as for `train`.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0, help="Training time.")] = 10.0,
    level: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Classify this level; by default the one next to the finest."
        ),
    ] = None,
    maps: Annotated[int | None, typer.Option(min=1, help="Its width; 64 by default.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    skip_invalid: SkipInvalid = False,
) -> None:
    """Give a class-conditional run or model a classifier, for `sample --best-of`.

    It is trained on the real images alone, and the levels stay as they are. Stop with Ctrl-C; the
    same command continues where it stopped.
    """
    from lapgan.training.classifier import ClassifierConfig, held_out_accuracy, train_classifier
    from lapgan.training.config import Budget

    config = ClassifierConfig(
        out=out or model,
        model=model if out else None,
        budget=Budget(seconds=60 * minutes),
        data=data,
        level=level,
        maps=maps,
        seed=seed,
        device=device,
        precision=precision,
        on_invalid=on_invalid(skip_invalid),
    )
    _show_training(config, lambda callback: train_classifier(config, callback))
    result = held_out_accuracy(config)
    if result is not None:
        accuracy, count = result
        console.print(f"right on {accuracy:.1%} of {count:,} held-out images")


def _train(config: "RunConfig", tensorboard: bool) -> None:
    from lapgan.training.callbacks import Callback, CallbackList, TensorBoard
    from lapgan.training.run import train

    class CostReport(Callback):
        def opened(self, data: str) -> None:
            _print_costs(config)

    def run(callback: Callback) -> "Cascade | None":
        callbacks = [callback, CostReport()]
        if tensorboard:
            callbacks.append(TensorBoard(config.out))
        return train(config, CallbackList(callbacks))

    _show_training(config, run)
    _print_selection(config)


def _print_selection(config: "RunConfig") -> None:
    """Says which weights of each level were selected."""
    from lapgan.run_folder import RunFolder
    from lapgan.training.selection import selection_of

    if config.select is None:
        return
    for level in config.selected_levels:
        selected = selection_of(RunFolder(config.out).part(level.name), level.name)
        console.print(
            f"level {level.name}: no weights were selected yet; the first score is due after "
            f"{config.select.every:,} images"
            if selected is None
            else f"level {level.name}: selected the weights after {selected['images_seen']:,} "
            f"images ({selected['by']} {selected['score']:.6g})"
        )


def _print_costs(config: "RunConfig") -> None:
    """Prints what each level of a run that has not begun will cost on this machine."""
    from lapgan.distributed import current_ranks
    from lapgan.run_folder import RunFolder
    from lapgan.training.cost import advise, measure_costs

    # A step of one rank alone would wait for the others.
    if current_ranks().size > 1 or any(RunFolder(config.out).weights_files()):
        return
    compute, costs = _choose_compute(config), []
    # What is measured is neither compiled nor replayed.
    expected = "expected, at least" if compute.compiled else "expected"
    for cost in measure_costs(config, compute):
        costs.append(cost)
        console.print(f"{expected}: {cost}")
    if advice := advise(config.recipe, costs, compute.device):
        console.print(f"note: {escape(advice)}")


def _show_training(
    config: "RunConfig | ClassifierConfig", run: "Callable[[Callback], Cascade | None]"
) -> None:
    """Shows progress while a training runs, and its result."""
    from lapgan.run_folder import RunFolder
    from lapgan.training.callbacks import progress_callback

    console.print(f"computing on {_choose_compute(config)}")
    try:
        with progress_callback(console) as callback:
            cascade = run(callback)
    except KeyboardInterrupt:
        console.print(f"stopped; the same command continues from {escape(str(config.out))}")
        raise typer.Exit(130) from None
    if cascade is not None:
        folder = RunFolder(config.out)
        console.print(f"wrote {escape(str(folder.cascade))}")
        if folder.samples.exists():
            console.print(f"samples of all levels: {escape(str(folder.samples))}")
        # The folder of a model's classifier has no levels.
        model = escape(quote(config.out if folder.has_levels() else folder.cascade))
        console.print(f"next: lapgan sample {model} --zoom 2 --out samples.png")


def _print_plan(config: "RunConfig") -> None:
    """Prints what a training run would do."""
    from lapgan.training.run import plan

    console.print_json(config.recipe.model_dump_json())
    for line in plan(config):
        console.print(escape(line))
    console.print(
        f"computing on {_choose_compute(config)}; nothing was trained or written to the run folder "
        "(--dry-run; decoded images stay in the cache)"
    )


def _choose_compute(config: "RunConfig | ClassifierConfig") -> "Compute":
    from lapgan.compute import choose_compute
    from lapgan.training.config import RunConfig
    from lapgan.training.folder import recorded_precision
    from lapgan.training.run import choose_run_compute

    if isinstance(config, RunConfig):
        return choose_run_compute(config)
    return choose_compute(config.device, recorded_precision(config.out, config.precision))
