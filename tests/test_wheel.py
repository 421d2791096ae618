"""The wheel: of pure Python, small enough to send, and all that the package needs."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
LARGEST = 60e6  # bytes


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built and installed into a folder of its own, without what it needs."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    [wheel] = folder.glob("*.whl")
    # No machine code: one file for every system, and no compiler.
    assert wheel.name == f"lapgan-{version('lapgan')}-py3-none-any.whl"
    assert wheel.stat().st_size < LARGEST
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    run(*pip, "--target", folder / "site", wheel)
    return folder / "site"


def run(*command: str | Path, **options: object) -> str:
    finished = subprocess.run(
        [str(word) for word in command], check=False, capture_output=True, text=True, **options
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_wheel_works_away_from_its_source(installed: Path, tmp_path: Path):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    options = {"cwd": tmp_path, "env": environment}
    place = run(sys.executable, "-c", "import lapgan; print(lapgan.__file__)", **options)
    assert Path(place.strip()).is_relative_to(installed)
    script = installed / "bin" / "lapgan"
    assert run(sys.executable, script, "--version", **options) == f"lapgan {version('lapgan')}\n"
    module = (sys.executable, "-m", "lapgan")
    assert "photos64" in run(*module, "recipes", **options)
    sheet = tmp_path / "sheet.png"
    run(*module, "sample", "cifar10-cc-small", "--n", "2", "--out", sheet, **options)
    assert sheet.stat().st_size > 0


def test_every_file_of_the_package_is_in_the_wheel(installed: Path):
    package = ROOT / "src" / "lapgan"
    files = {
        path.relative_to(package)
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files == {
        path.relative_to(installed / "lapgan")
        for path in (installed / "lapgan").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
