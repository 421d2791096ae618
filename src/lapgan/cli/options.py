"""Options and arguments that several commands share, and the console."""

import os
import sys
from pathlib import Path
from typing import IO, Annotated, Any, Literal, cast

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


class _Output:
    """Standard output, which falls silent when nobody reads it any more; the work goes on."""

    def write(self, text: str) -> int:
        """Writes text, as a stream does."""
        try:
            return sys.stdout.write(text)
        except OSError:
            self._fall_silent()
            return len(text)

    def flush(self) -> None:
        """Flushes the stream."""
        try:
            sys.stdout.flush()
        except OSError:
            self._fall_silent()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)

    def _fall_silent(self) -> None:
        # The descriptor is replaced, not the stream alone, which is flushed again at the exit.
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


console = Console(file=cast(IO[str], _Output()), highlight=False, soft_wrap=True)

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
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:INDEX or mps.")]
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
