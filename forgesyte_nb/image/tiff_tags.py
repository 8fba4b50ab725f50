"""Tags of TIFF and BigTIFF files: reading those that pixels need, within bounds, and leaving out the others.

Decoders read every tag: Pillow makes an object of each number, and libtiff compares each unknown tag with all others
and prints a line of it. Metadata are therefore skipped here, and decoders get a directory without them.

Sources: TIFF 6.0 section 2 and its index of tags; BigTIFF (libtiff, 2004).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.formats import cut_short, damaged

MOST_TAGS = 4096
"""Tags of a picture, those that are skipped included; files have some tens."""

MOST_STRIPS = 1 << 18
"""Strips or tiles; 50 megapixels have some 200,000 of the smallest tiles, 16×16."""

MOST_NUMBERS = 1 << 18
"""Numbers in the tags of a picture but for its strips; a colour table of 16 bits has 196,608."""

(WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIPS, ORIENTATION, SAMPLES) = (
    *(256, 257, 258, 259, 262, 273, 274, 277),
)
STRIP_BYTES, PLANAR, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES = 279, 284, 322, 323, 324, 325
SAMPLE_FORMAT = 339

_PLACES = (STRIPS, STRIP_BYTES, TILES, TILE_BYTES)
_DESCRIPTION = (WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES, PLANAR, SAMPLE_FORMAT)
_LAYOUT = (266, 278, TILE_WIDTH, TILE_HEIGHT, 338)  # fill order, rows of a strip, extra samples
_CODING = (292, 293, 317, 347, *range(512, 522))  # fax options, predictor, JPEG
_COLOUR = (320, 332, 529, 530, 531, 532)  # colour table, inks, YCbCr
_FOR_PEOPLE = (282, 283, 296, 700, 34675)  # resolution, XMP (which may tell the orientation), colour profile
_KEPT = frozenset((*_PLACES, *_DESCRIPTION, *_LAYOUT, *_CODING, *_COLOUR, *_FOR_PEOPLE))
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TEXT_TYPES = (1, 2, 6, 7)
_FRACTIONS, _NUMBERS_PER_FRACTION = (5, 10), 64  # by the time that Pillow takes for one
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # types of unsigned numbers


class _Tag(NamedTuple):
    kind: int  # the field type, by its number in TIFF 6.0
    values: int
    at: int
    entry: bytes


class Directory:
    """The first image file directory of a TIFF: the tags that its pixels need, of each the first.

    Attributes:
        encoded: The file.
        order: The order of its bytes for `struct`, "<" or ">".
        big: True for a BigTIFF.
        tags: By number.
    """

    def __init__(self, encoded: bytes) -> None:
        """Read the directory.

        Raises:
            InvalidImage: If it is cut short, or its tags are too large.
        """
        self.encoded = encoded
        self.order = "<" if encoded[:2] == b"II" else ">"
        self.big = b"\x2b" in encoded[2:4]
        self.tags: dict[int, _Tag] = {}
        self._numbers = self._bytes = 0
        self._long = "Q" if self.big else "I"
        self._start = self._number(self._long, 8 if self.big else 4)
        self._count = self._number("Q" if self.big else "H", self._start)
        if self._count > MOST_TAGS:
            raise InvalidImage(f"TIFF of {self._count:,} tags: at most {MOST_TAGS:,} are read; save it without them")
        self._read()

    def _read(self) -> None:
        entry = struct.Struct(f"{self.order}HH{self._long}")
        first, step, inline = (self._start + 8, 20, 8) if self.big else (self._start + 2, 12, 4)
        if first + self._count * step > len(self.encoded):
            raise self._cut_short()
        for position in range(first, first + self._count * step, step):
            tag, kind, values = entry.unpack_from(self.encoded, position)
            if tag in _KEPT and tag not in self.tags:
                at = position + step - inline
                if values * _BYTES.get(kind, 0) > inline:
                    at = self._number(self._long, at)
                    self._check_size(tag, kind, values, at)
                self.tags[tag] = _Tag(kind, values, at, self.encoded[position : position + step])

    def _check_size(self, tag: int, kind: int, values: int, at: int) -> None:
        size = values * _BYTES[kind]
        if at + size > len(self.encoded):
            return  # decoders leave such tags out
        self._bytes += size
        if self._bytes > len(self.encoded):
            raise damaged("TIFF", "its tags claim more bytes than the file has")
        if tag in _PLACES:
            if values > MOST_STRIPS:
                raise InvalidImage(
                    f"TIFF of {values:,} strips or tiles: at most {MOST_STRIPS:,} are read; save it with larger ones"
                )
        elif kind not in _TEXT_TYPES:
            self._numbers += values * (_NUMBERS_PER_FRACTION if kind in _FRACTIONS else 1)
            if self._numbers > MOST_NUMBERS:
                raise InvalidImage(f"TIFF whose tags hold more than {MOST_NUMBERS:,} numbers: save it with fewer")

    def _number(self, format_: str, at: int) -> int:
        try:
            return int(struct.unpack_from(self.order + format_, self.encoded, at)[0])
        except (struct.error, OverflowError) as error:
            raise self._cut_short() from error

    def _cut_short(self) -> InvalidImage:
        return cut_short("TIFF", f"its header lies beyond its {len(self.encoded)} bytes")

    def value(self, tag: int, default: int | None, index: int = 0) -> int:
        """One number of a tag.

        Raises:
            InvalidImage: If it is no unsigned integer, lies beyond the file, or is missing and has no default.
        """
        found = self.tags.get(tag)
        if found is None or index >= found.values:
            if default is None:
                raise damaged("TIFF", f"tag {tag} is missing")
            return default
        if found.kind not in _INTEGERS:
            raise damaged("TIFF", f"tag {tag} is no whole number")
        return self._number(_INTEGERS[found.kind], found.at + index * _BYTES[found.kind])

    def only_value(self, tag: int) -> int:
        """The number of a tag that must have one value.

        Raises:
            InvalidImage: If it is missing, has several values, or is no unsigned integer.
        """
        if tag in self.tags and self.tags[tag].values != 1:
            raise damaged("TIFF", f"tag {tag} has {self.tags[tag].values} values")
        return self.value(tag, None)

    def without_others(self) -> bytes:
        """The file with a directory of `tags` alone, which no other directory follows."""
        if len(self.tags) == self._count:
            return self.encoded
        count = struct.pack(self.order + ("Q" if self.big else "H"), len(self.tags))
        following = struct.pack(self.order + self._long, 0)
        kept = b"".join((count, *(tag.entry for tag in self.tags.values()), following))  # shorter than it was
        return b"".join((self.encoded[: self._start], kept, self.encoded[self._start + len(kept) :]))
