"""One thing a user has, made into one picture that can be sent.

`as_picture` takes encoded bytes, a path, an array, a Pillow image or a `Frame` and gives a `Frame`; bytes that are
no valid picture become a `RawImage`, which travels as it is, so that the server says what is wrong with it and
one bad file never stops a batch. Both have `bytes`, `frame_id` (here: where the picture came from), `seq` and
`captured_at`.
"""

from __future__ import annotations

import base64
import copy
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from forgesyte_nb.errors import InvalidImage, SourceError
from forgesyte_nb.image.frame import Frame
from forgesyte_nb.image.orientation import ORIENTATION_TAG, UPRIGHT, turn_upright
from forgesyte_nb.image.pillow import pixels_rgb

_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
_LEAST_BASE64 = 32  # characters; no image file is smaller
_LONGEST_PATH = 4096  # characters: PATH_MAX of Linux
_SHOWN_CHARS = 160
_PIXELS = frozenset({"rgb", "bgr", "gray", "pil", "size_wh"})  # what a `Frame` has


@dataclass(slots=True)
class RawImage:
    """Bytes that are no picture as far as their header tells, or a file that could not be read.

    Attributes:
        bytes: As they were found; empty if they could not be read.
        frame_id: Where they came from.
        seq: Number in the source.
        captured_at: Seconds since the epoch; None if unknown.
        unreadable: Why there are no bytes; empty if there are. Such an image is never sent.
        time_s: Position in the clip that it is from, in seconds; None if it is from no clip.
    """

    bytes: bytes
    frame_id: str = ""
    seq: int = 0
    captured_at: float | None = None
    unreadable: str = ""
    time_s: float | None = None

    def __getattr__(self, name: str) -> Any:
        """Raise `InvalidImage` for the pixels, which it does not have."""
        if name in _PIXELS:
            raise InvalidImage(self.unreadable or f"{self.frame_id or 'these bytes'}: no picture that can be read")
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")


Picture = Frame | RawImage


def as_picture(thing: Any, *, name: str = "", seq: int = 0) -> Picture:
    """Make a picture of one thing.

    Args:
        thing: Bytes of an image file, the path of one, a uint8 array `(H, W, 3)` in RGB order or `(H, W)`, a
            Pillow image, or a `Frame`. Arrays and Pillow images travel as JPEG; where every pixel must stay
            as it is, give `Frame.from_array(array, lossless=True)` or the bytes of a PNG.
        name: Where it came from; a path names itself.
        seq: Its number in its source.

    Raises:
        SourceError: If it is none of these.
        InvalidImage: If it is an array of a shape or type that is no picture, or a Pillow image of numbers without a
            range (mode F, mode I beyond 16 bits).
    """
    if isinstance(thing, (Frame, RawImage)):
        picture = copy.copy(thing)
        picture.seq = seq
        picture.frame_id = thing.frame_id or name
        if picture.captured_at is None:
            picture.captured_at = time.time()
        return picture
    if isinstance(thing, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(thing), name, seq, time.time())
    if isinstance(thing, (str, os.PathLike)):
        return _from_file(os.path.expanduser(thing), name or os.fspath(thing), seq)
    return Frame.from_array(_pixels(thing), frame_id=name, seq=seq, captured_at=time.time())


def _from_file(path: str, name: str, seq: int) -> Picture:
    """A file's bytes as they are; what cannot be read says so when its turn comes."""
    try:
        if "://" in path:
            return RawImage(b"", name, seq, unreadable=_refused_url(path))
        file = Path(path)
        return _from_bytes(file.read_bytes(), name, seq, file.stat().st_mtime)
    except OSError as error:
        if advice := advice_on_base64(path):
            return RawImage(b"", "base64 text", seq, unreadable=advice)
        said = (
            f"{_shortened(path) or repr(path)}: {error.strerror or error}; give the path of an image file, or its bytes"
        )
        return RawImage(b"", name, seq, unreadable=said)
    except ValueError as error:  # no name of a file: with a NUL, or with what the file system cannot encode
        return RawImage(b"", name, seq, unreadable=f"{_shortened(path)!r} is no path ({error})")


def advice_on_base64(text: str) -> str:
    """What to give instead of base64 text or a `data:` URL; empty for any other text."""
    is_data_url = text.startswith("data:")
    if not is_data_url and not _is_base64(text):
        return ""
    encoded = "text.partition(',')[2]" if is_data_url else "text"
    return f"{_shortened(text)} is base64 text: give base64.b64decode({encoded})"


def _refused_url(url: str) -> str:
    parts = urlsplit(url)  # without user, password and query, which may be secret
    shown = _shortened(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
    return (
        f"{shown} is a URL, not a path: download an image and give its bytes, as in "
        "urllib.request.urlopen(url).read(), or use fs.stream(url) for a camera or video"
    )


def _is_base64(text: str) -> bool:
    """True for base64 text that is an image file, or is longer than any path."""
    if len(text) < _LEAST_BASE64 or not _BASE64.fullmatch(text):
        return False
    try:
        Frame(base64.b64decode(text))
    except (ValueError, InvalidImage):
        return len(text) > _LONGEST_PATH
    return True


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def _from_bytes(encoded: bytes, name: str, seq: int, captured_at: float) -> Picture:
    try:
        return Frame(encoded, frame_id=name, seq=seq, captured_at=captured_at)
    except InvalidImage:
        return RawImage(encoded, name, seq, captured_at)


def _pixels(thing: Any) -> Any:
    """What NumPy makes an array of; a Pillow image of any mode becomes 8-bit RGB, upright."""
    if hasattr(thing, "convert") and hasattr(thing, "getbands"):
        pixels = pixels_rgb(thing)
        return turn_upright(pixels, thing.getexif().get(ORIENTATION_TAG, UPRIGHT))
    if hasattr(thing, "__array__") or hasattr(thing, "__array_interface__"):
        return thing
    raise SourceError(
        f"{type(thing).__name__} is no picture: give bytes of an image file, a path, a uint8 array (H, W, 3), "
        "a Pillow image or a Frame"
    )
