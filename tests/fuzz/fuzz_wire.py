"""The parser under atheris, which guides its inputs by the code they reach: messages, headers of images, options.

    python -m tests.fuzz.fuzz_wire [--pillow] [libFuzzer's options] [folder of inputs to begin with]

With `--pillow` it is guided by what it reaches in Pillow's readers, too, and a tenth as fast. The first byte of an
input says whose it is. Anything raised but the errors of the wire is a crash, and ends the run; so does an input that
takes seconds. `write_seeds` writes inputs to begin with, `write_dictionary` the words that more may be made of.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import atheris

if "--pillow" in sys.argv:
    sys.argv.remove("--pillow")
    with atheris.instrument_imports(include=["PIL"]):
        from PIL import BmpImagePlugin, GifImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401

with atheris.instrument_imports(include=["forgesyte_nb"]):
    from pydantic import Field

    from forgesyte_nb.decode_cost import check_jpeg_scans, check_png_chunks
    from forgesyte_nb.errors import InvalidImage, InvalidMessage, InvalidOptions
    from forgesyte_nb.image_header import FORMATS, jpeg_end, read_header
    from forgesyte_nb.plugins.options import OptionsSchema, check_size
    from forgesyte_nb.protocol import wire
    from forgesyte_nb.protocol.messages import Error

MAX_PIXELS = 50_000_000
TEXT, BINARY, IMAGE, OPTIONS = range(4)


def _plugin(
    frame: Any,
    *,
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5,
    mode: Literal["fast", "good"] = "fast",
    count: int = 1,
    tags: list[str] = [],  # noqa: B006 -- never called
    table: dict[str, int | None] = {},  # noqa: B006 -- never called
) -> None: ...


_schema = OptionsSchema(_plugin)


def one_input(data: bytes) -> None:
    """Give one input to the part that its first byte names."""
    try:
        (_text, _binary, _image, _options)[data[0] % 4 if data else TEXT](data[1:])
    except (InvalidMessage, InvalidImage, InvalidOptions):
        return


def _text(data: bytes) -> None:
    wire.encode(Error(wire.frame_id_of(data), wire.plugin_of(data), "", "", ""))
    wire.decode_client(data)


def _binary(data: bytes) -> None:
    wire.frame_id_of(wire.header_of(data))
    wire.decode_client_binary(data)


def _image(data: bytes) -> None:
    header = read_header(data, max_pixels=MAX_PIXELS)
    if header.format not in FORMATS or not 0 < header.width * header.height <= MAX_PIXELS:
        raise ValueError(f"let through: {header}")
    if header.format == "JPEG":
        jpeg_end(data)
        check_jpeg_scans(data)
    elif header.format == "PNG":
        check_png_chunks(data)


def _options(data: bytes) -> None:
    check_size(data, max_bytes=64 * 1024, max_depth=16)
    found = _schema.keywords(data)
    if not 0 <= found["threshold"] <= 1 or found["mode"] not in ("fast", "good") or type(found["count"]) is not int:
        raise ValueError(f"let through: {found}")


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


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
