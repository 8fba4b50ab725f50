"""What the inputs of `fuzz_wire.py` are made of: right ones to begin with, and words."""

from __future__ import annotations

import json
import struct
from pathlib import Path

TEXT, BINARY, IMAGE, OPTIONS = range(4)
"""The first byte of an input: whose it is."""


def write_seeds(folder: Path, pictures: list[bytes]) -> None:
    """Inputs to begin with, one a file: a right message of each type, pictures, options."""
    options = b'{"threshold": 0.5, "mode": "good", "count": 3, "tags": ["a"], "table": {"a": 1, "b": null}}'
    frame = b'{"type": "send_frame", "frame_id": "f", "plugin": "p", "options": %b, "stream_id": "s"' % options
    seeds = [
        (TEXT, frame + b', "image_data": "aGVsbG8="}'),
        (TEXT, frame + b', "image_data": "data:image/png;base64,' + b"QUJD" * 300 + b'"}'),
        (TEXT, b'{"type": "subscribe", "topic": "job_1"}'),
        (TEXT, b'{"type": "cancel", "job_id": "job_1"}'),
        (TEXT, b'{"type": "resume", "epoch": "e", "seq": 7, "secret": "s"}'),
        (TEXT, b'{"type": "watch", "feed": "f", "max_width": 320, "quality": 80, "pace_ms": 50}'),
        (TEXT, b'{"type": "ack", "feed": "f", "seq": 1}'),
        (TEXT, b'{"type": "control", "feed": "f", "action": "a", "value": {"v": [1]}, "request_id": "r"}'),
        (BINARY, struct.pack("<I", len(frame) + 1) + frame + b"}" + pictures[0]),
        (OPTIONS, options),
        *((IMAGE, picture) for picture in pictures),
    ]
    for number, (whose, data) in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(bytes([whose]) + data)


def write_dictionary(path: Path) -> None:
    """Words that inputs may be made of, in libFuzzer's format."""
    fields = (
        "type",
        "frame_id",
        "plugin",
        "image_data",
        "options",
        "stream_id",
        "topic",
        "epoch",
        "seq",
        "secret",
        "feed",
    )
    types = ("send_frame", "subscribe", "unsubscribe", "cancel", "resume", "watch", "unwatch", "ack", "control")
    marks = [b"\xff\xd8\xff", b"\xff\xc0\x00\x11\x08", b"\xff\xd9", b"\x89PNG\r\n\x1a\n", b"IHDR", b"IEND", b"acTL"]
    marks += [b"GIF89a", b"BM", b"RIFF", b"WEBPVP8X", b"II*\x00", b"MM\x00*", b"Exif\x00\x00", b"\\ud800", b"1e999"]
    words = [*(json.dumps(word).encode() for word in (*fields, *types)), *marks]
    path.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in words))
