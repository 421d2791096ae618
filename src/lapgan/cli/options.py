"""Options and arguments that several commands share, and the console."""

import os
import shlex
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import IO, Annotated, Any, Literal, cast

import typer
from rich.console import Console
from rich.markup import escape

from lapgan.files import encode_json

__all__ = [
    "BestOf",
    "Device",
    "Json",
    "ModelPath",
    "Precision",
    "Seed",
    "SkipInvalid",
    "StartFrom",
    "complete_recipe",
    "console",
    "on_invalid",
    "print_json",
    "print_note",
    "quote",
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


# No emoji: `lsun:mountain:64` is a name of data.
console = Console(file=cast(IO[str], _Output()), emoji=False, highlight=False, soft_wrap=True)


def complete_recipe(incomplete: str) -> list[str]:
    """Returns the package's recipes that begin with a text, for completion by the shell."""
    return _complete("lapgan.recipes", ".toml", incomplete)


def _complete_model(incomplete: str) -> list[str]:
    return _complete("lapgan.pretrained", ".safetensors", incomplete)


def _complete(package: str, suffix: str, incomplete: str) -> list[str]:
    """Lists files of the package without PyTorch, which takes seconds to import."""
    names = (entry.name for entry in resources.files(package).iterdir())
    stems = (name.removesuffix(suffix) for name in names if name.endswith(suffix))
    return sorted(stem for stem in stems if stem.startswith(incomplete))


ModelPath = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="A run folder, a .safetensors file, a model of the package, or hub:OWNER/NAME.",
        autocompletion=_complete_model,
    ),
]
StartFrom = Annotated[
    Path | None,
    typer.Option(
        metavar="MODEL",
        help="G starts with the weights of this trained model; of a run folder, D too.",
        autocompletion=_complete_model,
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")]
BestOf = Annotated[
    int,
    typer.Option(
        min=1, metavar="K", help="Of K candidates keep the one that shows its class best."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:INDEX or mps.")]
Precision = Annotated[
    str,
    typer.Option(help="auto, float32 or bfloat16. auto: bfloat16 where it is faster."),
]
SkipInvalid = Annotated[
    bool,
    typer.Option("--skip-invalid", "--skip-bad", help="Leave out images that cannot be used."),
]


def on_invalid(skip: bool) -> Literal["stop", "skip"]:
    """Returns what to do about images that cannot be used."""
    return "skip" if skip else "stop"


def print_json(content: Any) -> None:
    """Prints plain data as one JSON document: all that a command prints with --json."""
    console.file.write(encode_json(content) + "\n")


def print_note(text: str) -> None:
    """Prints a line on stderr, beside the result."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(escape(text))


def quote(path: Path) -> str:
    """Returns a path as one word of the shell."""
    return subprocess.list2cmdline([str(path)]) if os.name == "nt" else shlex.quote(str(path))
