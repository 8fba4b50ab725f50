"""The page in a real browser, against a real server: what a person does, and what they then see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry, registering_in
from tests.conftest import run_cell
from tests.page.conftest import Watched, start_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEAL = [45, 212, 191]


async def show_picture(watched: Watched, server: fs.Server, picture: Path, plugin: str = "boxes") -> None:
    await watched.open(server)
    await watched.page.select_option("#plugin", plugin)
    await watched.drop(picture, "image/png")
    await watched.until(f"document.getElementById('canvas').dataset.plugin === '{plugin}'")


async def slide(watched: Watched, option: str, value: float) -> None:
    """Move a slider as a hand does: the value changes and `input` is fired."""
    await watched.page.locator(f"#option-{option}").fill(str(value))


async def color_at(watched: Watched, x: float, y: float) -> list[int]:
    """Colour of the canvas at a place given in shares of its width and height."""
    found: list[int] = await watched.page.evaluate(
        """([x, y]) => {
             const canvas = document.getElementById("canvas");
             const [px, py] = [Math.round(x * canvas.width), Math.round(y * canvas.height)];
             return [...canvas.getContext("2d").getImageData(px, py, 1, 1).data].slice(0, 3);
           }""",
        [x, y],
    )
    return found


async def test_a_dropped_picture_gets_its_boxes(watched: Watched, server: fs.Server, picture: Path) -> None:
    await show_picture(watched, server, picture)
    await watched.page.select_option("#option-kind", "0")  # no labels: the first colour
    await watched.until("document.getElementById('canvas').dataset.drawn === '2'")
    assert (await watched.drawn())["boxes"] == "2"
    for x in (1 / 4, 1 / 2, 5 / 8, 7 / 8):
        nearby = [await color_at(watched, x + pixels / 1000, 1 / 2) for pixels in range(-3, 4)]
        assert np.abs(np.subtract(nearby, TEAL)).max(axis=1).min() < 40, nearby
    assert await color_at(watched, 3 / 8, 1 / 2) == [90, 90, 90]
    assert await watched.settled() == {"sent": 2, "results": 2, "errors": 0, "skipped": 0, "pending": 0}


async def test_options_change_the_result(watched: Watched, server: fs.Server, picture: Path) -> None:
    await show_picture(watched, server, picture)
    await slide(watched, "threshold", 0.5)
    await watched.until("document.getElementById('canvas').dataset.boxes === '1'")
    assert await watched.page.locator("output[for=option-threshold]").text_content() == "0.5"
    await slide(watched, "threshold", 0.95)
    await watched.until("document.getElementById('canvas').dataset.boxes === '0'")
    await watched.page.click("#reset")
    await watched.until("document.getElementById('canvas').dataset.boxes === '2'")
    await watched.settled()


async def test_text_from_outside_stays_text(watched: Watched, server: fs.Server, picture: Path) -> None:
    await show_picture(watched, server, picture)
    hostile = "<img src=x onerror=alert(1)>"
    await watched.page.fill("#option-label", hostile)
    await watched.until(f"document.getElementById('result').textContent.includes('{hostile}')")
    assert await watched.page.locator("#result img").count() == 0


async def test_every_shape_is_drawn(watched: Watched, server: fs.Server, picture: Path) -> None:
    await show_picture(watched, server, picture, "shapes")
    drawn = await watched.drawn()
    assert {kind: drawn[kind] for kind in ("boxes", "masks", "points", "labels")} == {
        "boxes": "1",
        "masks": "1",
        "points": "1",
        "labels": "1",
    }
    masked, clear = await color_at(watched, 0.2, 0.9), await color_at(watched, 0.8, 0.9)
    assert clear == [90, 90, 90]
    assert masked != clear
    await watched.until("document.querySelectorAll('#result .bars rect').length === 12")


async def test_a_grid_of_names_is_tiles_in_their_colours(watched: Watched, server: fs.Server, picture: Path) -> None:
    await show_picture(watched, server, picture, "block_mapper")
    assert (await watched.drawn())["tiles"] == "1"
    assert await color_at(watched, 0.5 + 1 / 128, 0.5 + 1 / 128) == [87, 91, 91]  # cyan terracotta, nearest to the gray


async def test_a_plugin_defined_while_the_page_is_open_appears(watched: Watched, server: fs.Server) -> None:
    await watched.open(server)
    await watched.page.select_option("#plugin", "slow")
    run_cell("@fs.plugin\ndef newcomer(frame): return {}", server.registry)
    await watched.until("[...document.getElementById('plugin').options].some(one => one.value === 'newcomer')")
    assert await watched.page.input_value("#plugin") == "slow"


async def test_a_plugin_that_fails_is_explained(watched: Watched, server: fs.Server, picture: Path) -> None:
    await show_picture(watched, server, picture)
    await watched.page.check("#option-fail")
    await watched.until("document.getElementById('notice-plugin') !== null")
    words = await watched.page.inner_text("#notice-plugin")
    assert "PLUGIN_ERROR" in words
    assert "asked to fail: clear the box 'fail'" in words
    await watched.page.uncheck("#option-fail")
    await watched.until("document.getElementById('notice-plugin') === null")
    assert (await watched.settled())["errors"] == 1


async def test_the_camera_streams(watched: Watched, server: fs.Server) -> None:
    await watched.open(server)
    await watched.page.select_option("#plugin", "boxes")
    await watched.page.click("#camera")
    await watched.until("Number(document.getElementById('canvas').dataset.drawn) >= 8")
    await watched.ledger()
    await watched.page.select_option("#plugin", "slow")
    await watched.until("document.getElementById('canvas').dataset.plugin === 'slow'")
    await watched.until("Number(document.getElementById('skipped').textContent) > 0")
    await watched.page.click("#run")
    ledger = await watched.settled()
    assert ledger["results"] >= 9
    assert ledger["errors"] == 0


def write_video(path: Path, frames: int) -> None:
    """A video of one second with a brightness that rises; VP8, which every Chromium plays."""
    with av.open(str(path), "w") as video:
        stream: Any = video.add_stream("libvpx", rate=frames)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for index in range(frames):
            pixels = np.full((120, 160, 3), 5 * index, np.uint8)
            video.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        video.mux(stream.encode())


async def test_every_frame_of_a_video_is_analysed(watched: Watched, server: fs.Server, tmp_path: Path) -> None:
    write_video(tmp_path / "rising.webm", 20)
    await watched.open(server)
    await watched.page.select_option("#plugin", "slow")
    await watched.page.check("input[value=every_frame]", force=True)
    await watched.drop(tmp_path / "rising.webm", "video/webm")
    await watched.until("document.getElementById('run').textContent === 'Stop'")
    await watched.until("document.getElementById('run').textContent === 'Start'")  # it ended by itself
    ledger = await watched.settled()
    assert ledger["skipped"] == 0
    assert ledger["results"] == ledger["sent"] >= 9  # ten a second of about one second


async def test_a_server_that_goes_and_comes_back(
    watched: Watched, server: fs.Server, picture: Path, tmp_path: Path
) -> None:
    await show_picture(watched, server, picture)
    server.close()
    await watched.until("document.getElementById('notice-server') !== null")
    assert "fs.serve()" in await watched.page.inner_text("#notice-server")
    assert await watched.page.get_attribute("#connection", "data-state") == "reconnecting"
    await slide(watched, "threshold", 0.5)
    await watched.until("document.getElementById('pending').textContent === '1'")
    with start_server(server.port, tmp_path / "again.log"):
        await watched.until("document.getElementById('canvas').dataset.boxes === '1'")
        await watched.until("document.getElementById('notice-server') === null")
        assert await watched.settled() == {"sent": 2, "results": 2, "errors": 0, "skipped": 0, "pending": 0}
    assert all("ERR_CONNECTION_REFUSED" in error or "WebSocket" in error for error in watched.errors), watched.errors
    watched.errors.clear()


@pytest.mark.parametrize(
    ("fault", "title"),
    [
        ("() => Promise.reject(new DOMException('no', 'NotAllowedError'))", "The camera was refused"),
        ("() => Promise.reject(new DOMException('no', 'NotFoundError'))", "No camera found"),
        ("() => Promise.reject(new DOMException('no', 'NotReadableError'))", "The camera is in use"),
        ("undefined", "The camera needs a secure page"),
    ],
)
async def test_no_camera_is_explained(watched: Watched, server: fs.Server, fault: str, title: str) -> None:
    await watched.page.add_init_script(f"navigator.mediaDevices.getUserMedia = {fault};")
    await watched.open(server)
    await watched.page.click("#camera")
    await watched.until("document.getElementById('notice-source') !== null")
    assert title in await watched.page.inner_text("#notice-source")
    await watched.page.click("#demo")
    await watched.until("Number(document.getElementById('canvas').dataset.drawn) >= 1")
    assert await watched.page.locator("#notice-source").count() == 0


async def test_a_file_that_is_no_picture_is_explained(watched: Watched, server: fs.Server, tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("not a picture")
    await watched.open(server)
    await watched.drop(path, "image/png")
    await watched.until("document.getElementById('notice-source') !== null")
    assert "notes.png" in await watched.page.inner_text("#notice-source")


async def test_a_plugin_defined_anew_shows_its_new_options(watched: Watched, server: fs.Server, picture: Path) -> None:
    await show_picture(watched, server, picture)

    await slide(watched, "threshold", 0.5)
    await watched.until("document.getElementById('canvas').dataset.boxes === '1'")

    def boxes(frame: fs.Frame, *, more: int = 3) -> dict[str, Any]:
        """Defined in a cell meanwhile."""
        return {"more": more}

    with registering_in(server.registry):
        fs.plugin(boxes)
    await slide(watched, "threshold", 0.6)  # an option that is no more: refused, and the page asks what there is
    await watched.until("document.getElementById('option-more') !== null")
    await watched.until("document.getElementById('result').textContent.includes('more')")
    await watched.until("document.getElementById('notice-plugin') === null")


async def test_nothing_overflows_a_narrow_window(watched: Watched, server: fs.Server, picture: Path) -> None:
    await watched.page.set_viewport_size({"width": 400, "height": 800})
    await show_picture(watched, server, picture, "shapes")
    await watched.until("document.getElementById('result-card').hidden === false")
    assert await watched.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    shown = await watched.page.evaluate(
        "document.querySelector('footer').getBoundingClientRect().bottom <= innerHeight"
    )
    assert shown, "the ledger is not in sight"


async def test_a_server_behind_a_token_is_opened_by_typing_it(watched: Watched, picture: Path, tmp_path: Path) -> None:
    token = "correct-horse-battery"  # noqa: S105 -- of this test alone
    settings = fs.Settings(engine="threads", workers=1, token=token)
    folder = Path(__file__).parent / "plugins"
    with fs.Server(
        port=0, plugins=[folder], settings=settings, log=tmp_path / "log", plugin_registry=Registry()
    ) as server:
        await watched.page.goto(server.page_url)
        await watched.until("document.getElementById('token') !== null")
        assert await watched.page.get_attribute("#token", "type") == "password"
        await watched.page.fill("#token", "wrong")
        await watched.page.click("#token-form button")
        await watched.until("document.getElementById('token-hint').textContent === 'That is not it.'")
        await watched.page.fill("#token", "correct horse")
        await watched.page.click("#token-form button")
        await watched.until("document.getElementById('token-hint').textContent.includes('its character 8 is a space')")
        await watched.page.fill("#token", token)
        await watched.page.click("#token-form button")
        await watched.until("document.getElementById('plugin').options.length > 0")
        assert await watched.page.locator("#token").count() == 0
        await watched.page.select_option("#plugin", "boxes")
        await watched.drop(picture, "image/png")
        await watched.until("document.getElementById('canvas').dataset.plugin === 'boxes'")
        assert token not in watched.page.url
        assert not await watched.page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length")
        assert token not in (tmp_path / "log").read_text()
    assert all("403" in error or "ERR_CONNECTION_REFUSED" in error for error in watched.errors), watched.errors
    watched.errors.clear()
