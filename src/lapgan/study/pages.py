"""The HTML pages of the server and the report, from templates."""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

__all__ = ["render_page", "slot"]


def render_page(template: str, **values: Any) -> str:
    """Returns a template of this package filled with values; texts are escaped."""
    return _environment().get_template(template).render(values)


def slot(name: str) -> Markup:
    """Returns the place of a text that the page itself sets while it runs."""
    return Markup('<b data-text="{}"></b>').format(name)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lapgan.study"),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": _format_percent,
        "number": _format_number,
        "p_value": _format_p_value,
        "interval": _format_interval,
    }
    return environment


def _format_percent(value: float | None) -> str:
    return "n/a" if value is None or not math.isfinite(value) else f"{value:.1%}"


def _format_number(value: float | None, digits: int = 2) -> str:
    if value is None or not math.isfinite(value):
        return "n/a"
    return f"{value:z.{digits}f}".replace("-", "\u2212")


def _format_p_value(value: float | None) -> str:
    return "< 0.001" if value is not None and value < 0.001 else _format_number(value, 3)


def _format_interval(ends: Sequence[float], kind: str = "number") -> str:
    style = _format_percent if kind == "percent" else _format_number
    return f"{style(ends[0])} to {style(ends[1])}"
