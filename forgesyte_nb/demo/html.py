"""HTML in which every text is escaped: only `Markup`, which `tag` makes, goes in as it is."""

from __future__ import annotations

import base64
import html


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element.

    Args:
        name: Such as "p".
        *children: `Markup` goes in as it is, anything else as escaped text.
        **attributes: `class_` is `class`, other underscores are hyphens; escaped.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"' for key, value in attributes.items()
    )
    if name in ("img", "meta"):
        return Markup(f"<{name}{given}>")
    inner = "".join(child if isinstance(child, Markup) else html.escape(str(child)) for child in children)
    return Markup(f"<{name}{given}>{inner}</{name}>")


def image(jpeg: bytes, alt: str) -> Markup:
    """A picture, within the page itself."""
    return tag("img", src=f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}", alt=alt)
