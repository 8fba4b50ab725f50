"""The parser under atheris, which guides its inputs by the code they reach: messages, headers of images, options.

    python -m tests.fuzz.fuzz_wire [--pillow] [libFuzzer's options] [folder of inputs to begin with]

With `--pillow` it is guided by what it reaches in Pillow's readers, too, and a tenth as fast. The first byte of an
input says whose it is. Anything raised but the errors of the wire is a crash, and ends the run; so does an input that
takes seconds. `fuzz_seeds.py` has inputs to begin with. Not for import where tests run: it instruments what it imports.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

import atheris

if "--pillow" in sys.argv:
    sys.argv.remove("--pillow")
    with atheris.instrument_imports(include=["PIL"]):
        from PIL import BmpImagePlugin, GifImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401

with atheris.instrument_imports(include=["forgesyte_nb"]):
    from pydantic import Field

    from forgesyte_nb.errors import InvalidImage, InvalidMessage, InvalidOptions
    from forgesyte_nb.image import jpeg, png, webp
    from forgesyte_nb.image.formats import FORMATS
    from forgesyte_nb.image.header import read_header
    from forgesyte_nb.image.tiff_tags import Directory
    from forgesyte_nb.plugins.options import OptionsSchema, check_size
    from forgesyte_nb.protocol import wire
    from forgesyte_nb.protocol.messages import Error

MAX_PIXELS = 50_000_000


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
        (_text, _binary, _image, _options)[data[0] % 4 if data else 0](data[1:])
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
        jpeg.find_end(data)
        jpeg.check_scans(data)
        jpeg.read_orientation(data)
    elif header.format == "PNG":
        png.read_orientation(data, png.check_chunks(data))
    elif header.format == "WEBP":
        webp.read_orientation(data)
    elif header.format == "TIFF":
        Directory(data).without_others()


def _options(data: bytes) -> None:
    check_size(data, max_bytes=64 * 1024, max_depth=16)
    found = _schema.keywords(data)
    if not 0 <= found["threshold"] <= 1 or found["mode"] not in ("fast", "good") or type(found["count"]) is not int:
        raise ValueError(f"let through: {found}")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
