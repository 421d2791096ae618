"""Shows the examples of docstrings as code: `>>>` in plain text would become quotations."""

import re
from typing import Any

from griffe import Extension, Object

_EXAMPLE = re.compile(r"^>>> .*\n(?:(?!\n).+\n?)*", re.MULTILINE)


class Examples(Extension):
    """Puts fences around the lines from `>>>` to the next empty line."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Changes the docstring of an object that was read."""
        if obj.docstring is not None:
            text = obj.docstring.value + "\n"
            obj.docstring.value = _EXAMPLE.sub(r"```pycon\n\g<0>```\n", text).rstrip()
