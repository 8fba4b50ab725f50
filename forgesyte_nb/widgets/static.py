"""What stands in a widget's place where there is no kernel: small, since it is saved with the notebook.

Photographs become JPEG, drawings PNG with a palette, neither wider than a page shows; options a table.
"""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

MOST_WIDE = 640  # pixels
_QUALITY = 80  # of JPEG: boxes and captions stay sharp
_COLOURS = 128  # of a plot: lines with smooth edges on one ground


class StaticPicture(NamedTuple):
    """A picture for a saved notebook.

    Attributes:
        content_type: "image/jpeg" or "image/png".
        encoded: Bytes of the file.
    """

    content_type: str
    encoded: bytes

    @property
    def text(self) -> str:
        """As notebooks keep it."""
        return base64.b64encode(self.encoded).decode()


def photograph(picture: PILImage) -> StaticPicture:
    """A small JPEG."""
    return StaticPicture("image/jpeg", _encoded(_narrow(picture.convert("RGB")), "JPEG", quality=_QUALITY))


def drawing(picture: PILImage) -> StaticPicture:
    """A small PNG."""
    few = picture.convert("RGB").quantize(_COLOURS)
    return StaticPicture("image/png", _encoded(few, "PNG", optimize=True))


def _narrow(picture: PILImage) -> PILImage:
    if picture.width <= MOST_WIDE:
        return picture
    return picture.resize((MOST_WIDE, max(1, round(picture.height * MOST_WIDE / picture.width))))


def _encoded(picture: PILImage, kind: str, **how: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **how)
    return file.getvalue()


def options_table(title: str, schema: dict[str, Any], options: dict[str, Any]) -> str:
    """Options of a plugin as an HTML table: name, value, bounds or choices, what it is."""
    rows = []
    for name, option in schema.get("properties", {}).items():
        value = repr(options.get(name, option.get("default")))
        cells = (name, value, _range_of(option), option.get("description", ""))
        rows.append("".join(f"<td>{escape(cell)}</td>" for cell in cells))
    head = "".join(f"<th>{word}</th>" for word in ("option", "value", "range", ""))
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f"<b>{escape(title)}</b>\n<table>\n<tr>{head}</tr>\n{body}\n</table>"


def _range_of(option: dict[str, Any]) -> str:
    if "enum" in option:
        return ", ".join(map(str, option["enum"]))
    low, high = (option.get(f"{kind}imum", option.get(f"exclusive{kind.title()}imum")) for kind in ("min", "max"))
    return "" if low is None and high is None else f"{'' if low is None else low} … {'' if high is None else high}"
