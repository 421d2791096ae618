from pathlib import Path

import pytest

from lapgan.compute import choose_compute
from lapgan.data import Images
from lapgan.normalization import symmetric_normalization
from lapgan.recipe import Recipe
from lapgan.training.job import Budget, LevelTask


@pytest.fixture
def job(tiny: Recipe, images: Images, tmp_path: Path) -> LevelTask:
    """The finest level of the tiny recipe, for eight steps."""
    return LevelTask(
        recipe=tiny,
        k=0,
        images=images,
        normalization=symmetric_normalization((12, 12)),
        folder=tmp_path / "level-12",
        budget=Budget(images=64),
        seed=0,
        compute=choose_compute("cpu"),
    )
