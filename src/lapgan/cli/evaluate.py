"""The command that measures models."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from lapgan.cli.options import BestOf, Device, Json, Precision, Seed, console, print_json
from lapgan.errors import requires

if TYPE_CHECKING:
    from lapgan.evaluation.measurement import Measurement

__all__ = ["evaluate"]


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Run folders, .safetensors files, or images that another program generated (a "
            "folder or .npz file); NAME=PATH gives a name.",
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
        int | None, typer.Option(min=1, help="Images per model, instead of 10,000.")
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
    precision: Precision = "auto",
    json: Json = False,
) -> None:
    """Measure models: likelihoods, distances, dependence between levels, and write a report.

    The processes of torchrun share the sampling and the features; see docs/scaling.md.
    """
    with requires("eval", "`lapgan evaluate`"):
        from lapgan.distributed import join_ranks
        from lapgan.evaluation.config import DEFAULT, QUICK, EvaluationConfig
        from lapgan.evaluation.report import check_report_folder, describe, write_report
        from lapgan.evaluation.suite import evaluate as run

    config = EvaluationConfig(
        models=tuple(models),
        data=data,
        counts=QUICK if quick else DEFAULT,
        images=images,
        metrics=None if metrics is None else tuple(metrics.split(",")),
        scale=scale,
        extractors=tuple(extractor or ()),
        inception_weights=inception_weights,
        best_of=best_of,
        seed=seed,
        device=device,
        precision=precision,
    )

    def show(measurement: "Measurement") -> None:
        if not json:
            console.print(escape(str(measurement)))

    with join_ranks(device) as ranks:
        if ranks.is_main:
            check_report_folder(out)
        evaluation = run(config, show)
        if not ranks.is_main:
            return
        written = write_report(evaluation, out)
    if json:
        print_json(describe(evaluation))
        return
    for path in written:
        console.print(f"wrote {escape(str(path))}")
