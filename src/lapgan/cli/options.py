"""Options and arguments that several commands share, and the console."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

__all__ = [
    "BestOf",
    "Device",
    "ModelPath",
    "Precision",
    "Seed",
    "SkipInvalid",
    "console",
    "on_invalid",
]

console = Console(highlight=False, soft_wrap=True)

ModelPath = Annotated[
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
Precision = Annotated[
    str,
    typer.Option(help="auto, float32 or bfloat16. auto: bfloat16 where there are matrix units."),
]
SkipInvalid = Annotated[
    bool,
    typer.Option("--skip-invalid", "--skip-bad", help="Leave out images that cannot be used."),
]


def on_invalid(skip: bool) -> Literal["stop", "skip"]:
    """Returns what to do about images that cannot be used."""
    return "skip" if skip else "stop"
