"""The public face: names that are imported when they are used, with examples that run."""

import doctest
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import lapgan
from lapgan.errors import LapganError, requires

FUNCTIONS = ["Cascade", "evaluate", "open_images", "read_recipe", "train"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_examples_of_the_public_names_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    public = getattr(lapgan, name)
    finder = doctest.DocTestFinder(recurse=False)
    tests = [test for test in finder.find(public, name, globs={"lapgan": lapgan}) if test.examples]
    assert tests
    for test in tests:
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
        assert result.attempted > 0
        assert result.failed == 0


def test_every_public_name_is_there_and_no_other():
    for name in lapgan.__all__:
        assert getattr(lapgan, name) is not None
    assert set(lapgan.__all__) <= set(dir(lapgan))
    with pytest.raises(AttributeError, match="has no attribute 'Casade'"):
        lapgan.Casade  # noqa: B018


def test_importing_the_package_imports_no_torch():
    code = "import sys, lapgan; lapgan.open_images; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_module_of_the_package_is_not_taken_for_a_missing_extra():
    with pytest.raises(ModuleNotFoundError, match="nothing"), requires("eval", "a test"):
        import_module("lapgan.nothing")
    message = r"a test needs the package nothing.*\.\[eval\]"
    with pytest.raises(LapganError, match=message), requires("eval", "a test"):
        import_module("nothing")
