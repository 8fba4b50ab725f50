"""TIFF and BigTIFF files: the header of the first picture.

Sources: TIFF 6.0 sections 8, 15 (tiles) and 19 (sample format); BigTIFF (libtiff, 2004).
"""

from __future__ import annotations

from typing import NamedTuple

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image import tiff_tags as tag
from forgesyte_nb.image.formats import ImageHeader, cut_short, damaged
from forgesyte_nb.image.tiff_tags import Directory

_TILE_PIXELS = 1 << 24  # of a tile, whatever the picture's size
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
    directory = Directory(encoded)
    header = TiffHeader(
        width=directory.only_value(tag.WIDTH),
        height=directory.only_value(tag.HEIGHT),
        bits=directory.value(tag.BITS, 1),
        samples=directory.value(tag.SAMPLES, 1),
        format=directory.value(tag.SAMPLE_FORMAT, 1),
        photometric=directory.value(tag.PHOTOMETRIC, 0),
        compression=directory.value(tag.COMPRESSION, _UNCOMPRESSED),
        planar=directory.value(tag.PLANAR, 1),
        orientation=directory.value(tag.ORIENTATION, 1),
        big=directory.big,
        big_endian=directory.order == ">",
    )
    tile = directory.value(tag.TILE_WIDTH, 0) * directory.value(tag.TILE_HEIGHT, 0)
    if tile > 4 * header.width * header.height + _TILE_PIXELS:
        raise damaged("TIFF", f"its tiles of {tile / 1e6:.1f} megapixels are much larger than its picture")
    if header.for_opencv:
        _check_places(directory)
    return header


def _check_places(directory: Directory) -> None:
    """Check that all strips or tiles lie within the file: OpenCV gives black for others."""
    strips = tag.STRIPS in directory.tags
    places, sizes = (tag.STRIPS, tag.STRIP_BYTES) if strips else (tag.TILES, tag.TILE_BYTES)
    size = len(directory.encoded)
    for index in range(directory.tags[places].values if places in directory.tags else 0):
        if directory.value(places, 0, index) + directory.value(sizes, 0, index) > size:
            raise cut_short("TIFF", f"its pixels lie beyond its {size} bytes")
