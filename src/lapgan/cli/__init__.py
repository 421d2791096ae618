"""The command line: one file per group of commands.

PyTorch takes seconds to import, so each command imports what it needs.
"""

import sys

import typer
from rich.console import Console
from rich.markup import escape

from lapgan.allocator import keep_freed_memory
from lapgan.cli.data import entropy, prepare
from lapgan.cli.evaluate import evaluate
from lapgan.cli.models import info, pack, recipes
from lapgan.cli.sample import sample
from lapgan.cli.train import classifier, train
from lapgan.errors import LapganError
from lapgan.study.commands import study_app

__all__ = ["app", "main"]

app = typer.Typer(
    help="Laplacian pyramids of adversarial networks: image generators that work coarse to fine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (train, classifier, sample, evaluate, info, pack, recipes, prepare, entropy):
    app.command()(command)
app.add_typer(study_app, name="study")


def main() -> None:
    """Runs the command line; a LapganError becomes one message and exit status 1."""
    keep_freed_memory()
    try:
        app()
    except LapganError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"[red]error:[/red] {escape(str(error))}"
        )
        sys.exit(1)
