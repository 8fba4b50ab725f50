"""The image formats that are accepted, and what every header reader returns or raises."""

from __future__ import annotations

from typing import NamedTuple

from forgesyte_nb.errors import InvalidImage

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
"""Accepted formats, by Pillow's names."""

ACCEPTED = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
"""The accepted formats, for error messages."""


class ImageHeader(NamedTuple):
    """The header of an image file.

    Attributes:
        format: One of `FORMATS`.
        width: Stored width in pixels (an orientation tag may turn the picture later).
        height: Stored height in pixels.
        channels: Stored samples per pixel: 1, 3, 4 …; 1 for a palette. A JPEG of 4 is CMYK.
        bits: Bits of each sample; of a palette index where there is a palette.
    """

    format: str
    width: int
    height: int
    channels: int
    bits: int


def damaged(format_name: str, reason: str) -> InvalidImage:
    """The error for a file whose header contradicts itself or its format."""
    return InvalidImage(f"{format_name} is damaged: {reason}; save it again with another program")


def cut_short(format_name: str, reason: str) -> InvalidImage:
    """The error for a file whose end is missing."""
    return InvalidImage(f"{format_name} is cut short: {reason}; send the whole file")
