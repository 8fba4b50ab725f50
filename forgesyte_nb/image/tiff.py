"""TIFF and BigTIFF files: the header of the first picture, bounded in time and memory whatever its tags say.

Sources: TIFF 6.0 sections 2 and 8, 15 (tiles), 18 (extra samples), 19 (sample format); BigTIFF (libtiff, 2004).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.formats import ImageHeader, cut_short, damaged

MOST_TAGS = 4096
"""Tags of a picture; files have some tens."""

MOST_STRIPS = 1 << 18
"""Strips or tiles; 50 megapixels have some 200,000 of the smallest tiles, 16×16."""

MOST_NUMBERS = 1 << 18
"""Numbers in the tags of a picture but for its strips; a colour table of 16 bits has 196,608."""

_TILE_PIXELS = 1 << 24  # of a tile, whatever the picture's size
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TEXT_TYPES = (1, 2, 6, 7)
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # types of unsigned numbers
(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _ORIENTATION, _SAMPLES) = (
    *(256, 257, 258, 259, 262, 273, 274, 277),
)
_STRIP_BYTES, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 279, 284, 322, 323, 324, 325
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _EXIF, _GPS, _INTEROPERABILITY = 338, 339, 34665, 34853, 40965
_PLACES = (_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES)
_FOLDERS = (_EXIF, _GPS, _INTEROPERABILITY)
_SIGNED, _FORMATS = 2, {3: "floats", 5: "complex numbers", 6: "complex floats"}
_LOG_L, _LOG_LUV = 32844, 32845
_UNCOMPRESSED, _PLANES = 1, 2


class TiffHeader(NamedTuple):
    """The tags of the first picture that decoding needs; the defaults are those of TIFF 6.0.

    Attributes:
        width: Pixels.
        height: Pixels.
        bits: Bits per sample.
        samples: Samples per pixel.
        format: `SampleFormat`: 1 unsigned, 2 signed, 3 float.
        photometric: `PhotometricInterpretation`: 0 white is zero, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr, 8 L*a*b*.
        compression: 1 if there is none.
        planar: 2 if each sample has strips of its own.
        orientation: 1 to 8.
        big: True for a BigTIFF.
        big_endian: True if numbers begin with their highest byte.
    """

    width: int
    height: int
    bits: int
    samples: int
    format: int
    photometric: int
    compression: int
    planar: int
    orientation: int
    big: bool
    big_endian: bool

    @property
    def for_opencv(self) -> bool:
        """True for an uncompressed big-endian BigTIFF, which Pillow does not read.

        OpenCV reads compressed ones, too, but gives black where their data are damaged, without an error.
        """
        return self.big and self.big_endian and self.compression == _UNCOMPRESSED

    @property
    def kind(self) -> str:
        """What it is, for error messages."""
        endian = "big-endian " if self.big_endian else ""
        parts = (
            f"{endian}BigTIFF" if self.big else "",
            "signed" if self.format == _SIGNED else "",
            f"{self.samples} samples of {self.bits} bits{' in planes' if self.planar == _PLANES else ''}",
            f"photometric interpretation {self.photometric}",
            f"compression {self.compression}",
        )
        return ", ".join(part for part in parts if part)


class _Tag(NamedTuple):
    kind: int
    values: int
    at: int


class _Reader:
    """Reads the tags of one file within a budget of numbers and bytes."""

    def __init__(self, encoded: bytes) -> None:
        self.encoded = encoded
        self.order = "<" if encoded[:2] == b"II" else ">"
        magic = encoded[2:4] if self.order == "<" else encoded[3:1:-1]
        self.big = magic == b"\x2b\0"
        self.pointers: list[int] = []
        """Positions of the entries that point to directories of metadata."""

        self._numbers = self._bytes = 0

    @property
    def first(self) -> int:
        """The position of the first directory."""
        return self.number("Q", 8) if self.big else self.number("I", 4)

    def number(self, format_: str, at: int) -> int:
        try:
            return int(struct.unpack_from(self.order + format_, self.encoded, at)[0])
        except (struct.error, OverflowError) as error:
            raise cut_short("TIFF", f"its header lies beyond its {len(self.encoded)} bytes") from error

    def folder(self, at: int) -> dict[int, _Tag]:
        """The tags of one image file directory."""
        count = self.number("Q" if self.big else "H", at)
        if count > MOST_TAGS:
            raise InvalidImage(f"TIFF of {count:,} tags: at most {MOST_TAGS:,} are read; save it without them")
        entry = struct.Struct(f"{self.order}HH{'Q' if self.big else 'I'}")
        first, step, inline = (at + 8, 20, 8) if self.big else (at + 2, 12, 4)
        if first + count * step > len(self.encoded):
            raise cut_short("TIFF", f"its header lies beyond its {len(self.encoded)} bytes")
        tags: dict[int, _Tag] = {}
        for position in range(first, first + count * step, step):
            tag, kind, values = entry.unpack_from(self.encoded, position)
            place = position + step - inline
            if values * _BYTES.get(kind, 0) > inline:
                place = self._count(tag, kind, values, place)
            if tag in _FOLDERS:
                self.pointers.append(position)
            tags.setdefault(tag, _Tag(kind, values, place))  # decoders, too, take the first of two
        return tags

    def _count(self, tag: int, kind: int, values: int, at: int) -> int:
        """Keep account of values outside of the directory; their position."""
        place, size = self.number("Q" if self.big else "I", at), values * _BYTES[kind]
        if place + size > len(self.encoded):
            return place  # decoders leave such tags out
        self._bytes += size
        if self._bytes > len(self.encoded):
            raise damaged("TIFF", "its tags claim more bytes than the file has")
        if tag in _PLACES:
            if values > MOST_STRIPS:
                raise InvalidImage(
                    f"TIFF of {values:,} strips or tiles: at most {MOST_STRIPS:,} are read; save it with larger ones"
                )
        elif kind not in _TEXT_TYPES:
            self._numbers += values
            if self._numbers > MOST_NUMBERS:
                raise InvalidImage(
                    f"TIFF whose tags hold more than {MOST_NUMBERS:,} numbers: save it without that metadata"
                )
        return place

    def value(self, tags: dict[int, _Tag], tag: int, default: int | None, index: int = 0) -> int:
        """One number of a tag."""
        found = tags.get(tag)
        if found is None or index >= found.values:
            if default is None:
                raise damaged("TIFF", f"tag {tag} is missing")
            return default
        if found.kind not in _INTEGERS:
            raise damaged("TIFF", f"tag {tag} is no whole number")
        return self.number(_INTEGERS[found.kind], found.at + index * _BYTES[found.kind])


def read_header(encoded: bytes) -> ImageHeader:
    """Read the header of the first picture of a TIFF.

    Raises:
        InvalidImage: If it is damaged, its tags are too large, or its numbers have no range that is black to white.
    """
    header = parse(encoded)
    if header.format in _FORMATS:
        raise _without_range(_FORMATS[header.format])
    if header.bits > 16:
        raise _without_range(f"{header.bits}-bit numbers")
    if header.format == _SIGNED and header.bits > 8:
        raise _without_range(f"signed {header.bits}-bit numbers")
    if header.photometric in (_LOG_L, _LOG_LUV):
        raise _without_range("logarithmic luminance (LogLuv)")
    return ImageHeader("TIFF", header.width, header.height, header.samples, header.bits)


def _without_range(kind: str) -> InvalidImage:
    return InvalidImage(
        f"TIFF of {kind}, of which nothing says what is black and what white: scale them to 0–255 and save them as "
        "8 bits"
    )


def parse(encoded: bytes) -> TiffHeader:
    """Read the tags of the first picture.

    Raises:
        InvalidImage: If they are damaged or too large.
    """
    reader = _Reader(encoded)
    tags = reader.folder(reader.first)
    header = TiffHeader(
        width=_single(reader, tags, _WIDTH),
        height=_single(reader, tags, _HEIGHT),
        bits=reader.value(tags, _BITS, 1),
        samples=reader.value(tags, _SAMPLES, 1),
        format=reader.value(tags, _SAMPLE_FORMAT, 1),
        photometric=reader.value(tags, _PHOTOMETRIC, 0),
        compression=reader.value(tags, _COMPRESSION, _UNCOMPRESSED),
        planar=reader.value(tags, _PLANAR, 1),
        orientation=reader.value(tags, _ORIENTATION, 1),
        big=reader.big,
        big_endian=reader.order == ">",
    )
    tile = reader.value(tags, _TILE_WIDTH, 0) * reader.value(tags, _TILE_HEIGHT, 0)
    if tile > 4 * header.width * header.height + _TILE_PIXELS:
        raise damaged("TIFF", f"its tiles of {tile / 1e6:.1f} megapixels are much larger than its picture")
    if header.for_opencv:
        _check_places(reader, tags)
    return header


def _single(reader: _Reader, tags: dict[int, _Tag], tag: int) -> int:
    if tag in tags and tags[tag].values != 1:
        raise damaged("TIFF", f"tag {tag} has {tags[tag].values} values")
    return reader.value(tags, tag, None)


def _check_places(reader: _Reader, tags: dict[int, _Tag]) -> None:
    """Check that all strips or tiles lie within the file: OpenCV gives black for others."""
    places, sizes = (_STRIPS, _STRIP_BYTES) if _STRIPS in tags else (_TILES, _TILE_BYTES)
    for index in range(tags[places].values if places in tags else 0):
        if reader.value(tags, places, 0, index) + reader.value(tags, sizes, 0, index) > len(reader.encoded):
            raise cut_short("TIFF", f"its pixels lie beyond its {len(reader.encoded)} bytes")


def without_metadata(encoded: bytes) -> bytes:
    """The same file without its EXIF and GPS directories, which Pillow would read whole."""
    reader = _Reader(encoded)
    reader.folder(reader.first)
    if not reader.pointers:
        return encoded
    changed = bytearray(encoded)
    for position in reader.pointers:
        changed[position + 2 : position + 4] = bytes(2)  # a type that no decoder knows
    return bytes(changed)
