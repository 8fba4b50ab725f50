"""Image files that are small and want to be large, messages that cost more to read than to send, and tiny fragments.

Each is made here byte by byte, since no library would write it. `REFUSED` and `HARMLESS` are image files by name, with
what a server should say of the first; `MESSAGES` are whole text messages, each of which is answered by one error;
`FRAGMENTS` are WebSocket frames, masked as a client's must be.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

MIB = 1024 * 1024


@cache
def _zeros(size: int) -> bytes:
    """So many zeros, deflated: whole mebibytes are the same bytes again and again."""
    deflate = zlib.compressobj(9, wbits=-15)
    mebibyte = deflate.compress(bytes(MIB)) + deflate.flush(zlib.Z_FULL_FLUSH)
    rest = zlib.compressobj(9, wbits=-15)
    end = rest.compress(bytes(size % MIB)) + rest.flush()
    checksum = struct.pack(">HH", size % 65521, 1)  # Adler-32 of zeros (RFC 1950)
    return b"\x78\xda" + mebibyte * (size // MIB) + end + checksum


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *, data: bytes | None = None, depth: int = 8, extra: bytes = b"") -> bytes:
    """A gray PNG of zeros, or of given deflated rows, with more chunks before its data."""
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    rows = _zeros((1 + (width * depth + 7) // 8) * height) if data is None else data
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + extra + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _note(kind: bytes, size: int) -> bytes:
    """A compressed note of zeros in a PNG."""
    head = {b"zTXt": b"note\0\0", b"iTXt": b"note\0\1\0\0\0", b"iCCP": b"note\0\0"}[kind]
    return _chunk(kind, head + _zeros(size))


def _small_jpeg(**options: bool) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(file, "JPEG", **options)
    return file.getvalue()


def jpeg(width: int, height: int) -> bytes:
    """A small JPEG whose frame header says another size."""
    whole = _small_jpeg()
    at = whole.index(b"\xff\xc0") + 5
    return whole[:at] + struct.pack(">HH", height, width) + whole[at + 4 :]


def jpeg_of_two_sizes() -> bytes:
    """A JPEG with a second frame header, which is huge."""
    whole = _small_jpeg()
    at = whole.index(b"\xff\xc0")
    end = at + 2 + int.from_bytes(whole[at + 2 : at + 4], "big")
    second = whole[at : at + 5] + struct.pack(">HH", 60_000, 60_000) + whole[at + 9 : end]
    return whole[:end] + second + whole[end:]


def jpeg_of_scans(width: int, height: int, scans: int) -> bytes:
    """A gray progressive JPEG with one scan of empty blocks again and again (ITU-T T.81 section G.1.2.2)."""
    quantisation = b"\xff\xdb" + struct.pack(">HB", 67, 0) + b"\1" * 64
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\x00"
    dc = b"\xff\xc4" + struct.pack(">HB", 20, 0x00) + bytes([0, 1, *[0] * 14, 0x00])
    ac = b"\xff\xc4" + struct.pack(">HB", 20, 0x10) + bytes([0, 1, *[0] * 14, 0xE0])  # one code: a run of 2^14 and more
    first = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\x00\x00\x00\x00" + bytes(16)
    runs = -(-(width // 8 + 1) * (height // 8 + 1) // (2**15 - 1))
    bits = ("00" + "1" * 14) * runs
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    scan = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\x01\x00\x01\x3f\x00" + data
    return b"".join([b"\xff\xd8", quantisation, frame, dc, ac, first, scan * scans, b"\xff\xd9"])


def tiff(width: int, height: int, strip: bytes, *, tile: int = 0) -> bytes:
    """A gray TIFF of one deflated strip, or one tile of that side."""
    place = [(322, tile), (323, tile), (324, 8), (325, len(strip))] if tile else []
    if not tile:
        place = [(273, 8), (278, height), (279, len(strip))]
    tags = [(256, width), (257, height), (258, 8), (259, 8), (262, 1), (277, 1), *place]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags))
    folder = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + folder


def gif(screen: int, side: int) -> bytes:
    """A GIF whose picture is larger than its screen."""
    head = b"GIF89a" + struct.pack("<HHBBB", screen, screen, 0x80, 0, 0) + bytes(6)
    return head + b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x4c\x01\x00;"


def bmp(width: int, height: int) -> bytes:
    """A BMP whose run-length data end at once."""
    information = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 0, 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1080, 0, 0, 1078) + information + bytes(1024) + b"\x00\x01"


def jpeg_behind_ff00(width: int, height: int) -> bytes:
    """A gray JPEG without data that a reader of lengths reads as 8×8.

    Decoders skip `FF 00` (libjpeg's `next_marker`) and find the frame header. A reader that takes what follows for a
    segment skips it, and goes on within the comment, which holds another one.
    """

    def segment(marker: int, body: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", 2 + len(body)) + body

    def frame(wide: int, high: int) -> bytes:
        return segment(0xC0, struct.pack(">BHHB", 8, high, wide, 1) + b"\x01\x11\x00")

    comment = segment(0xFE, frame(8, 8))
    found = frame(width, height)
    hidden = b"\xff\x00" + struct.pack(">H", 2 + len(found) + 4) + found + comment
    tables = segment(0xDB, b"\0" + b"\1" * 64)
    tables += b"".join(segment(0xC4, bytes([kind, 1, *[0] * 15, 0])) for kind in (0x00, 0x10))
    scan = segment(0xDA, b"\x01\x01\x00\x00\x3f\x00") + bytes(8)
    return b"\xff\xd8" + hidden + tables + scan + b"\xff\xd9"


def tiff_of_tags(count: int, values: int, *, tag: int, kind: int, unit: int) -> bytes:
    """A TIFF of 8×8 with so many tags in a row, each of so many values, all in the same place."""
    room = bytes(values * unit)
    tags = [
        (256, 4, 1, 8),
        (257, 4, 1, 8),
        (258, 3, 1, 8),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (278, 4, 1, 8),
        (279, 4, 1, 64),
    ]
    tags += [(tag + number, kind, values, 8) for number in range(count)]
    entries = b"".join(struct.pack("<HHII", *one) for one in sorted(tags))
    return b"II*\0" + struct.pack("<I", 8 + len(room)) + room + struct.pack("<H", len(tags)) + entries + bytes(4)


def gif_of_comments(blocks: int) -> bytes:
    """A GIF with a comment in blocks of one byte."""
    whole = gif(8, 8)
    return whole[:19] + b"\x21\xfe" + b"\1x" * blocks + b"\0" + whole[19:]


def webp(width: int, height: int) -> bytes:
    """A WebP of a canvas of that size without a picture."""
    canvas = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "PNG of 10,000 megapixels": (lambda: png(100_000, 100_000, data=_zeros(MIB), depth=1), "over the limit"),
    "PNG of 1 by 2^31": (lambda: png(1, 2**31 - 1, data=_zeros(MIB)), "no side may be over"),
    "PNG with data of 560 MiB": (lambda: png(8, 8, data=_zeros(560 * MIB)), "go on after its picture"),
    "PNG with 300 notes of 1 MiB": (lambda: png(8, 8, extra=_note(b"zTXt", MIB) * 300), "compressed texts"),
    "PNG of two sizes": (
        lambda: png(8, 8, extra=_chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))),
        "is damaged",
    ),
    "JPEG of 4,290 megapixels": (lambda: jpeg(65_500, 65_500), "over the limit"),
    "JPEG of two sizes": (jpeg_of_two_sizes, "is damaged"),
    "JPEG of 1,000 scans of 49 megapixels": (lambda: jpeg_of_scans(7000, 7000, 1000), "scans"),
    "JPEG of 20,000 scans": (lambda: jpeg_of_scans(64, 64, 20_000), "scans"),
    "JPEG of 1,024 megapixels behind FF 00": (lambda: jpeg_behind_ff00(32_000, 32_000), "over the limit"),
    "TIFF of 300,000 strips": (lambda: tiff_of_tags(1, 300_000, tag=273, kind=3, unit=2), "strips or tiles"),
    "TIFF of 300,000 numbers": (lambda: tiff_of_tags(1, 300_000, tag=282, kind=3, unit=2), "numbers"),
    "GIF with 200,000 comments": (lambda: gif_of_comments(200_000), "blocks of comments"),
    "WebP of 268 megapixels": (lambda: webp(16_384, 16_384), "over the limit"),
    "BMP of 300,000 run lengths": (lambda: bmp(7000, 7000)[:-2] + b"\1\1" * 300_000, "run-length codes"),
    "TIFF of 10,000 megapixels": (lambda: tiff(100_000, 100_000, _zeros(MIB)), "over the limit"),
    "TIFF of a tile of 3,600 megapixels": (lambda: tiff(64, 64, _zeros(MIB), tile=60_000), ""),
    "GIF of 3,600 megapixels": (lambda: gif(10, 60_000), "over the limit"),
    "BMP of 900 megapixels": (lambda: bmp(30_000, 30_000), "over the limit"),
}
"""By name: the file, and words of the INVALID_IMAGE that it is answered."""

HARMLESS: dict[str, Callable[[], bytes]] = {
    "PNG with a zTXt of 512 MiB": lambda: png(8, 8, extra=_note(b"zTXt", 512 * MIB)),
    "PNG with an iTXt of 512 MiB": lambda: png(8, 8, extra=_note(b"iTXt", 512 * MIB)),
    "PNG with an iCCP of 512 MiB": lambda: png(8, 8, extra=_note(b"iCCP", 512 * MIB)),
    "PNG with data of 1 GiB more": lambda: png(1000, 1000, data=_zeros(1024 * MIB)),
    "PNG of 2^31 frames": lambda: png(8, 8, extra=_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))),
    "TIFF of 4,000 tags of 500 kB": lambda: tiff_of_tags(4000, 500_000, tag=40_000, kind=7, unit=1),
    "TIFF with a strip of 512 MiB": lambda: tiff(8, 8, _zeros(512 * MIB)),
}
"""Pictures all the same: what wants to be large is never unpacked."""

LARGE: dict[str, tuple[Callable[[], bytes], str]] = {
    "PNG of 49 megapixels": (lambda: png(7000, 7000), "frame_result"),
    "TIFF of 49 megapixels": (lambda: tiff(7000, 7000, _zeros(49_000_000)), "frame_result"),
    "BMP of 49 megapixels": (lambda: bmp(7000, 7000), "frame_result"),
    "GIF of 49 megapixels without data": (lambda: gif(10, 7000), "error"),
}
"""By name: files of 50 KiB or less that keep to the default limits, and what they are answered; pixels of 140 MiB."""

_DEEP = 500_000


def _frame(options: str = "{}", **fields: str) -> str:
    """A `send_frame` whose fields are raw JSON."""
    raw = {"frame_id": '"bomb"', "plugin": '"looks"', "image_data": '"AAAA"', **fields}
    named = ",".join(f'"{name}":{value}' for name, value in raw.items())
    return f'{{"type":"send_frame","options":{options},{named}}}'


MESSAGES: dict[str, Callable[[], str]] = {
    "nothing but [": lambda: "[" * (2 * _DEEP),
    "lists in options": lambda: _frame('{"a":' + "[" * _DEEP + "]" * _DEEP + "}"),
    "objects in options": lambda: _frame('{"a":' * 150_000 + "1" + "}" * 150_000),
    "lists in a field that nobody knows": lambda: _frame(x="[" * _DEEP + "]" * _DEEP),
    "lists for a type": lambda: '{"type":' + "[" * _DEEP + "]" * _DEEP + "}",
    "a number of a million digits": lambda: _frame('{"a":' + "7" * (2 * _DEEP) + "}"),
    "an exponent of half a million digits": lambda: _frame('{"a":1e' + "9" * _DEEP + "}"),
    "a frame_id of a million characters": lambda: _frame(frame_id=json.dumps("x" * (2 * _DEEP))),
    "a frame_id of escapes": lambda: _frame(frame_id='"' + "\\u0001" * 150_000 + '"'),
    "a plugin of a million characters": lambda: _frame(plugin=json.dumps("p" * (2 * _DEEP))),
    "a type of a million characters": lambda: json.dumps({"type": "x" * (2 * _DEEP)}),
    "a topic of a million characters": lambda: json.dumps({"type": "subscribe", "topic": "p" * (2 * _DEEP)}),
    "fields that nobody knows": lambda: "{" + ",".join(f'"k{number}":0' for number in range(80_000)) + "}",
    "options that nobody knows": lambda: _frame("{" + ",".join(f'"k{number}":0' for number in range(80_000)) + "}"),
    "white space": lambda: " " * (2 * _DEEP) + "{",
    "base64 of white space": lambda: _frame(image_data=json.dumps("\n" * _DEEP)),
    "base64 of escapes": lambda: _frame(image_data='"' + "\\u0041" * 160_000 + '"'),
}

_HEAD, _MORE, _MASK = 0x01, 0x00, bytes(4)


def _fragment(opcode: int, payload: bytes) -> bytes:
    return bytes([opcode, 0x80 | len(payload)]) + _MASK + payload


FRAGMENTS: dict[str, Callable[[], bytes]] = {
    "fragments of a byte": lambda: _fragment(_HEAD, b"x") + _fragment(_MORE, b"x") * 300_000,
    "fragments of nothing": lambda: _fragment(_HEAD, b"x") + _fragment(_MORE, b"") * 340_000,
    "fragments of 20 bytes": lambda: _fragment(_HEAD, b"x") + _fragment(_MORE, b"x" * 20) * 80_000,
}
