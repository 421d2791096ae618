"""The code of the documentation's pages: read from them, run in order, and made a notebook.

python docs/site/tutorial.py notebook    # docs/tutorial.ipynb, from docs/tutorial.md
python docs/site/tutorial.py pictures    # docs/pictures/tutorial, by running the page: minutes
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

DOCS = Path(__file__).resolve().parent.parent
PAGE, NOTEBOOK = DOCS / "tutorial.md", DOCS / "tutorial.ipynb"
PICTURES = DOCS / "pictures" / "tutorial"
# The folder, beside the runs, that the page writes its pictures into.
_WRITTEN = "tutorial"
_LARGEST = 100_000  # bytes per picture

_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?(?:<!-- [^\n]+ -->\n)*"
    r"```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)

_PICTURE = re.compile(r"^!\[.*\]\(pictures/.*\)\n\n?", re.MULTILINE)

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Block:
    """A block of code of a page.

    Args:
        language: as the fence says: `python`, `sh`, ...; empty if it says nothing.
        code: the lines between the fences.
        line: the number of its first line in the page.
        reason: why it is not run, as the comment above it says, `<!-- not run: REASON -->`; None
            without such a comment.
    """

    language: str
    code: str
    line: int
    reason: str | None


def find_blocks(text: str) -> list[Block]:
    """Returns the blocks of code of a page, in order."""
    return [
        Block(
            match["language"],
            match["code"],
            text.count("\n", 0, match.start("code")) + 1,
            match["reason"],
        )
        for match in _BLOCK.finditer(text)
    ]


def make_notebook(text: str) -> str:
    """Returns a page as a Jupyter notebook without outputs, as JSON.

    Blocks of Python and of the shell become cells of code, in which `!` stands before each shell
    command; all else, and blocks that are not run, is text. Pictures are left out: cells draw them.

    References:
        The notebook format 4.5, https://nbformat.readthedocs.io/en/latest/format_description.html
    """
    cells: list[dict[str, Any]] = []

    def add(kind: str, source: str) -> None:
        if source.strip():
            extra = {"execution_count": None, "outputs": []} if kind == "code" else {}
            lines = source.strip("\n").splitlines(keepends=True)
            cells.append({"cell_type": kind, "id": f"cell-{len(cells)}", "metadata": {}, **extra,
                          "source": lines})  # fmt: skip

    end = 0
    text = _PICTURE.sub("", text)
    for match in _BLOCK.finditer(text):
        if match["language"] not in ("python", "sh") or match["reason"]:
            continue
        add("markdown", text[end : match.start()])
        is_shell = match["language"] == "sh"
        add(
            "code", re.sub(r"^(?=.)", "!", match["code"], flags=re.M) if is_shell else match["code"]
        )
        end = match.end()
    add("markdown", text[end:])
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    content = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def run_blocks(blocks: list[Block], folder: Path) -> None:
    """Runs the blocks of a page in order, as a reader would: Python in one session.

    Raises:
        subprocess.CalledProcessError: a shell command failed; errors of Python pass through.
    """
    session: dict[str, Any] = {"__name__": "__main__"}
    # `lapgan` and `python` are those of this environment, whether it is activated or not.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    with contextlib.chdir(folder):
        for block in blocks:
            if block.language not in ("python", "sh") or block.reason:
                continue
            started = time.perf_counter()
            if block.language == "python":
                exec(compile(block.code, f"line {block.line} of the page", "exec"), session)
            else:
                environment = {**os.environ, "PATH": path}
                subprocess.run(block.code, shell=True, check=True, env=environment)
            print(f"line {block.line}: {time.perf_counter() - started:.0f} s", flush=True)


@app.command()
def notebook(out: Annotated[Path, typer.Option(help="The file to write.")] = NOTEBOOK) -> None:
    """Make the notebook from the page."""
    out.write_text(make_notebook(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


@app.command()
def pictures(
    out: Annotated[Path, typer.Option(help="The folder of the pictures.")] = PICTURES,
    folder: Annotated[
        Path | None, typer.Option(help="Where the page is run, and its runs stay.")
    ] = None,
) -> None:
    """Run the page, and keep the pictures that it writes."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        work = folder or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        run_blocks(find_blocks(PAGE.read_text(encoding="utf-8")), work)
        written = sorted((work / _WRITTEN).glob("*.png"))
        too_large = [path.name for path in written if path.stat().st_size > _LARGEST]
        if too_large:
            raise SystemExit(f"over {_LARGEST:,} bytes: {', '.join(too_large)}")
        out.mkdir(parents=True, exist_ok=True)
        for path in written:
            shutil.copy(path, out)
    print(f"{(time.perf_counter() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    app()
