import re
import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

from lapgan.data import describe_sources, find_source, open_images, sources
from lapgan.data.sources.dead_leaves import DeadLeaves

IMPORTS = """
import pkgutil, sys
import lapgan.data, lapgan.errors, lapgan.files, lapgan.progress, lapgan.section, lapgan.sizes
for module in pkgutil.walk_packages(lapgan.data.__path__, "lapgan.data."):
    __import__(module.name)
lapgan.data.describe_sources()
print(*sorted({"torch", "torchvision", "pyarrow", "datasets"} & set(sys.modules)))
"""


def test_data_needs_neither_torch_nor_optional_packages():
    result = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []


def source_module(name):
    return import_module(f"lapgan.data.sources.{name}")


def test_the_help_is_the_form_of_every_module():
    *lines, note = describe_sources().splitlines()
    forms = [form for name in sources.SOURCES for form in source_module(name).FORM.items()]
    assert [tuple(re.split(r" {2,}", line.strip())) for line in lines] == forms
    assert len({line.index(meaning) for line, (_, meaning) in zip(lines, forms, strict=True)}) == 1
    assert max(map(len, lines)) <= 100
    assert "LAPGAN_DATA" in note


def test_a_new_source_is_one_module_and_its_name(monkeypatch):
    def find(text, split):
        return DeadLeaves(2, split, name=text) if text.startswith("leaves:") else None

    module = ModuleType("lapgan.data.sources.leaves")
    module.FORM, module.find = {"leaves:SEED": "two images"}, find
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(sources, "SOURCES", (*sources.SOURCES, "leaves"))
    assert open_images("leaves:3").name == "leaves:3"
    assert "  leaves:SEED " in describe_sources()


@pytest.mark.parametrize("name", sources.SOURCES)
def test_a_module_leaves_what_is_not_its_own_to_the_others(name, tmp_path):
    (tmp_path / "a.txt").write_text("no source")
    assert source_module(name).find(str(tmp_path / "a.txt"), "train") is None
    assert source_module(name).find(str(tmp_path / "gone"), "train") is None


@pytest.mark.parametrize("text", ["dead-leaves:2", "dead-leaves"])
def test_a_word_is_a_source_even_beside_a_folder_of_that_name(text, tmp_path, monkeypatch):
    (tmp_path / text).mkdir()
    monkeypatch.chdir(tmp_path)
    assert isinstance(find_source(text, "train"), DeadLeaves)
