"""The command that publishes a model."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from lapgan.cli.options import ModelPath, console, print_note
from lapgan.errors import LapganError

if TYPE_CHECKING:
    from lapgan.weights import Weights

__all__ = ["push"]


def push(
    model: ModelPath,
    name: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="The model's name on the Hugging Face Hub.")
    ],
    evaluation: Annotated[
        Path | None,
        typer.Option(help="The report.json of `lapgan evaluate`, for the card's table."),
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="Which model of that report, if it has several.")
    ] = None,
    license_: Annotated[
        str | None,
        typer.Option("--license", help="Of the weights: its identifier on the Hub, such as mit."),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="In half precision, as `pack` writes it.")
    ] = False,
    private: Annotated[
        bool, typer.Option("--private", help="A new repository is visible to its owner alone.")
    ] = False,
    message: Annotated[str, typer.Option(help="Of the commit.")] = "Upload of a lapgan cascade",
    out: Annotated[
        Path | None, typer.Option(help="Write the files into this new folder and upload nothing.")
    ] = None,
) -> None:
    """Publish a trained model on the Hugging Face Hub: weights, configuration and a model card.

    The file names the data as you typed it for training. Log in first with `hf auth login`.
    """
    from lapgan.hub import check_repository, upload_folder
    from lapgan.publishing import read_evaluation, write_model_folder
    from lapgan.weights import halve_precision, read_weights

    check_repository(name)
    if subject is not None and evaluation is None:
        raise LapganError(
            "--subject: names a model of a report; give the report with --evaluation."
        )
    evaluated = None if evaluation is None else read_evaluation(evaluation, subject)
    weights = read_weights(model)
    weights.check_complete(model)
    weights = halve_precision(weights) if half else weights
    if license_ is None:
        print_note("note: without --license nobody else may use the weights.")
    if out is not None:
        write_model_folder(out, weights, name, evaluated, license_)
        console.print(f"wrote {escape(str(out))}; data named in it: {_data_names(weights)}")
        return
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        write_model_folder(folder, weights, name, evaluated, license_)
        address = upload_folder(folder, name, private=private, message=message)
    console.print(f"uploaded to {escape(address)}; data named in it: {_data_names(weights)}")
    console.print(f"next: lapgan sample hub:{escape(name)} --out samples.png")


def _data_names(weights: "Weights") -> str:
    sources = [figures["data"] for figures in weights.training.values()]
    names = (data["name"] if isinstance(data, Mapping) else data for data in sources)
    return escape(", ".join(dict.fromkeys(map(str, names))) or "none")
