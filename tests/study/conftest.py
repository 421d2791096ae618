import os
from pathlib import Path

import pytest
from serving import write_images

from lapgan.study.design import Design
from lapgan.study.stimuli import freeze


@pytest.fixture
def make_study(tmp_path):
    """Freezes a small study of random images; keywords change the design."""
    studies = []

    def make(fakes=("lapgan", "gan"), **changes):
        keys = {"trials": 12, "blocks": 2, "practice_trials": 2, "catch_trials": 2, "zoom": 1}
        design = Design.model_validate({**keys, "examples": 2, "images_per_source": 16, **changes})
        real = write_images(tmp_path, 60, 1)
        sources = {
            name: str(write_images(tmp_path, 60, seed)) for seed, name in enumerate(fakes, 2)
        }
        studies.append(freeze(tmp_path / f"study-{len(studies)}", design, str(real), sources))
        return studies[-1]

    return make


@pytest.fixture
def cifar10():
    """The CIFAR-10 test images in parquet, below the folder that LAPGAN_DATA names."""
    path = Path(os.environ.get("LAPGAN_DATA", "data")) / "cifar10" / "test.parquet"
    if not path.is_file():
        pytest.skip(f"{path} is missing; set LAPGAN_DATA")
    return path
