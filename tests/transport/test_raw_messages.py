"""Raw pixels in binary messages of `forgesyte.v2`, and clients that send them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.errors import InvalidMessage
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.protocol.wire import decode_client_binary, encode_binary
from tests.conftest import run_cell

SEES = """
@fs.plugin
def sees(frame) -> dict:
    return {"rgb": frame.rgb.tolist(), "format": frame.format}
"""
NOISE = np.random.default_rng(2).integers(0, 256, (5, 7, 3), np.uint8)


def message(payload: bytes, **fields: Any) -> bytes:
    return encode_binary({"type": "send_frame", "frame_id": "1", "plugin": "sees", "options": {}, **fields}, payload)


def test_pixels_have_the_layout_that_the_header_names() -> None:
    color = decode_client_binary(message(NOISE.tobytes(), encoding="rgb24", width=7, height=5))
    assert np.array_equal(color.image, NOISE)
    gray = decode_client_binary(message(NOISE[..., 0].tobytes(), encoding="gray8", width=7, height=5))
    assert np.array_equal(gray.image, NOISE[..., 0])
    assert decode_client_binary(message(b"file")).image == b"file"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"encoding": "rgb24"}, "'width' and 'height' are required"),
        ({"encoding": "rgb24", "width": 7}, "'width' and 'height' are required"),
        ({"encoding": "rgb24", "width": 7, "height": 6}, "rgb24 of 7×6 takes 126 bytes of pixels, not 105"),
        ({"encoding": "gray8", "width": 7, "height": 5}, "gray8 of 7×5 takes 35 bytes of pixels, not 105"),
        ({"encoding": "yuv420p", "width": 7, "height": 5}, "yuv420p"),
        ({"encoding": "rgb24", "width": 0, "height": 5}, ">= 1"),
        ({"encoding": "rgb24", "width": 1 << 40, "height": 1 << 40}, "<= 65535"),
        ({"encoding": "rgb24", "width": "7", "height": 5}, "int"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidMessage, match="send_frame") as caught:
        decode_client_binary(message(NOISE.tobytes(), **fields))
    assert reason in str(caught.value)


@pytest.mark.parametrize("offer_v2", [True, False])
def test_a_lossless_client_keeps_every_pixel(serve_on: Callable[..., fs.Server], offer_v2: bool) -> None:
    registry = Registry()
    run_cell(SEES, registry)
    server = serve_on(registry)
    with fs.BlockingClient(server.url, lossless=True, offer_v2=offer_v2) as client:
        result = client.analyze(NOISE, "sees")
        streamed = [one["rgb"] for one in client.stream([NOISE, NOISE[::-1]], "sees", ordered=True)]
    assert result["rgb"] == NOISE.tolist()
    assert result["format"] == ("array" if offer_v2 else "PNG")
    assert streamed == [NOISE.tolist(), NOISE[::-1].tolist()]


def test_pixels_over_the_limit_are_refused(serve_on: Callable[..., fs.Server]) -> None:
    registry = Registry()
    run_cell(SEES, registry)
    server = serve_on(registry, max_image_pixels=30)
    for client in (fs.BlockingClient(server), fs.BlockingClient(server.url, lossless=True)):
        with client, pytest.raises(fs.InvalidImage, match="7×5 are over the limit of 30 pixels"):
            client.analyze(NOISE, "sees")
