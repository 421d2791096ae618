"""Laplacian pyramids of adversarial networks: image generators that work from coarse to fine.

The names below are the public face of the package; they are imported when they are first used,
since PyTorch takes seconds to import. Every other module is private by convention: it may change
without notice.

>>> import lapgan
>>> lapgan.Cascade.load("cifar10-cc").sample(64, seed=0).shape
torch.Size([64, 3, 32, 32])
"""

from importlib import import_module
from typing import TYPE_CHECKING

from lapgan.errors import LapganError

if TYPE_CHECKING:
    from lapgan.cascade import Cascade
    from lapgan.data import Images, open_images
    from lapgan.evaluation import EvaluationConfig, evaluate
    from lapgan.recipe import Recipe, read_recipe
    from lapgan.training import RunConfig, train

__all__ = [
    "Cascade",
    "EvaluationConfig",
    "Images",
    "LapganError",
    "Recipe",
    "RunConfig",
    "evaluate",
    "open_images",
    "read_recipe",
    "train",
]

_HOMES = {
    "Cascade": "lapgan.cascade",
    "EvaluationConfig": "lapgan.evaluation",
    "Images": "lapgan.data",
    "Recipe": "lapgan.recipe",
    "RunConfig": "lapgan.training",
    "evaluate": "lapgan.evaluation",
    "open_images": "lapgan.data",
    "read_recipe": "lapgan.recipe",
    "train": "lapgan.training",
}


def __getattr__(name: str) -> object:
    """Imports a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lapgan' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
