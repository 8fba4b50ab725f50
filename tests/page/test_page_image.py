"""The README's picture of the page, `notebooks/images/page.png`: there, small, and made again when asked for.

FORGESYTE_UPDATE_IMAGES=1 pytest tests/page/test_page_image.py
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

import forgesyte_nb as fs
from tests.page.conftest import Watched

pytestmark = pytest.mark.asyncio(loop_scope="module")

IMAGE = Path(__file__).parents[2] / "notebooks" / "images" / "page.png"
MOST_BYTES = 150_000


@pytest.mark.skipif(not os.environ.get("FORGESYTE_UPDATE_IMAGES"), reason="set FORGESYTE_UPDATE_IMAGES=1 to make it")
async def test_make_the_image(watched: Watched, server: fs.Server, tmp_path: Path) -> None:
    from skimage import data

    Image.fromarray(data.astronaut()[:336]).save(tmp_path / "astronaut.png")
    await watched.open(server)
    await watched.page.select_option("#plugin", "face_detector")
    await watched.drop(tmp_path / "astronaut.png", "image/png")
    await watched.until("document.getElementById('canvas').dataset.boxes === '1'")
    await watched.until("document.getElementById('result-card').hidden === false")
    await watched.settled()
    picture = Image.open(io.BytesIO(await watched.page.screenshot()))
    IMAGE.parent.mkdir(exist_ok=True)
    picture.convert("RGB").quantize(128, dither=Image.Dither.FLOYDSTEINBERG).save(IMAGE, optimize=True)


async def test_the_image_is_small() -> None:
    assert 0 < IMAGE.stat().st_size < MOST_BYTES
    with Image.open(IMAGE) as picture:
        assert picture.size == (1100, 760)
