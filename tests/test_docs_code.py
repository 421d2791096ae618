"""The code on the documentation's pages: Python is run, commands are parsed, and cheap ones run.

A block of Python or of the shell that cannot be treated so has a comment above it with the reason,
`<!-- not run: needs a GPU -->`; any other block that is neither run nor parsed fails a test here.
"""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from lapgan.cascade import Cascade
from lapgan.cli import app
from lapgan.compute import choose_compute
from lapgan.recipe import Recipe, read_recipe, recipe_names

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def import_file(path: Path) -> ModuleType:
    """Imports a script, which is in no package."""
    specification = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module
    specification.loader.exec_module(module)
    return module


pages = import_file(DOCS / "site" / "tutorial.py")
BLOCKS = {page: pages.find_blocks(page.read_text(encoding="utf-8")) for page in PAGES}


def blocks_of(*languages: str) -> list[Any]:
    """Returns all blocks of these languages that are not marked, as parameters of a test."""
    return [
        pytest.param(block, id=f"{page.relative_to(ROOT)}:{block.line}")
        for page, blocks in BLOCKS.items()
        for block in blocks
        if block.language in languages and block.reason is None
    ]


def test_every_fence_opens_or_closes_a_block_of_a_known_language():
    for page, blocks in BLOCKS.items():
        fences = re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) == 2 * len(blocks), page
        assert {block.language for block in blocks} <= {"python", "sh", "toml", "text", ""}, page
        for block in blocks:
            is_command = re.match(r"(\w+=\S+ )*(lapgan|python|pip|>>>|import|from) ", block.code)
            assert block.language in ("python", "sh") or not is_command, (page, block.line)


def test_every_mark_stands_above_a_block_and_says_why():
    for page, blocks in BLOCKS.items():
        marks = re.findall(r"^<!-- not run", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(marks) == sum(block.reason is not None for block in blocks), page
        assert all(block.reason is None or len(block.reason.split()) > 2 for block in blocks), page


# Python

CIFAR = ("cifar10-cc", "cifar10-cc-small")
# What is made smaller in the code of a page, so that its tests take seconds.
SMALLER = {
    "README.md": [CIFAR, ("(64", "(2"), ("8", "2")],
    "docs/best-of.md": [("best_of(16)", "best_of(2)")],
    "docs/data.md": [("5000", "50")],
    "docs/evaluation.md": [
        ("runs/cc", "cifar10-uncond"),
        ('"cifar10"', '"dead-leaves:60", images=24'),
    ],
    "docs/export.md": [("small-onnx/int8", "small-onnx/float32"), ("16, 7", "16, 1")],
    "docs/hub.md": [("OWNER/NAME", "cifar10-cc-small"), ("64", "2")],
    "docs/scaling.md": [CIFAR, ("1000", "65")],
    "docs/training.md": [
        ("cifar10-cc-small", "dead-leaves"),
        ("training.batch=128", "training.batch=8"),
        ('"cifar10"', '"dead-leaves:30"'),
        ("minutes=60", "images=8"),
    ],
    "docs/tutorial.md": [
        ("40000", "64"),
        ("20000", "32"),
        ("train dead-leaves", "train dead-leaves --data dead-leaves:64 --set training.batch=8"),
        ('read_recipe("dead-leaves")', 'read_recipe("dead-leaves", ["training.batch=8"])'),
        (
            'read_recipe("dead-leaves", ["lev',
            'read_recipe("dead-leaves", ["training.batch=8", "lev',
        ),
        ("RunConfig(", 'RunConfig(data="dead-leaves:64", recipe='),
        ('"runs/second", levels', 'out="runs/second", levels'),
        ('data="dead-leaves",', 'data="dead-leaves:64",'),
        ('["fd", "neighbours"], images=1500', '["kid", "neighbours"], images=24'),
        ('["fd"], images=1500', '["kid"], images=24'),
    ],
}
SLOW = ("docs/evaluation.md", "docs/export.md", "docs/tutorial.md")


def pages_with_python() -> list[Any]:
    """Returns the pages that have Python to run, as parameters of a test."""
    names = [
        page.relative_to(ROOT).as_posix()
        for page, blocks in BLOCKS.items()
        if any(block.language == "python" and block.reason is None for block in blocks)
    ]
    marks = {name: [pytest.mark.slow] if name in SLOW else [] for name in names}
    return [pytest.param(name, marks=marks[name], id=name) for name in names]


def make_smaller(name: str, code: list[str]) -> list[str]:
    """Returns the blocks of a page with what is replaced in them, each of which has to be there."""
    for old, new in SMALLER.get(name, []):
        assert any(old in block for block in code), f"{name}: there is no {old} any more"
        code = [block.replace(old, new) for block in code]
    return code


@pytest.mark.parametrize("name", pages_with_python())
def test_the_python_of_a_page_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cascade_with_classes: Cascade
):
    if name in ("docs/evaluation.md", "docs/tutorial.md"):
        pytest.importorskip("torch_fidelity")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    if name == "docs/export.md":
        export(cascade_with_classes)
    # Only on the page that is followed from its beginning to its end are commands run as well.
    languages = ("python", "sh") if name == "docs/tutorial.md" else ("python",)
    blocks = [b for b in BLOCKS[ROOT / name] if b.language in languages and b.reason is None]
    session: dict[str, Any] = {"__name__": "__main__"}
    for block, code in zip(blocks, make_smaller(name, [b.code for b in blocks]), strict=True):
        if block.language == "sh":
            run_commands(record(code, tmp_path))
        else:
            exec(compile(code, f"{name}:{block.line}", "exec"), session)
    CHECKS.get(name, lambda session: None)(session)


def export(cascade: Cascade) -> None:
    """Exports a tiny model under the names of the page's."""
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    from lapgan.export import export_onnx, export_torch

    compute = choose_compute("cpu", "float32")
    tiny = Cascade(
        cascade.recipe, cascade.levels, cascade.normalization, cascade.class_names, compute=compute
    )
    export_onnx(tiny, Path("small-onnx"), "tiny", whole=False)
    export_torch(tiny, Path("small.pt2"))


def check_tutorial(session: dict[str, Any]) -> None:
    assert float(session["error"]) < 1e-14
    written = {path.name for path in Path("tutorial").glob("*.png")}
    assert written == {path.name for path in pages.PICTURES.glob("*.png")}
    shown = re.findall(r"\]\(pictures/tutorial/([\w.-]+)\)", pages.PAGE.read_text("utf-8"))
    assert sorted(shown) == sorted(written)


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "README.md": lambda session: _check_shapes(session["cats"], session["images"]),
    "docs/export.md": lambda session: _check_pixels(session["pixels"]),
    "docs/data.md": lambda session: _check_shapes(session["images"].pixels),
    "docs/tutorial.md": check_tutorial,
}


def _check_pixels(pixels: Any) -> None:
    assert (pixels.shape, pixels.dtype) == ((16, 3, 12, 12), "uint8")


def _check_shapes(*arrays: Any) -> None:
    assert all(array.shape[1:] == (3, 32, 32) and len(array) in (2, 50) for array in arrays)


# Commands

BASH = shutil.which("bash")
RECORDER = """
PATH=/nothing
# Ends with its only line break, at which bash writes: so jobs that run at once cannot mix theirs.
command_not_found_handle() { local IFS=$'\\037'; printf '%s\\036\\n' "$*" >&9; }
"""


def record(code: str, folder: Path) -> list[list[str]]:
    """Returns the commands that a block of the shell would start, as the shell expands them.

    Bash runs it with an empty PATH: it finds no program, and calls a function instead.
    """
    if BASH is None:
        pytest.skip("bash is not installed")
    found = folder / "commands.bin"
    script = f"exec 9>>'{found}'\n{RECORDER}\n{code}\nwait"
    subprocess.run([BASH, "-c", script], cwd=folder, check=False, capture_output=True, timeout=20)
    content = found.read_text(encoding="utf-8")
    found.unlink()
    return [command.split("\37") for command in content.split("\36\n")[:-1]]


def parse(cli: typer.Typer, arguments: list[str]) -> tuple[str, dict[str, Any]]:
    """Parses a command line by the real parser; returns the command and its parameters."""
    calls = []

    def replace(command: Any, name: str) -> None:
        """Lets a command, or all commands of a group, note what they are called with."""
        for key, child in getattr(command, "commands", {}).items():
            replace(child, key)
        if not getattr(command, "commands", {}):
            command.callback = lambda **parameters: calls.append((name, parameters))

    assert not {"--install-completion", "--show-completion"} & set(arguments)
    command = typer.main.get_command(cli)
    replace(command, "")
    command.main(arguments, prog_name="lapgan", standalone_mode=False)
    (call,) = calls
    return call


def check_lapgan(arguments: list[str]) -> None:
    name, parameters = parse(app, arguments)
    recipe = parameters.get("recipe", parameters.get("name"))
    if name in ("train", "doctor", "recipes") and recipe in recipe_names():
        assert isinstance(read_recipe(recipe, parameters.get("set_") or ()), Recipe)


def check_pip(arguments: list[str]) -> None:
    assert arguments[0] == "install"
    for extra in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
        assert set(extra.split(",")) <= set(PROJECT["optional-dependencies"])


def check_pytest(arguments: list[str]) -> None:
    for argument in arguments:
        assert (ROOT / argument).exists() or "/" not in argument, argument


def check_python(arguments: list[str]) -> None:
    first, *rest = arguments
    if first == "-m":
        MODULES[rest[0]](rest[1:])
    elif first == "-c":
        compile(rest[0], "-c", "exec")
    else:
        assert (ROOT / first).is_file(), first


def check_torchrun(arguments: list[str]) -> None:
    start = arguments.index("-m")
    assert arguments[start + 1] == "lapgan"
    check_lapgan(arguments[start + 2 :])


def accept(arguments: list[str]) -> None:
    """Accepts a command of the system or another project, or one that other tests run."""


MODULES: dict[str, Callable[[list[str]], None]] = {
    "http.server": accept,
    "lapgan": check_lapgan,
    "pip": check_pip,
    "pytest": check_pytest,
}
PROGRAMS: dict[str, Callable[[list[str]], None]] = {
    "cp": accept,
    "hf": accept,
    "lapgan": check_lapgan,
    "mkdir": accept,
    "mkdocs": accept,
    "pip": check_pip,
    "pre-commit": accept,
    "pytest": check_pytest,
    "python": check_python,
    "sleep": accept,
    "time": lambda arguments: check_lapgan(arguments[arguments.index("lapgan") + 1 :]),
    "torchrun": check_torchrun,
}


def is_synopsis(block: Any) -> bool:
    return "[--" in block.code


@pytest.mark.slow
def test_scripts_have_the_options_that_pages_give_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for package in ("sklearn", "torch_fidelity"):
        pytest.importorskip(package)
    modules = dict(sys.modules)
    # A folder of tests has the name of a script that others import.
    monkeypatch.delitem(sys.modules, "training", raising=False)
    commands = [command for p in blocks_of("sh") for command in record(p.values[0].code, tmp_path)]
    scripts = [command[1:] for command in commands if command[1:2] and command[1].endswith(".py")]
    assert len({name for name, *_ in scripts}) > 10
    for name, *arguments in scripts:
        monkeypatch.syspath_prepend(ROOT / Path(name).parent)
        check_script(ROOT / name, arguments)
    for name in set(sys.modules) - set(modules):
        if str(ROOT / "benchmarks") in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def check_script(path: Path, arguments: list[str]) -> None:
    """Parses the arguments of a script by its own parser, if it has one."""
    content = path.read_text(encoding="utf-8")
    if "import typer" not in content:
        assert not arguments
        return
    module = import_file(path)
    if "typer.run(main)" in content:
        cli = typer.Typer(add_completion=False)
        cli.command()(module.main)
    else:
        cli = module.app
    assert parse(cli, arguments)


@pytest.mark.parametrize("block", blocks_of("sh"))
def test_the_commands_of_a_page_are_parsed(
    block: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    if is_synopsis(block):
        return
    commands = record(block.code, tmp_path)
    assert commands
    for program, *arguments in commands:
        assert program in PROGRAMS, f"{program}: run it here, or mark it <!-- not run: REASON -->"
        PROGRAMS[program](arguments)


def test_a_synopsis_has_every_option_of_its_command():
    commands = typer.main.get_command(app).commands
    lines = [
        line
        for parameter in blocks_of("sh")
        if is_synopsis(parameter.values[0])
        for line in re.sub(r"\n +", " ", parameter.values[0].code).splitlines()
        if line.startswith("lapgan")
    ]
    assert len(lines) == 4
    for line in lines:
        command = commands[line.split()[1]]
        options = {option for p in command.params for option in [*p.opts, *p.secondary_opts]}
        shown = set(re.findall(r"--[\w-]+", line))
        known = {option for option in options if option.startswith("--")}
        assert shown - known == set(), line
        assert known - shown <= {"--skip-bad"}, line


# Commands that are run as they stand on a page: those that need neither minutes nor data.
RUN = {
    "lapgan info cifar10-cc",
    "lapgan doctor",
    "lapgan recipes cifar10-cc-small",
    "lapgan runs runs",
    "lapgan runs runs --json",
}
RUN_SLOWLY = {
    "lapgan sample cifar10-cc --n 100 --zoom 2 --out sheet.png",
    "lapgan sample cifar10-cc --n 100 --best-of 16 --zoom 2 --out best.png",
    "lapgan sample cifar10-cc --n 4 --class airplane --class automobile --class horse --class ship "
    "--chain --zoom 3 --precision float32 --out chain.png",
    "lapgan prepare pictures --size 64 --out pictures-64",
    "lapgan sample runs/mine --n 64 --zoom 2 --out mine.png",
    "lapgan demo cifar10-cc-small --static page",
    "lapgan export cifar10-cc-small --torch small.pt2",
    "lapgan push runs/mine OWNER/NAME --evaluation report/report.json --license mit "
    "--out published",
}


def run_commands(commands: list[list[str]]) -> None:
    for program, *arguments in commands:
        assert program == "lapgan"
        result = CliRunner().invoke(app, arguments)
        if result.exception is not None:
            raise result.exception
        assert result.output
        if "--dry-run" in arguments:
            continue
        for option in {"--out", "--static", "--torch"} & set(arguments):
            assert Path(arguments[arguments.index(option) + 1]).exists(), arguments


def check_running(commands: set[str], folder: Path) -> None:
    """Runs commands, each of which has to stand on some page."""
    on_pages = {
        " ".join(command)
        for parameter in blocks_of("sh")
        if any(command.split()[1] in parameter.values[0].code for command in commands)
        and not is_synopsis(parameter.values[0])
        for command in record(parameter.values[0].code, folder)
    }
    assert commands <= on_pages
    run_commands([command.split() for command in sorted(commands)])


def test_cheap_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    check_running(RUN, tmp_path)


@pytest.mark.slow
def test_commands_that_take_seconds_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for package in ("huggingface_hub", "onnx"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    for i in range(4):
        Image.effect_noise((80 + i, 70), 64).convert("RGB").save(f"pictures/{i}.jpg")
    prepared = [
        "lapgan train dead-leaves --images 32 --out runs/mine",
        "lapgan evaluate runs/mine --data dead-leaves --metrics swd --images 64 --out report",
    ]
    run_commands([command.split() for command in prepared])
    check_running(RUN_SLOWLY, tmp_path)


# The notebook

NOTEBOOK = json.loads(pages.NOTEBOOK.read_text(encoding="utf-8"))


def test_the_notebook_is_the_page():
    made = pages.make_notebook(pages.PAGE.read_text(encoding="utf-8"))
    assert pages.NOTEBOOK.read_text(encoding="utf-8") == made, (
        "python docs/site/tutorial.py notebook"
    )


def test_the_notebook_has_the_form_of_a_notebook():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in NOTEBOOK["cells"]:
        assert re.fullmatch(r"[\w-]{1,64}", cell["id"])
        assert all(isinstance(line, str) for line in cell["source"])
        common = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "markdown":
            assert set(cell) == common
            continue
        assert set(cell) == common | {"execution_count", "outputs"}
        assert (cell["cell_type"], cell["execution_count"], cell["outputs"]) == ("code", None, [])


def test_the_notebook_has_the_code_of_the_page_in_order():
    cells = ["".join(c["source"]) for c in NOTEBOOK["cells"] if c["cell_type"] == "code"]
    lines = pages.PAGE.read_text(encoding="utf-8").splitlines()
    code = [line.removeprefix("!") for cell in cells for line in cell.splitlines()]
    places = [
        lines.index(line) for line in code if line.startswith(("show(", "lapgan ", "import "))
    ]
    assert places == sorted(places)
    assert len(places) > 10
    for cell in cells:
        if not cell.startswith("!"):
            compile(cell, "cell", "exec")
