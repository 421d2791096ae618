"""The one exception that a user is meant to read."""

__all__ = ["LapganError"]


class LapganError(Exception):
    """Input that the package cannot use: the message says what, where, and what to do.

    The command line prints the message alone, without a traceback.
    """
