"""The command line: one file per group of commands.

PyTorch takes seconds to import, so each command imports what it needs.
"""

import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from lapgan.allocator import keep_freed_memory
from lapgan.cli.data import cache, entropy, prepare
from lapgan.cli.evaluate import evaluate
from lapgan.cli.export import demo, export
from lapgan.cli.models import info, pack, recipes
from lapgan.cli.sample import sample
from lapgan.cli.train import classifier, train
from lapgan.errors import LapganError
from lapgan.signals import end_signals
from lapgan.study.commands import study_app

__all__ = ["app", "main"]

app = typer.Typer(
    help="Laplacian pyramids of adversarial networks: image generators that work coarse to fine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
for command in (train, classifier, sample, evaluate, info, pack, recipes, prepare, cache, entropy,
                export, demo):  # fmt: skip
    app.command()(command)
app.add_typer(study_app, name="study")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lapgan {version('lapgan')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


def _replace_closed_streams() -> None:
    """Lets commands run whose output or messages were closed by the shell (`2>&-`)."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (for as long as the process lives)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115


def _exit(number: int, frame: object) -> None:
    sys.exit(128 + number)


def main() -> None:
    """Runs the command line; a LapganError becomes one message and exit status 1."""
    keep_freed_memory()
    _replace_closed_streams()
    for number in end_signals():
        # So that what is half written is removed, as on Ctrl-C.
        signal.signal(number, _exit)
    try:
        app()
    except LapganError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"[red]error:[/red] {escape(str(error))}"
        )
        sys.exit(1)
