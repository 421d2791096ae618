"""The one exception that a user is meant to read."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["LapganError", "requires"]


class LapganError(Exception):
    """Input that the package cannot use: the message says what, where, and what to do.

    The command line prints the message alone, without a traceback.
    """


@contextmanager
def requires(extra: str, purpose: str) -> Iterator[None]:
    """Turns a missing optional package into the command that installs it.

    Args:
        extra: the extra of this package that brings it, such as `eval`.
        purpose: what needs it, as the subject of the sentence: "reading parquet files".

    Raises:
        LapganError: an import within the block failed because a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("lapgan"):
            raise  # a fault of this package, which no installation mends
        raise LapganError(
            f"{purpose} needs the package {error.name}, which is not installed. Install it with "
            f"pip install -e '.[{extra}]' in the folder of the source of lapgan."
        ) from error
