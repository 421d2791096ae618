"""Sections of a TOML file: strict records, and errors that name the key.

A section stands beside what it configures: the file of a net, a noise, an objective or an optimizer
holds its section, with a `kind`, the fields, and `build`.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any, TypeVar, Union

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lapgan.errors import LapganError

__all__ = [
    "Count",
    "Fraction",
    "NotNegative",
    "Positive",
    "Section",
    "parse_toml",
    "union_of",
    "validate",
]

# Numbers beyond 64 bits are none of images, units or maps.
Count = Annotated[int, Field(gt=0, le=2**62)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A record of a TOML file: it cannot be changed, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


_Model = TypeVar("_Model", bound=BaseModel)


def union_of(package: str, modules: Iterable[str], attribute: str) -> Any:
    """Returns the union of the sections that modules of a package list under one attribute.

    So a new kind is one new module, and its name in one tuple.

    Args:
        package: the package's full name.
        modules: names of modules within it.
        attribute: the name of a tuple of sections in each module; a module may lack it.
    """
    loaded = (import_module(f"{package}.{name}") for name in modules)
    # Evaluated when the package is imported; type checkers see a Protocol instead.
    return Union[tuple(s for module in loaded for s in getattr(module, attribute, ()))]  # noqa: UP007


def validate(model: type[_Model], content: Mapping[str, Any], name: str) -> _Model:
    """Makes a record of plain data.

    Args:
        model: the kind of record.
        content: keys and values, as a TOML or JSON file has them.
        name: what errors begin with, such as the file.

    Raises:
        LapganError: keys are unknown, missing or wrong; every one of them is named.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [_explain(model, content, item) for item in error.errors()]
        raise LapganError(f"{name}:\n  " + "\n  ".join(lines)) from None


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Parses TOML; a LapganError that begins with `name` if it is none."""
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))  # Windows marks UTF-8 so
    except tomllib.TOMLDecodeError as error:
        raise LapganError(f"{name}: this is not TOML: {error}.") from None


def _explain(model: type[BaseModel], content: Any, error: Mapping[str, Any]) -> str:
    path = ".".join(_keys(content, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{path}: unknown key{_suggestion(model, path)}"
    value = "" if error["type"] == "missing" else f", found {_shorten(error['input'])}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{path}: {message}{value}" if path else message


def _keys(content: Any, location: Iterable[str | int]) -> Iterator[str]:
    """Yields the keys of a location, as the file writes them.

    A location also names the kinds that a union chose from, which are no keys, and counts what
    the file names. A kind that the file leaves out stands between keys, but is none of them.
    """
    steps = list(location)
    for place, step in enumerate(steps, start=1):
        if isinstance(content, Mapping):
            is_default_kind = isinstance(step, str) and step not in content and place < len(steps)
            if content.get("kind") == step or is_default_kind:
                continue
            key = list(content)[step] if isinstance(step, int) else step
            content = content.get(key)
            yield str(key)
        else:
            yield str(step)


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"


def _suggestion(model: type[BaseModel], path: str) -> str:
    """Returns a key like the last one of a path: beside it, or else in another section.

    A key that only other kinds have is said to be one.
    """
    parent, _, key = path.rpartition(".")
    schema = model.model_json_schema()
    section = "levels.SIZE" if parent.startswith("levels.") else ""
    known = [
        place.replace("SIZE", path.split(".")[1]) if section else place
        for place in _places(schema, schema.get("$defs", {}), "", ())
    ]
    if path in known:
        return " for this kind; others have it"
    beside = [place for place in known if place.rpartition(".")[0] == parent]
    for places, cutoff in ((beside, 0.6), (known, 1.0), (known, 0.6)):
        names = sorted({place.rpartition(".")[2] for place in places} - {""})
        near = difflib.get_close_matches(key, names, n=1, cutoff=cutoff)
        if near:
            full = next(place for place in places if place.rpartition(".")[2] == near[0])
            return f"; did you mean {(near[0] if places is beside else full)!r}?"
    return ""


def _places(
    section: Any, defs: Mapping[str, Any], prefix: str, above: tuple[str, ...]
) -> Iterator[str]:
    """Yields the keys of a JSON schema with the sections that they stand in, as a file has them."""
    for name, content in section.get("properties", {}).items():
        yield prefix + name
        # Lists are tables keyed by size in a file.
        step = f"{name}.SIZE." if content.get("type") == "array" else f"{name}."
        for reference in re.findall(r"#/\$defs/(\w+)", repr(content)):
            if reference not in above:
                yield from _places(defs[reference], defs, prefix + step, (*above, reference))
