"""Signals that ask a run to stop."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lapgan.signals import end_signals

__all__ = ["stop_signals"]


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turns Ctrl-C, SIGTERM and a closed terminal into a question to ask between steps.

    A second Ctrl-C is final.
    """
    requested = threading.Event()

    def ask(number: int, frame: object) -> None:
        if requested.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        requested.set()

    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, *end_signals())}
    try:
        yield requested.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
