"""A stream's view stays live: while a cell runs, by each of the three ways, on each ipykernel; in two views; unseen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import Locator, expect

from tests.lab.conftest import OpenNotebook
from tests.lab.jupyter_lab import kernels
from tests.lab.notebook import PATIENCE_S, Cell, Notebook

pytestmark = pytest.mark.asyncio(loop_scope="session")

SERVER = "%xmode Minimal\nimport time, forgesyte_nb as fs; server = fs.serve(port=0, workers=1)"
VIEW = "stream = fs.stream(fs.synthetic(frames=None), 'motion_detector', speed=1); view = stream.view(); view"
WATCHES = "[watch for one in view._comm_views._views.values() for watch in one._watched.values()]"  # by comm
BUSY = ["time.sleep(300)", "while True: pass"]
TALL = {"width": 1600, "height": 1800}  # the view stays in sight while cells are added under it
RELAY = r"^ws://[^/]+/forgesyte_nb/"


class Shown:
    """One view of the widget in the page."""

    def __init__(self, root: Locator) -> None:
        self.root = root

    async def state(self) -> dict[str, Any]:
        """What the widget keeps for tests."""
        found: dict[str, Any] = await self.root.evaluate("root => ({ ...root.forgesyteState })")
        return found

    async def until(self, wanted: Callable[[dict[str, Any]], Any], what: str) -> dict[str, Any]:
        """The state once it is as wanted."""
        state: dict[str, Any] = {}
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not wanted(state := await self.state()):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"never {what}; it says {state}") from None
        return state

    async def moves(self, pictures: int = 5) -> None:
        """Pictures are drawn, one after the other."""
        before = (await self.state())["drawn"]
        await self.until(lambda state: state["drawn"] >= before + pictures, f"drew {pictures} more than {before}")

    async def is_told(self, status: str) -> None:
        """The kernel says that the stream is `status`."""
        await self.until(lambda state: state["told"]["status"] == status, f"heard {status!r} from the kernel")

    async def obeys(self) -> None:
        """Paused and started again by its button, and the kernel's own word for both comes back."""
        await self.root.get_by_role("button", name="Pause").click()
        await self.is_told("paused")
        await self.root.get_by_role("button", name="Play").click()
        await self.is_told("playing")
        await self.moves()


async def shown(notebook: Notebook, cell: Cell, way: str = "direct") -> Shown:
    """The view in a cell's output, once it is connected by `way`."""
    view = Shown((await notebook.show(cell)).locator(".fs-widget"))
    await view.root.wait_for()
    await view.until(lambda state: state["way"] == way and state["drawn"], f"connected by {way!r} and drew")
    return view


async def while_busy(notebook: Notebook, code: str, look: Callable[[], Awaitable[None]]) -> None:
    """Look at what goes on while a cell runs, then interrupt it."""
    busy = await notebook.start(code)
    await notebook.wait_busy()
    await look()
    assert await notebook.is_running(busy), "the cell ended before all was seen"
    await notebook.interrupt()
    await notebook.ended(busy, fails=True)


async def test_it_obeys_while_a_cell_runs_by_every_way(each_ipykernel: str, open_notebook: OpenNotebook) -> None:
    notebook = await open_notebook(each_ipykernel)
    await notebook.page.set_viewport_size(TALL)
    await notebook.run(SERVER)
    cell = await notebook.run(VIEW)
    view = await shown(notebook, cell)
    for code in BUSY:
        await while_busy(notebook, code, view.obeys)

    await notebook.block_port(await notebook.ask("server.port"))
    await notebook.rerun(cell)
    view = await shown(notebook, cell, "relay")
    await expect(view.root.locator(".fs-badge-text")).to_have_text("live · relay")
    for code in BUSY:
        await while_busy(notebook, code, view.obeys)

    await notebook.block(RELAY)
    await notebook.rerun(cell)
    view = await shown(notebook, cell, "comm")
    await expect(view.root.locator(".fs-badge-text")).to_have_text("via notebook")
    await view.obeys()
    for code in BUSY:
        await while_busy(notebook, code, view.moves)

    async def press_pause() -> None:  # when this arrives is the ipykernel's choice; that it does is ours
        await view.root.get_by_role("button", name="Pause").click()

    await while_busy(notebook, BUSY[0], press_pause)
    await view.is_told("paused")


async def test_by_comm_what_was_out_of_sight_is_live_again_while_a_cell_runs(open_notebook: OpenNotebook) -> None:
    waits = "ipykernel-6.31"  # whose comm messages wait until a cell has ended
    notebook = await open_notebook(waits if waits in kernels() else "python3")
    await notebook.page.set_viewport_size(TALL)
    await notebook.run(SERVER)
    await notebook.block_port(await notebook.ask("server.port"))
    await notebook.block(RELAY)
    view = await shown(notebook, await notebook.run(VIEW), "comm")
    await notebook.hide()
    await notebook.until(f"any(watch['pace_ms'] == 1000 for watch in {WATCHES})")
    await view.moves(2)

    async def comes_back() -> None:
        await notebook.bring_back()
        await view.moves(3)

    await while_busy(notebook, BUSY[0], comes_back)
    await notebook.visible_tab(False)
    await notebook.until("stream.feed.watchers == 0")


async def test_two_views_agree_rest_unseen_and_follow_a_new_server(notebook: Notebook) -> None:
    await notebook.run(SERVER)
    cell = await notebook.run(VIEW)
    view = await shown(notebook, cell)
    second = Shown((await notebook.second_view(cell)).locator(".fs-widget"))
    await second.root.wait_for()
    await second.moves()
    await second.root.get_by_role("button", name="Pause").click()
    await view.is_told("paused")
    await view.root.get_by_role("button", name="Play").click()
    await second.is_told("playing")

    await notebook.hide()
    await notebook.until("stream.feed.watchers == 1")
    drawn = (await view.state())["drawn"]
    await second.moves()
    assert (await view.state())["drawn"] == drawn
    await notebook.bring_back()
    await view.moves()

    await notebook.visible_tab(False)
    await notebook.until("stream.feed.watchers == 0")
    drawn, drawn_second = (await view.state())["drawn"], (await second.state())["drawn"]
    results = await notebook.ask("stream.ledger['results']")
    await notebook.until(f"stream.ledger['results'] > {results + 10}")
    assert ((await view.state())["drawn"], (await second.state())["drawn"]) == (drawn, drawn_second)
    await notebook.visible_tab(True)
    await view.moves()

    notebook.expect_errors(r"WebSocket connection to 'ws://.*' failed")  # the old port; the browser itself says so
    await notebook.run("old, server = server, fs.serve(port=0, workers=2)")
    assert await notebook.ask("[old.running, server.running]") == [False, True]
    for one in (view, second):
        await one.moves()
