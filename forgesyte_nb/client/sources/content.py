"""What a file holds, by its first bytes: a picture, a video, text. Suffixes decide nothing here.

Sources of the signatures: the "Magic" sections of the formats' own specifications as collected in FFmpeg's probes
(`libavformat/*dec.c`) and in the WHATWG standard "MIME Sniffing", section 6.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Literal

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.frame import Frame

Kind = Literal["image", "video", "heic", "text", "unknown"]

HEAD_BYTES = 512

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff"}
)
"""A file with one of these is a picture even if its content is damaged, so that it is reported and not left out."""

JPEG_START = b"\xff\xd8\xff"

_IMAGE_STARTS = (JPEG_START, b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM")
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_VIDEO_STARTS = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"FLV\x01",
    b"OggS",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF, WMV
    b"DKIF",  # IVF
    b"YUV4MPEG2",
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01",  # MXF
    b"\x00\x00\x01\xba",  # MPEG program stream, VOB
    b"\x00\x00\x01\xb3",  # MPEG video
    b"\x00\x00\x00\x01",  # H.264 and H.265 byte streams
    b"\x00\x00\x01\x67",
    b"\x1f\x07\x00",  # DV
    b"#EXTM3U",
)
_MOV_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_TS_PACKET = 188  # bytes (ISO/IEC 13818-1, section 2.4.3.2); 192 in .m2ts, with 4 bytes in front


def kind_of(head: bytes) -> Kind:
    """The kind of a file from its first `HEAD_BYTES` bytes; "unknown" for what may be a video that FFmpeg knows."""
    if head.startswith(_IMAGE_STARTS + _TIFF_STARTS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "image"
    if head[4:8] == b"ftyp":
        return "heic" if head[8:12] in _HEIC_BRANDS else "video"
    if head.startswith(_VIDEO_STARTS) or head[4:8] in _MOV_ATOMS or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return "video"
    if head[:1] == head[_TS_PACKET : _TS_PACKET + 1] == b"G" or head[4:5] == head[196:197] == b"G":
        return "video"
    return "text" if _is_text(head) else "unknown"


def kind_of_file(path: Path) -> Kind:
    """As `kind_of`; "unknown" for a file that cannot be read."""
    try:
        with path.open("rb") as file:
            return kind_of(file.read(HEAD_BYTES))
    except (OSError, ValueError):
        return "unknown"


def is_picture_file(path: Path) -> bool:
    """True if a file is a picture by its content, or by its suffix where its content is no video."""
    kind = kind_of_file(path)
    return kind == "image" or (path.suffix.lower() in IMAGE_SUFFIXES and kind not in ("video", "heic"))


def _is_text(head: bytes) -> bool:
    if not head:
        return False
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # else the last character is cut in two
            return False
        text = head[: error.start].decode()
    return not any(ord(character) < 32 and character not in "\t\n\r\f\x1b" for character in text)


# Pictures in one file


def pictures_in(file: BinaryIO) -> int:
    """Number of pictures in an image file: pages of a TIFF, frames of an animation, pictures of an MJPEG file.

    Only headers are read, nothing is decoded. 1 for a file whose structure is damaged: the decoder reports that.
    """
    head = file.read(32)
    try:
        if head.startswith(_TIFF_STARTS):
            return len(tiff_pages(file)) or 1
        if head[:6] in (b"GIF87a", b"GIF89a"):
            return _gif_frames(head + file.read()) or 1
        if head.startswith(b"\x89PNG"):
            return _apng_frames(file) or 1
        if head[:4] == b"RIFF" and head[12:16] == b"VP8X" and head[20] & 0x02:
            return _webp_frames(file) or 1
        if head.startswith(JPEG_START):
            return _jpegs(head + file.read())
    except (IndexError, OSError, OverflowError, ValueError):
        pass  # cut short or damaged
    return 1


_MOST_PAGES = 100_000
_LEAST_FRAME_BYTES = 38 + 12  # of an APNG: the chunk fcTL, and one of pixels


def tiff_pages(file: BinaryIO) -> list[int]:
    """Numbers of the directories of a TIFF that are pages, not thumbnails or masks (TIFF 6.0, sections 2 and 8)."""
    file.seek(0)
    head = file.read(16)
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    big = head[2:4] in (b"+\0", b"\0+")  # BigTIFF: 8-byte offsets
    offset_bytes, count_bytes, entry_bytes = (8, 8, 20) if big else (4, 2, 12)
    offset = int.from_bytes(head[8:16] if big else head[4:8], order)
    pages, seen = [], set[int]()
    while offset and offset not in seen and len(seen) < _MOST_PAGES:
        seen.add(offset)
        file.seek(offset)
        directory = file.read(count_bytes + entry_bytes)
        entries = int.from_bytes(directory[:count_bytes], order)
        first = directory[count_bytes:]
        # NewSubfileType has the lowest number of the usual tags, and tags are sorted: bit 0 a thumbnail, bit 2 a mask.
        kind = int.from_bytes(first[12:16] if big else first[8:12], order)
        if int.from_bytes(first[:2], order) != 254 or not kind & 0b101:
            pages.append(len(seen) - 1)
        file.seek(offset + count_bytes + entries * entry_bytes)
        offset = int.from_bytes(file.read(offset_bytes), order)
    return pages


def _gif_frames(content: bytes) -> int:
    """Image descriptors of a GIF (GIF89a specification, appendix A)."""
    at = 13 + _color_table(content[10])
    frames = 0
    while content[at] in (0x21, 0x2C):
        if content[at] == 0x2C:
            frames += 1
            at += 11 + _color_table(content[at + 9])
        else:
            at += 2
        while at < len(content) and content[at]:
            at += content[at] + 1
        at += 1
        if at >= len(content):
            break
    return frames


def _color_table(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _apng_frames(file: BinaryIO) -> int:
    """Frames by `acTL`, which stands in front of the first `IDAT` (PNG third edition, section 11.3.6)."""
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        if head[4:] == b"acTL":
            claimed = int.from_bytes(file.read(4), "big")
            return min(claimed, file.seek(0, os.SEEK_END) // _LEAST_FRAME_BYTES)
        file.seek(int.from_bytes(head[:4], "big") + 4, 1)
    return 1


def _webp_frames(file: BinaryIO) -> int:
    """`ANMF` chunks of a WebP (RFC 9649, section 2.7.1.2)."""
    file.seek(12)
    frames = 0
    while len(head := file.read(8)) == 8:
        frames += head[:4] == b"ANMF"
        size = int.from_bytes(head[4:], "little")
        file.seek(size + size % 2, 1)
    return frames


def _jpegs(content: bytes) -> int:
    return 1 if first_jpeg(content) is content else content.count(_NEXT_JPEG) + 1


def first_jpeg(content: bytes) -> bytes:
    """The first picture of an MJPEG file; `content` itself if it is not one.

    In an MJPEG file a picture of the same size follows right behind the first. A picture with a preview or a video
    behind it, as phones write it, is one picture.
    """
    at = content.find(_NEXT_JPEG, 0, _MOST_JPEG_BYTES)
    for _ in range(_MOST_ENDS):
        if at < 0:
            break
        first, rest = content[: at + 2], content[at + 2 : at + 2 + _MOST_JPEG_BYTES]
        try:
            if Frame(first).stored_size_wh == Frame(rest).stored_size_wh:
                return first
            return content
        except InvalidImage:
            at = content.find(_NEXT_JPEG, at + 2, _MOST_JPEG_BYTES)  # it is inside a segment, such as a thumbnail
    return content


_NEXT_JPEG = b"\xff\xd9\xff\xd8\xff"  # end of a picture, start of another (ITU-T T.81, table B.1)
_MOST_JPEG_BYTES = 1 << 24  # of the first picture of an MJPEG file
_MOST_ENDS = 16  # in what its segments hold
