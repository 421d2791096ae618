"""Laplacian pyramids of adversarial networks: image generators that work coarse to fine.

`lapgan.Cascade.load("runs/cc").sample(64)` is the shortest way to images.
"""

from typing import TYPE_CHECKING

from lapgan.errors import LapganError

if TYPE_CHECKING:
    from lapgan.cascade import Cascade

__all__ = ["Cascade", "LapganError"]


def __getattr__(name: str) -> object:
    """Imports `Cascade`, and PyTorch with it, when it is first asked for."""
    if name == "Cascade":
        from lapgan.cascade import Cascade

        return Cascade
    raise AttributeError(f"module 'lapgan' has no attribute {name!r}")
