"""`StreamView` in JupyterLab: its controls, what comes back after what, and how it looks."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import Locator, expect

from tests.lab.conftest import OpenNotebook
from tests.lab.notebook import Cell, Notebook

pytestmark = pytest.mark.asyncio(loop_scope="session")

SERVE = """\
import forgesyte_nb as fs
import numpy as np
server = fs.serve(port=0, workers=1)

@fs.plugin(engine="threads")
def moving(frame, *, size: int = 60) -> dict:
    x = (frame.seq * 4) % 500
    if frame.seq % 50 == 49:
        raise fs.PluginError("a frame that fails")
    return {"boxes": [fs.Box(x, 100, size, size, label="square")], "mean": float(frame.gray.mean()), "seq": frame.seq}

def frames():
    y, x = np.mgrid[0:480, 0:640]
    for n in range(100_000):
        yield np.stack([(x + n) % 256, (y + 2 * n) % 256, np.full_like(x, n % 256)], -1).astype("uint8")
stream = fs.stream(frames(), moving, speed=3.0, intent="every_frame")
print("port", server.port)
"""
VIEW = "view = fs.StreamView(stream); view"
STATE = "document.querySelector('.fs-widget')?.forgesyteState"


async def served(notebook: Notebook) -> int:
    """Run a server and a stream; the server's port."""
    text = await notebook.output(await notebook.run(SERVE), r"port \d+")
    return int(re.findall(r"port (\d+)", text)[-1])


async def shown(notebook: Notebook, way: str) -> tuple[Cell, Locator]:
    """Show the stream; wait until pictures come by this way."""
    cell = await notebook.run(VIEW)
    area = await notebook.show(cell)
    await drawn_by(notebook, way)
    return cell, area


async def drawn_by(notebook: Notebook, way: str) -> None:
    await notebook.wait_for(f"({STATE}?.drawn ?? 0) > 3 && {STATE}?.way === '{way}'")


async def more_pictures(notebook: Notebook, count: int = 10) -> None:
    """Wait until so many more are drawn."""
    before = await notebook.page.evaluate(f"{STATE}.drawn")
    await notebook.wait_for(f"{STATE}.drawn >= {before + count}")


async def test_pictures_controls_and_ledger(notebook: Notebook) -> None:
    await served(notebook)
    _, area = await shown(notebook, "direct")
    await expect(area.locator(".fs-badge-text")).to_have_text("live")
    await notebook.wait_for(f"{STATE}.told.ledger.errors > 0")
    await expect(area.locator(".fs-failure")).to_contain_text("a frame that fails")
    await area.get_by_role("button", name="Pause").click()
    await expect(area.locator(".fs-status")).to_have_text("paused")
    await notebook.wait_for(f"{STATE}.told.ledger.pending === 0")
    ledger = await notebook.page.evaluate(f"{STATE}.told.ledger")
    assert ledger["sent"] == ledger["results"] + ledger["errors"] + ledger["skipped"] + ledger["pending"]
    await area.get_by_role("button", name="One frame more").click()
    await notebook.wait_for(f"{STATE}.told.ledger.sent === {ledger['sent'] + 1}")
    slider = area.get_by_role("slider")
    await slider.focus()
    await notebook.page.keyboard.press("ArrowLeft")
    await expect(area.locator(".fs-back")).to_have_text("1 back")
    async with notebook.page.expect_download() as saved:
        await area.get_by_role("button", name="Save this picture").click()
    assert (await saved.value).suggested_filename.endswith(".png")
    await area.get_by_role("button", name="live").click()
    await expect(area.locator(".fs-back")).to_have_text("")
    await area.get_by_label("Speed").select_option("0.5")
    await notebook.wait_for(f"{STATE}.told.speed === 0.5")
    await area.get_by_label("Intent").select_option("freshest")
    await notebook.wait_for(f"{STATE}.told.intent === 'freshest'")
    await area.get_by_role("button", name="Play").click()
    await more_pictures(notebook)
    await area.get_by_role("button", name="Stop").click()
    await expect(area.locator(".fs-status")).to_have_text("stopped")


async def watchers(notebook: Notebook, count: int) -> None:
    """Wait until the kernel counts so many."""
    await notebook.run(
        "import time\n"
        "end = time.monotonic() + 20\n"
        f"while stream.feed.watchers != {count} and time.monotonic() < end: time.sleep(0.02)\n"
        f"assert stream.feed.watchers == {count}, stream.feed.watchers"
    )


async def test_a_second_view_a_rerun_a_reload_and_another_server(notebook: Notebook) -> None:
    await served(notebook)
    cell, _ = await shown(notebook, "direct")
    await notebook.second_view(cell)
    await notebook.wait_for(
        "[...document.querySelectorAll('.fs-widget')].filter(one => one.forgesyteState.drawn > 3).length === 2"
    )
    await watchers(notebook, 2)
    await notebook.rerun(cell)
    await notebook.show(cell)
    await drawn_by(notebook, "direct")
    await notebook.reload()
    await notebook.show(cell)
    await drawn_by(notebook, "direct")
    notebook.expect_errors("WebSocket connection to .* failed")  # the old port, until the new one is known
    await notebook.run("server = fs.serve(port=0, workers=2)")
    await notebook.run("stream.close(); stream = fs.stream(frames(), moving, speed=1.0)")
    await notebook.rerun(cell)
    await notebook.show(cell)
    await drawn_by(notebook, "direct")
    await notebook.run("view.close()")
    await watchers(notebook, 0)


async def test_a_restarted_kernel_is_found_by_the_cell_that_runs_again(notebook: Notebook) -> None:
    await served(notebook)
    cell, area = await shown(notebook, "direct")
    notebook.expect_errors("WebSocket connection to .* failed")
    restarting = asyncio.create_task(notebook.restart())  # looked at meanwhile: later it says that there is no kernel
    await expect(area.locator(".fs-badge-text")).to_have_text("lost, reconnecting …")
    await restarting
    await served(notebook)
    await notebook.rerun(cell)
    await notebook.show(cell)
    await drawn_by(notebook, "direct")


async def test_by_comm_too_a_lost_kernel_is_said(notebook: Notebook) -> None:
    await notebook.block_port(await served(notebook))
    await notebook.block(r"^ws://[^/]+/forgesyte_nb/")
    _, area = await shown(notebook, "comm")
    await notebook.page.evaluate("labTest.panel().sessionContext.restartKernel()")
    await expect(area.locator(".fs-badge-text")).to_have_text("lost, reconnecting …")


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_looks(open_notebook: OpenNotebook, theme: str) -> None:
    notebook = await open_notebook()
    await served(notebook)
    await notebook.theme(theme)
    for columns in (None, 80, 40):
        await notebook.width(columns)
        _, area = await shown(notebook, "direct")
        await notebook.wait_for(f"{STATE}.told.ledger.results > 60")
        await notebook.screenshot(f"stream-view-{theme}-{columns}", area)
        assert await notebook.faults(area.locator(".fs-widget")) == []
        await notebook.run("view.close()")
