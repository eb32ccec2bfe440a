"""HTML elements whose attributes are always escaped. Texts go through `text`."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_VOID = frozenset({"img", "source", "meta"})


def text(value: object) -> str:
    """Any value as escaped text."""
    return escape(str(value), quote=True)


def element(tag: str, *children: str | Iterable[str], **attributes: object) -> str:
    """`<tag attributes>children</tag>`; children are markup (see `text`), attributes any value.

    `class_` is `class`, other underscores are hyphens; an attribute that is None is left out.
    """
    names = (
        f' {name.rstrip("_").replace("_", "-")}="{text(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    opening = f"<{tag}{''.join(names)}>"
    if tag in _VOID:
        return opening
    content = "".join(child if isinstance(child, str) else "".join(child) for child in children)
    return f"{opening}{content}</{tag}>"
