"""The texts that raters see, one TOML file per language.

The English file, `texts/en.toml`, says which keys there are: a file that lacks one, or has another,
is refused by the key's name.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from lapgan.errors import LapganError
from lapgan.files import write_atomically
from lapgan.section import parse_toml

__all__ = ["Texts", "copy_texts", "list_languages", "parse_texts", "read_shipped", "read_texts"]

_FOLDER = resources.files("lapgan.study") / "texts"
_BLANK = re.compile(r"\{([a-z]*)\}")


@dataclass(frozen=True)
class Texts:
    """The texts of one language.

    Args:
        language: code for the pages, such as `en`.
        entries: texts by key, such as `break.heading`.
    """

    language: str
    entries: Mapping[str, str]

    def plain(self, key: str, **values: object) -> str:
        """Returns a text with its blanks filled."""
        return _BLANK.sub(lambda blank: str(values[blank[1]]), self.entries[key])

    def html(self, key: str, **values: object) -> Markup:
        """Returns a text as HTML: *stars* are bold; values are escaped unless they are markup."""
        text = re.sub(r"\*([^*]+)\*", r"<b>\1</b>", str(escape(self.entries[key])))
        return Markup(_BLANK.sub(lambda blank: str(escape(values[blank[1]])), text))

    def section(self, name: str) -> dict[str, str]:
        """Returns the texts of one section by their last names."""
        start = f"{name}."
        chosen = {key: text for key, text in self.entries.items() if key.startswith(start)}
        return {key.removeprefix(start): text for key, text in chosen.items()}


def list_languages() -> list[str]:
    """Returns the languages that the package has texts in."""
    names = (item.name for item in _FOLDER.iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def read_shipped(language: str) -> str:
    """Returns the package's file of a language.

    Raises:
        LapganError: there is none.
    """
    if language not in list_languages():
        raise LapganError(
            f"language: found {language!r}, expected one of {', '.join(list_languages())}, or a "
            "file of your own, which ends in .toml. Begin one with: lapgan study texts en FILE."
        )
    return (_FOLDER / f"{language}.toml").read_text(encoding="utf-8")


def copy_texts(language: str, out: Path) -> None:
    """Writes the package's file of a language to a new file, to be changed or translated.

    Raises:
        LapganError: there is no such language, or the file exists or cannot be written.
    """
    text = read_shipped(language)
    if out.exists():
        raise LapganError(f"{out}: already exists. Choose another file; none is overwritten.")
    if out.suffix != ".toml":
        raise LapganError(f"{out}: expected a name that ends in .toml. Choose another name.")
    write_atomically(out, text.encode())


def read_texts(language: str) -> Texts:
    """Reads the texts of a language of the package, or of a file of the user's own.

    Args:
        language: a code such as `de`, or the path of a file that ends in `.toml`.

    Raises:
        LapganError: there is no such language or file, or a text is missing, unknown or wrong.
    """
    if not language.endswith(".toml"):
        return parse_texts(read_shipped(language), f"texts in {language!r}")
    try:
        text = Path(language).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LapganError(
            f"{language}: cannot be read ({error}). Choose a file of texts that exists, in UTF-8."
        ) from error
    return parse_texts(text, language)


def parse_texts(text: str, name: str) -> Texts:
    """Reads texts from TOML; errors begin with `name`.

    Raises:
        LapganError: a key is missing or unknown, or a text is not one or lacks a blank.
    """
    mine, english = (_flatten(parse_toml(part, name)) for part in (text, read_shipped("en")))
    problems = [f"{key}: missing" for key in english if key not in mine]
    problems += [f"{key}: unknown key" for key in mine if key not in english]
    problems += [
        problem
        for key, value in mine.items()
        if key in english and (problem := _find_problem(key, value, english[key]))
    ]
    if problems:
        raise LapganError(
            f"{name}:\n  " + "\n  ".join(problems) + "\nCompare with: lapgan study texts en FILE."
        )
    return Texts(mine.pop("language"), mine)


def _flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    return dict(_walk(content, prefix))


def _walk(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _walk(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _find_problem(key: str, value: Any, english: str) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return f"{key}: expected a text, found {value!r}"
    blanks = [sorted(_BLANK.findall(text)) for text in (value, english)]
    if blanks[0] != blanks[1]:
        wanted = ", ".join(f"{{{name}}}" for name in blanks[1]) or "no words in braces"
        return f"{key}: expected {wanted}, each once"
    return None
