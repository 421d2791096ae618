"""Who hears of a training run."""

from lapgan.training.job import Budget
from lapgan.training.log import AnyRecord

__all__ = ["Callback"]


class Callback:
    """What a training run tells while it goes; this one hears nothing.

    A level is named by its size; the classifier of a run, which is told of likewise, by that word.

    A plain object with three callbacks, so that a terminal, a queue between processes and a
    TensorBoard writer can listen to the same loop.
    """

    def started(self, level: str, images: int, seconds: float, budget: Budget) -> None:
        """A level begins, or goes on after `images` examples and `seconds`."""

    def recorded(self, level: str, record: AnyRecord) -> None:
        """A line was logged."""

    def warned(self, message: str) -> None:
        """Something looks wrong."""
