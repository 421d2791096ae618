"""The examples for clusters: they parse, and their commands are ones that lapgan accepts."""

import re
import shlex
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import typer.main
import yaml

from lapgan.cli import app
from lapgan.recipe import read_recipe

_FOLDER = Path(__file__).parent.parent / "examples" / "scaling"
_FILES = sorted(_FOLDER.iterdir())


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.name)
def test_the_command_is_one_of_lapgan_and_its_levels_are_those_of_the_recipe(path: Path) -> None:
    text = path.read_text()
    command = re.search(r"lapgan train (.+)", text.replace("\\\n", " "))
    assert command is not None
    train = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
    parsed = train.make_context("train", shlex.split(command[1])).params
    recipe = read_recipe(parsed["recipe"])
    levels = re.search(r"levels=\((.+)\)", text)
    if levels is not None:
        assert levels[1].split() == list(recipe.level_names)


@pytest.mark.parametrize("path", [p for p in _FILES if p.suffix != ".yaml"], ids=lambda p: p.name)
def test_a_script_has_no_error_of_syntax(path: Path) -> None:
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_kubernetes_knows_every_field() -> None:
    job = yaml.safe_load((_FOLDER / "kubernetes.yaml").read_text())
    kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
    job["spec"]["completion"] = 3
    with pytest.raises(kubernetes_validate.ValidationError, match="completion"):
        kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)


def test_there_is_one_task_per_level() -> None:
    slurm = (_FOLDER / "slurm.sbatch").read_text()
    last = re.search(r"#SBATCH --array=0-(\d+)", slurm)
    pods = re.search(r"completions: (\d+)", (_FOLDER / "kubernetes.yaml").read_text())
    assert last is not None
    assert pods is not None
    count = len(read_recipe("cifar10-cc").levels)
    assert int(last[1]) + 1 == int(pods[1]) == count
