"""Pictures that cannot be taken, refused at the door with the reason; and odd ones that are pictures all the same."""

from __future__ import annotations

import base64
import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

import forgesyte_nb as fs
from tests.conftest import Connect, SeedClient, encoded
from tests.server.conftest import Start

PLUGIN = """
@fs.plugin
def looks(frame):
    return {"size": list(frame.size_wh), "corner": frame.rgb[0, 0].tolist(), "last": frame.rgb[-1, -1].tolist()}
"""

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture(scope="module")
def server(start_for_module: Start) -> fs.Server:
    return start_for_module(PLUGIN, engine="processes")


@pytest.fixture
async def sender(server: fs.Server, client: Connect) -> SeedClient:
    return await client(server)


@pytest.fixture
async def watcher(server: fs.Server, client: Connect) -> SeedClient:
    listening = await client(server, "watcher")
    await listening.send({"type": "subscribe", "topic": "all"})
    assert await listening.fence() == []
    return listening


def two_colours(width: int = 48, height: int = 32) -> Image.Image:
    """Red above, blue below."""
    picture = Image.new("RGB", (width, height), RED)
    picture.paste(BLUE, (0, height // 2, width, height))
    return picture


def without_pixels() -> bytes:
    """A PNG of 0×0 whose checksums are right."""
    whole = encoded(two_colours())
    header = b"IHDR" + struct.pack("!II", 0, 0) + whole[24:29]
    return whole[:12] + header + struct.pack("!I", zlib.crc32(header)) + whole[33:]


def flat_jpeg() -> bytes:
    """A JPEG whose frame header says 0×0."""
    whole = encoded(two_colours(), "JPEG")
    at = whole.index(b"\xff\xc0") + 5
    return whole[:at] + bytes(4) + whole[at + 4 :]


def refused_pictures() -> dict[str, tuple[bytes, str]]:
    png, jpeg = encoded(two_colours()), encoded(two_colours(), "JPEG")
    noise = random.Random(1).randbytes(4000)
    return {
        "empty": (b"", "Image is empty (0 bytes): nothing was sent"),
        "a byte": (b"\xff", "Image too small (1 bytes)"),
        "half of a PNG": (png[: len(png) // 2], "PNG is cut short: no IEND in its"),
        "half of a JPEG": (jpeg[: len(jpeg) // 2], "cut short"),
        "JPEG without its end": (jpeg[:-2], "JPEG is cut short: no end marker in its"),
        "half of a GIF": (encoded(two_colours(), "GIF")[:12], "too small (12 bytes)"),
        "random": (noise, "No picture that can be read (4000 bytes starting"),
        "fifty bytes": (noise[:50], "(50 bytes starting"),
        "a text": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "send the bytes of a JPEG, PNG,"),
        "0x0 PNG": (without_pixels(), "PNG without pixels: its header says 0×0"),
        "0x0 JPEG": (flat_jpeg(), "JPEG without pixels: its header says 0×0"),
        "177 megapixels": (
            encoded(Image.new("1", (13320, 13320))),
            "PNG of 13320×13320 = 177.4 megapixels is over the limit of 50.0: scale it down, or raise max_image_pixels",
        ),
    }


@pytest.mark.parametrize("name", refused_pictures())
async def test_refused_at_the_door(sender: SeedClient, watcher: SeedClient, name: str) -> None:
    image, reason = refused_pictures()[name]
    await sender.frame("bad", image, "looks")
    await sender.frame("good", encoded(two_colours()), "looks")
    assert (await sender.terminal("good"))["result"]["size"] == [48, 32]
    errors = [m for m in await sender.fence() if m["frame_id"] == "bad"]
    assert [m["type"] for m in errors] == ["error"], "one error, no job"
    assert (errors[0]["error_code"], errors[0]["plugin"], errors[0]["job_id"]) == ("INVALID_IMAGE", "looks", None)
    assert reason in errors[0]["message"]
    assert {m["frame_id"] for m in await watcher.fence()} == {"good"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not base64!", "image_data is not base64 ("),
        ("aGVsbG8", "image_data is not base64 ("),
        ("aGVsbG8=" * 300 + "*", "image_data is not base64 ("),
        ("-_-_", "encoded as standard base64"),
        ("data:image/png;base64", "a data: URL without a comma; expected 'data:image/png;base64,…'"),
        ("ä" * 2000, "image_data is not base64 ("),
    ],
)
async def test_what_is_not_base64(sender: SeedClient, watcher: SeedClient, text: str, reason: str) -> None:
    await sender.send({"type": "send_frame", "frame_id": "bad", "image_data": text, "plugin": "looks"})
    said = await sender.fence()
    assert [(m["type"], m["error_code"], m["frame_id"]) for m in said] == [("error", "INVALID_IMAGE", "bad")]
    assert reason in said[0]["message"]
    assert await watcher.fence() == []
    assert (await sender.analyze("good", encoded(two_colours()), "looks"))["type"] == "frame_result"


async def test_a_data_url_and_white_space_in_base64_are_taken(sender: SeedClient) -> None:
    text = base64.encodebytes(encoded(two_colours())).decode()
    for number, image_data in enumerate(("data:image/png;base64," + text.replace("\n", ""), text)):
        message = {"type": "send_frame", "frame_id": str(number), "image_data": image_data, "plugin": "looks"}
        await sender.send(message)
        assert (await sender.terminal(str(number)))["result"]["corner"] == list(RED)


async def test_a_picture_that_is_damaged_behind_its_header_is_a_failed_job(
    sender: SeedClient, watcher: SeedClient
) -> None:
    whole = encoded(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    at = whole.index(b"IDAT") + 20
    damaged = whole[:at] + bytes(2000) + whole[at + 2000 :]
    error = await sender.analyze("bad", damaged, "looks")
    assert (error["type"], error.get("error_code")) == ("error", "INVALID_IMAGE"), error
    assert error["job_id"].startswith("job_")
    updates = [m["status"] for m in sender.heard if m["type"] == "job_update"]
    assert updates == ["pending", "processing", "failed"]
    assert [m["type"] for m in sender.heard].count("error") == 1
    assert (await sender.analyze("good", encoded(two_colours()), "looks"))["type"] == "frame_result"
    heard = [m for m in await watcher.fence() if m["frame_id"] == "bad"]
    assert [m["type"] for m in heard] == ["job_update", "job_update", "error", "job_update"]


def odd_pictures() -> dict[str, tuple[bytes, list[int]]]:
    picture = two_colours()
    sideways = Image.Exif()
    sideways[0x0112] = 8  # stored turned: to be shown turned a quarter to the left
    later = [two_colours().rotate(180) for _ in range(2)]
    deep = np.zeros((32, 48), np.uint16)
    deep[:16] = 65535
    return {
        "animated GIF": (encoded(picture, "GIF", save_all=True, append_images=later), [48, 32]),
        "animated PNG": (encoded(picture, "PNG", save_all=True, append_images=later), [48, 32]),
        "animated WebP": (encoded(picture, "WEBP", save_all=True, append_images=later, lossless=True), [48, 32]),
        "CMYK": (encoded(picture.convert("CMYK"), "JPEG", quality=95, subsampling=0), [48, 32]),
        "EXIF": (encoded(picture.rotate(-90, expand=True), "JPEG", exif=sideways, quality=95, subsampling=0), [48, 32]),
        "gray 16 bit": (encoded(Image.fromarray(deep)), [48, 32]),
    }


@pytest.mark.parametrize("name", odd_pictures())
async def test_odd_pictures_are_pictures(sender: SeedClient, name: str) -> None:
    image, size = odd_pictures()[name]
    answer: dict[str, Any] = await sender.analyze("odd", image, "looks")
    assert answer["type"] == "frame_result", answer
    result = answer["result"]
    first, last = ((255, 255, 255), (0, 0, 0)) if "gray" in name else (RED, BLUE)
    assert result["size"] == size
    assert np.allclose(result["corner"], first, atol=8), result
    assert np.allclose(result["last"], last, atol=8), result
