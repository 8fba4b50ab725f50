"""How the widgets decode pictures: right colours, upright, and what is no picture is refused, in a real browser.

The module is given to a page on localhost, where browsers let pages decode bytes without a Blob.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image
from playwright.async_api import BrowserContext, Error, Page, Route

import forgesyte_nb
from tests.conftest import encoded

pytestmark = pytest.mark.asyncio(loop_scope="session")

MODULE = Path(forgesyte_nb.__file__).parent / "widgets" / "front" / "decode.js"
DECODE = """async ([text, type, secure]) => {
  const { decode, sizeOf } = await import("/decode.js");
  if (!secure) globalThis.ImageDecoder = undefined;
  const picture = await decode(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)), type);
  const kind = picture.constructor.name;
  const { width, height } = sizeOf(picture);
  const pen = new OffscreenCanvas(width, height).getContext("2d");
  pen.drawImage(picture, 0, 0);
  picture.close();
  return { kind, width, height, rgba: [...pen.getImageData(0, 0, width, height).data] };
}"""
TURNED = 6  # EXIF: the first row is the right-hand side


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: BrowserContext) -> Any:
    """A page that can import the module."""
    page = await browser.new_page()

    async def answer(route: Route) -> None:
        if route.request.url.endswith("/decode.js"):
            await route.fulfill(body=MODULE.read_text("utf-8"), content_type="text/javascript")
        else:
            await route.fulfill(body="<!doctype html>", content_type="text/html")

    await page.route("http://localhost/**", answer)
    await page.goto("http://localhost/")
    yield page
    await page.close()


def picture() -> np.ndarray:
    """`(48, 64, 3)`: four fields of colours, the blue one below on the left."""
    fields = np.zeros((48, 64, 3), np.uint8)
    fields[:24, :32], fields[:24, 32:] = (200, 40, 30), (40, 180, 60)
    fields[24:, :32], fields[24:, 32:] = (30, 60, 210), (230, 230, 225)
    return fields


async def decoded(page: Page, file: bytes, kind: str, *, secure: bool = True) -> tuple[str, np.ndarray]:
    """What the browser made of it, and its pixels as an array of RGB."""
    said = await page.evaluate(DECODE, [base64.b64encode(file).decode(), kind, secure])
    pixels = np.asarray(said["rgba"], np.uint8).reshape(said["height"], said["width"], 4)
    return said["kind"], pixels[..., :3]


def same(found: np.ndarray, wanted: np.ndarray) -> bool:
    """In the middle of each field: at edges a JPEG rings."""
    assert found.shape == wanted.shape
    rows, columns = (np.array([1, 3]) * size // 4 for size in wanted.shape[:2])
    at = np.ix_(rows, columns)
    return bool(np.abs(found[at].astype(int) - wanted[at]).max() <= 6)


async def test_a_jpeg_is_decoded_without_a_blob_where_the_page_may(page: Page) -> None:
    file = encoded(picture(), "JPEG", quality=95)
    kind, pixels = await decoded(page, file, "image/jpeg")
    assert kind == "VideoFrame"
    assert same(pixels, picture())
    kind, pixels = await decoded(page, file, "image/jpeg", secure=False)
    assert kind == "ImageBitmap"
    assert same(pixels, picture())


async def test_gray_and_progressive_jpegs_have_their_colours(page: Page) -> None:
    gray = np.asarray(Image.fromarray(picture()).convert("L"))
    _, pixels = await decoded(page, encoded(gray, "JPEG", quality=95), "image/jpeg")
    assert same(pixels, np.repeat(gray[..., None], 3, axis=2))
    _, pixels = await decoded(page, encoded(picture(), "JPEG", quality=95, progressive=True), "image/jpeg")
    assert same(pixels, picture())


async def test_a_jpeg_with_exif_stands_upright(page: Page) -> None:
    exif = Image.Exif()
    exif[0x0112] = TURNED
    kind, pixels = await decoded(page, encoded(picture(), "JPEG", quality=95, exif=exif.tobytes()), "image/jpeg")
    assert kind == "ImageBitmap"  # of which the standard says how it stands
    assert same(pixels, np.rot90(picture(), -1))


async def test_other_formats_and_what_is_no_picture(page: Page) -> None:
    kind, pixels = await decoded(page, encoded(picture()), "image/png")
    assert kind == "ImageBitmap"
    assert same(pixels, picture())
    with pytest.raises(Error, match="could not be decoded"):
        await decoded(page, b"no picture", "image/jpeg")
