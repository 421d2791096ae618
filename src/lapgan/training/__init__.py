"""Training: each level is a task of its own, with its own folder, log and checkpoint."""

from lapgan.training.config import Budget, LogIntervals, RunConfig
from lapgan.training.run import train

__all__ = ["Budget", "LogIntervals", "RunConfig", "train"]
