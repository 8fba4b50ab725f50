"""The harness itself, on plain ipywidgets and on `fs.serve()`: what the other tests here rely upon."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from PIL import Image
from playwright.async_api import expect

import forgesyte_nb as fs
from tests.lab.conftest import OpenNotebook
from tests.lab.jupyter_lab import JupyterLab
from tests.lab.notebook import PATIENCE_S, Notebook

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_cells_run_in_a_kernel_that_imports_this_very_package(notebook: Notebook) -> None:
    cell = await notebook.run("import forgesyte_nb as fs, os; x = 1; print(fs.__file__); print(os.getpid())")
    path, process = (await notebook.output(cell, r"\d+\s*$")).split()
    assert Path(path) == Path(fs.__file__)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        await notebook.run("1 / 0")

    await notebook.restart()
    assert "NameError" in await notebook.output(await notebook.run("x", fails=True))
    await notebook.rerun(cell)
    assert process not in await notebook.output(cell, r"\d+\s*$")
    assert "6" in await notebook.output(await notebook.run("6 * x"))


async def test_the_page_reaches_the_server_of_a_kernel_unless_blocked(notebook: Notebook) -> None:
    cell = await notebook.run("import forgesyte_nb as fs; server = fs.serve(port=0); print('port', server.port)")
    port = int((await notebook.output(cell, r"port \d+")).split()[-1])
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


async def test_a_widget_answers_and_survives_what_is_done_to_its_page(notebook: Notebook) -> None:
    cell = await notebook.run("import ipywidgets as w; slider = w.IntSlider(3, description='speed'); slider")
    area = await notebook.show(cell)
    await expect(area.locator(".widget-readout")).to_have_text("3")
    await area.locator(".noUi-handle").focus()
    await notebook.page.keyboard.press("ArrowRight")
    await expect(area.locator(".widget-readout")).to_have_text("4")
    await notebook.wait_idle()
    assert "4" in await notebook.output(await notebook.run("slider.value"))

    view = await notebook.second_view(cell)
    await expect(view.locator(".widget-readout")).to_have_text("4")
    await notebook.hide()
    await expect(area).not_to_be_visible()
    await notebook.bring_back()
    await expect(area).to_be_visible()

    await notebook.run("slider.value = 7")
    await notebook.reload()
    await expect((await notebook.area(cell)).locator(".widget-readout")).to_have_text("7")
    await notebook.wait_idle()
    assert "7" in await notebook.output(await notebook.run("slider.value"))


async def test_themes_widths_and_pictures(notebook: Notebook) -> None:
    await notebook.run("'x' * 80")
    widths = []
    for columns in (80, None):
        await notebook.width(columns)
        with Image.open(await notebook.screenshot(f"columns-{columns}")) as picture:
            widths.append(picture.width)
    assert 640 < widths[0] < 1000 < widths[1]
    background = "getComputedStyle(document.querySelector('.jp-Notebook')).backgroundColor"
    light = await notebook.page.evaluate(background)
    await notebook.theme("dark")
    assert await notebook.page.evaluate(background) != light

    notebook.expect_errors("foreseen")
    await notebook.page.evaluate("console.error('this was foreseen'); console.error('this was not')")
    await notebook.page.evaluate("setTimeout(() => { throw new Error('nor was that') })")
    async with asyncio.timeout(PATIENCE_S):
        while len(notebook.errors) < 2:
            await asyncio.sleep(0.02)
    assert ["was not" in notebook.errors[0], "nor was that" in notebook.errors[1]] == [True, True]
    notebook.errors.clear()


async def test_a_widget_moves_while_a_cell_sleeps(each_ipykernel: str, open_notebook: OpenNotebook) -> None:
    notebook = await open_notebook(each_ipykernel)
    cell = await notebook.run(
        "import ipykernel, threading, time, ipywidgets as w\n"
        "label = w.Label('0')\n"
        "def count():\n"
        "    while not done.wait(0.02): label.value = str(int(label.value) + 1)\n"
        "done = threading.Event(); thread = threading.Thread(target=count)\n"
        "print('ipykernel-' + ipykernel.__version__); label"
    )
    version = (await notebook.output(cell, r"ipykernel-\d")).split()[0]
    assert each_ipykernel == "python3" or version.startswith(each_ipykernel + ".")
    await expect((await notebook.area(cell)).locator(".widget-label")).to_have_text("0")
    busy = await notebook.start("thread.start(); time.sleep(300)")
    await notebook.wait_busy()
    await notebook.wait_for("Number(document.querySelector('.widget-label').textContent) > 5")
    assert await notebook.is_running(busy)
    await notebook.interrupt()
    await notebook.ended(busy, fails=True)
    await notebook.run("done.set(); thread.join()")


async def test_nothing_is_left_of_a_closed_jupyterlab(tmp_path: Path) -> None:
    lab = await asyncio.to_thread(JupyterLab, tmp_path)
    session = {"path": "x.ipynb", "type": "notebook", "name": "x", "kernel": {"name": "python3"}}
    await asyncio.to_thread(lab.api, "sessions", "POST", session)
    started = lab.processes()
    assert len(started) >= 2, started
    await asyncio.to_thread(lab.close)
    assert [process for process in started if process.is_running()] == []
