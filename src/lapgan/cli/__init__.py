"""The command line: one file per group of commands.

PyTorch takes seconds to import, so each command imports what it needs.

Every command ends with one of these statuses: 0, it is done; 1, a LapganError; 2, the command line
itself is wrong; 70, a fault of this package; 128 + n, it was ended by signal n, 130 by Ctrl-C.
"""

import io
import logging
import os
import signal
import sys
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from lapgan.allocator import keep_freed_memory
from lapgan.cli.assemble import assemble
from lapgan.cli.data import cache, entropy, prepare
from lapgan.cli.doctor import doctor
from lapgan.cli.evaluate import evaluate
from lapgan.cli.export import demo, export
from lapgan.cli.models import info, pack, recipes
from lapgan.cli.options import console
from lapgan.cli.push import push
from lapgan.cli.runs import runs, watch
from lapgan.cli.sample import sample
from lapgan.cli.train import classifier, train
from lapgan.errors import LapganError
from lapgan.signals import end_signals
from lapgan.study.commands import study_app

__all__ = ["app", "main"]

# Commands that share their work among the processes of `torchrun`.
_FOR_RANKS = ("train", "sample", "evaluate")

app = typer.Typer(
    help="Laplacian pyramids of adversarial networks: image generators that work coarse to fine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
_COMMANDS = (
    *(train, classifier, sample, evaluate, info, pack, assemble, push, recipes, runs, watch),
    *(prepare, cache, entropy, doctor, export, demo),
)
for command in _COMMANDS:
    app.command()(command)
app.add_typer(study_app, name="study")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lapgan {version('lapgan')}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    if _rank() is not None and context.invoked_subcommand not in _FOR_RANKS:
        raise LapganError(
            f"lapgan {context.invoked_subcommand}: torchrun would do this once per process; start "
            f"it without torchrun, which is for {', '.join(_FOR_RANKS)}."
        )


def _rank() -> int | None:
    """Returns which process of `torchrun` this is; None if it started none, or one only."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    return int(os.environ.get("RANK", "0"))


def _speaker() -> str:
    return f"rank {_rank()}: " if _rank() else ""


def _prepare_streams() -> None:
    """Lets commands run whose streams the shell closed (`2>&-`), or that lack characters.

    A pipe of Windows, for one, takes the characters of one language only; others become `?`.
    """
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (never closed)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _exit(number: int, frame: object) -> None:
    # A command that is ending with an error says why: `torchrun` sends SIGTERM to every other rank
    # when one has ended, which is just when they notice it themselves.
    if not isinstance(sys.exception(), LapganError):
        sys.exit(128 + number)


def main() -> None:
    """Runs the command line; a LapganError becomes one message and exit status 1.

    The other statuses are listed in the module's docstring.
    """
    keep_freed_memory()
    _prepare_streams()
    for number in end_signals():
        # So that what is half written is removed, as on Ctrl-C.
        signal.signal(number, _exit)
    if _rank():
        console.quiet = True
        logging.getLogger("lapgan").setLevel(logging.ERROR)
    try:
        app()
    except LapganError as error:
        Console(stderr=True, emoji=False, highlight=False, soft_wrap=True).print(
            f"[red]error:[/red] {_speaker()}{escape(str(error))}"
        )
        sys.exit(1)
    except Exception:
        traceback.print_exc()
        print(
            "This is a fault in lapgan, not in what you typed. Please report it with the lines "
            "above and the output of `lapgan doctor`.",
            file=sys.stderr,
        )
        sys.exit(70)
