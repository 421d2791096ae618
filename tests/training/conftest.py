from pathlib import Path

import pytest

from lapgan.compute import choose_compute
from lapgan.data import Images
from lapgan.normalization import symmetric_normalization
from lapgan.recipe import Recipe
from lapgan.run_folder import PartFolder
from lapgan.training.config import Budget
from lapgan.training.examples import training_batches
from lapgan.training.level import LevelTask


@pytest.fixture
def task(tiny: Recipe, images: Images, tmp_path: Path) -> LevelTask:
    """The finest level of the tiny recipe, for eight steps."""
    return LevelTask(
        recipe=tiny,
        level=tiny.level("12"),
        batches=training_batches(tiny, images, seed=0),
        normalization=symmetric_normalization((12, 12)),
        folder=PartFolder(tmp_path / "level-12"),
        budget=Budget(images=64),
        seed=0,
        compute=choose_compute("cpu"),
    )
