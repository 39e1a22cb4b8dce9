"""The fields of a kind of config, for the help: from the docstrings of its class and its bases."""

import dataclasses
import inspect
import re
import textwrap

from configs import Classification

_WIDTH = 92
_FIELD = re.compile(r"^(\w+): ", re.MULTILINE)


def listing(kind: type[Classification]) -> str:
    """A paragraph for each field that `--set` takes: its name, its default, what it says.

    Args:
        kind: of the config; its own fields come first.
    """
    said = _said(kind)
    parts = []
    for field in _own_first(kind):
        about = said.get(field.name, "")
        text = f"{field.name}{_default(field)}: {about}"
        filled = textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="      ")
        parts.append(filled)
    return "\n".join(parts)


def _own_first(kind: type[Classification]) -> list[dataclasses.Field]:
    shared = {field.name for field in dataclasses.fields(Classification)}
    fields = dataclasses.fields(kind)
    return sorted(fields, key=lambda field: kind is not Classification and field.name in shared)


def _default(field: dataclasses.Field) -> str:
    if field.default is dataclasses.MISSING:
        return ""
    return f" ({field.default!r})"


def _said(kind: type[Classification]) -> dict[str, str]:
    """What the docstrings' Args say; Python started with -OO has none."""
    found: dict[str, str] = {}
    for each in kind.__mro__:
        # not inherited: a class without one would repeat its base's
        text = inspect.cleandoc(each.__dict__.get("__doc__") or "")
        _, _, arguments = text.partition("Args:\n")
        listed = textwrap.dedent(arguments)
        _, *pieces = _FIELD.split(listed)
        for name, about in zip(pieces[::2], pieces[1::2], strict=True):
            found.setdefault(name, " ".join(about.split()))
    return found
