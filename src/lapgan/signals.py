"""Signals of the system that end a process."""

import signal

__all__ = ["end_signals"]


def end_signals() -> list[signal.Signals]:
    """Returns the signals that end the process: SIGTERM, and those of a terminal that is closed.

    Those that the process was started to ignore, as `nohup` does, are left out.
    """
    names = ("SIGTERM", "SIGHUP", "SIGBREAK")  # Windows has the first and the last
    numbers = [number for number in signal.Signals if number.name in names]
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
