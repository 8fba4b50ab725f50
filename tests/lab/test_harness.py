"""The harness itself, on plain ipywidgets and on `fs.serve()`: what the other tests here rely upon."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.async_api import expect

import forgesyte_nb as fs
from tests.lab.conftest import OpenNotebook
from tests.lab.jupyter_lab import JupyterLab
from tests.lab.notebook import Notebook

pytestmark = pytest.mark.asyncio(loop_scope="session")

SLIDER = "import ipywidgets as w; slider = w.IntSlider(3, description='speed'); slider"


async def test_cells_run_in_a_kernel_that_imports_this_very_package(notebook: Notebook) -> None:
    cell = await notebook.run("import forgesyte_nb as fs, sys; print(fs.__file__); print(sys.executable)")
    seen = (await notebook.output(cell)).split()
    assert Path(seen[0]) == Path(fs.__file__)
    failing = await notebook.run("1 / 0", fails=True)
    assert "division by zero" in await notebook.output(failing)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        await notebook.run("1 / 0")
    assert "6" in await notebook.output(await notebook.run("2 * 3"))


async def test_every_ipykernel_is_the_one_its_name_says(each_ipykernel: str, open_notebook: OpenNotebook) -> None:
    notebook = await open_notebook(each_ipykernel)
    cell = await notebook.run("import ipykernel, forgesyte_nb; print('ipykernel-' + ipykernel.__version__)")
    seen = await notebook.output(cell, r"ipykernel-\d")
    if each_ipykernel != "python3":
        assert seen.startswith(each_ipykernel + ".")


async def test_the_server_of_a_kernel_answers_the_page(notebook: Notebook) -> None:
    cell = await notebook.run(
        "import forgesyte_nb as fs; server = fs.serve(port=0, engine='inline'); print(server.port)"
    )
    port = int(re.findall(r"\d+", await notebook.output(cell))[-1])
    greet = """port => new Promise(done => {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/ws/page`);
      socket.onopen = () => { done("open"); socket.close(); };
      socket.onclose = event => done(event.code);
    })"""
    assert await notebook.page.evaluate(greet, port) == "open"
    lift = await notebook.block_port(port)
    assert await notebook.page.evaluate(greet, port) == 1013
    await lift()
    assert await notebook.page.evaluate(greet, port) == "open"
    await notebook.run("server.close()")


async def test_a_widget_shows_and_answers(notebook: Notebook) -> None:
    area = await notebook.show(await notebook.run(SLIDER))
    await expect(area.locator(".widget-readout")).to_have_text("3")
    await area.locator(".noUi-handle").focus()
    await notebook.page.keyboard.press("ArrowRight")
    await expect(area.locator(".widget-readout")).to_have_text("4")
    await notebook.wait_idle()
    assert "4" in await notebook.output(await notebook.run("slider.value"))


async def test_a_widget_moves_while_a_cell_sleeps(notebook: Notebook) -> None:
    area = await notebook.area(await notebook.run("import ipywidgets as w; label = w.Label('0'); label"))
    await expect(area.locator(".widget-label")).to_have_text("0")
    busy = await notebook.start(
        "import threading, time\n"
        "def count():\n"
        "    while not done.wait(0.02): label.value = str(int(label.value) + 1)\n"
        "done = threading.Event(); thread = threading.Thread(target=count); thread.start()\n"
        "time.sleep(300)"
    )
    await notebook.wait_busy()
    await notebook.wait_for("Number(document.querySelector('.widget-label').textContent) > 5")
    assert await notebook.is_running(busy)
    await notebook.interrupt()
    await notebook.ended(busy, fails=True)
    await notebook.run("done.set(); thread.join()")


async def test_a_restart_forgets_and_a_cell_runs_again(notebook: Notebook) -> None:
    cell = await notebook.run("x = 1; import os; print('process', os.getpid())")
    before = await notebook.output(cell)
    await notebook.restart()
    assert "NameError" in await notebook.output(await notebook.run("x", fails=True))
    await notebook.rerun(cell)
    assert await notebook.output(cell, "process") != before
    assert "1" in await notebook.output(await notebook.run("x"))


async def test_a_reloaded_page_shows_the_widget_again(notebook: Notebook) -> None:
    cell = await notebook.run(SLIDER)
    await notebook.run("slider.value = 7")
    await notebook.reload()
    await expect((await notebook.area(cell)).locator(".widget-readout")).to_have_text("7")
    await notebook.wait_idle()
    assert "7" in await notebook.output(await notebook.run("slider.value"))


async def test_a_second_view_and_a_hidden_notebook(notebook: Notebook) -> None:
    cell = await notebook.run(SLIDER)
    view = await notebook.second_view(cell)
    await expect(view.locator(".widget-readout")).to_have_text("3")
    await notebook.hide()
    await expect(await notebook.area(cell)).not_to_be_visible()
    await notebook.bring_back()
    await expect(await notebook.area(cell)).to_be_visible()


async def test_themes_widths_and_pictures(notebook: Notebook) -> None:
    await notebook.run(SLIDER)
    sizes = {}
    for columns in (80, None):
        await notebook.width(columns)
        with Image.open(await notebook.screenshot(f"slider-{columns}")) as picture:
            sizes[columns] = picture.size
    assert sizes[80][0] < 1000 < sizes[None][0]
    await notebook.theme("dark")
    background = "getComputedStyle(document.querySelector('.jp-Notebook')).backgroundColor"
    dark = await notebook.page.evaluate(background)
    await notebook.theme("light")
    assert dark != await notebook.page.evaluate(background)


async def test_the_console_is_listened_to(open_notebook: OpenNotebook) -> None:
    notebook = await open_notebook()
    notebook.expect_errors("foreseen")
    await notebook.page.evaluate("console.error('this was foreseen'); console.error('this was not')")
    await notebook.page.evaluate("setTimeout(() => { throw new Error('nor was that') })")
    while len(notebook.errors) < 2:
        await asyncio.sleep(0.02)
    assert ["was not" in notebook.errors[0], "nor was that" in notebook.errors[1]] == [True, True]
    notebook.errors.clear()


async def test_nothing_is_left_of_a_closed_jupyterlab(tmp_path: Path) -> None:
    lab = await asyncio.to_thread(JupyterLab, tmp_path)
    session = {"path": "x.ipynb", "type": "notebook", "name": "x", "kernel": {"name": "python3"}}
    await asyncio.to_thread(lab.api, "sessions", "POST", session)
    started = lab.processes()
    assert len(started) >= 2, started
    await asyncio.to_thread(lab.close)
    assert [process for process in started if process.is_running()] == []
