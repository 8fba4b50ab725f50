"""Every widget in a real JupyterLab: it appears, it moves, its controls act, also while a cell is busy."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Locator, expect

from tests.lab.notebook import Notebook

pytestmark = pytest.mark.asyncio(loop_scope="session")

SETUP = """
import forgesyte_nb as fs
server = fs.serve(port=0, engine="threads")

@fs.plugin
def bright(frame, *, threshold: int = 100, label: bool = True):
    \"\"\"Boxes around what is bright.\"\"\"
    import cv2
    count, _, stats, _ = cv2.connectedComponentsWithStats((frame.gray > threshold).astype("uint8"))
    boxes = [fs.Box(*map(int, stats[i, :4]), label="bright" if label else "") for i in range(1, min(count, 20))]
    return {"blocks": boxes, "brightness": float(frame.gray.mean()), "threshold": threshold}
"""
STREAM = "stream = fs.stream('synthetic', 'bright', speed=1, loop=True)"


async def widget(notebook: Notebook, code: str, drawn: int = 1) -> Locator:
    """Run a cell that shows a widget, and wait until it has drawn."""
    area = await notebook.show(await notebook.run(code))
    await until_drawn(notebook, area, drawn)
    return area.locator(".fs-widget").first


async def until_drawn(notebook: Notebook, area: Locator, drawn: int) -> None:
    element = await area.locator(".fs-widget").first.element_handle()
    await notebook.page.wait_for_function("([root, k]) => root.forgesyteState.drawn >= k", arg=[element, drawn])


async def test_a_stream_is_seen_steered_and_looked_back_at(notebook: Notebook) -> None:
    await notebook.run(SETUP + STREAM)
    view = await widget(notebook, "stream.view()", 5)
    await expect(view.locator(".fs-badge")).to_have_attribute("data-way", "direct")
    await expect(view.locator(".fs-ledger")).to_contain_text("sent =")
    await notebook.screenshot("stream_view", view)
    await view.get_by_role("button", name="Pause").click()
    await expect(view.locator(".fs-status")).to_have_text("paused")
    back = view.get_by_label("Look back over the last frames")
    await back.fill("0")
    await expect(view.locator(".fs-back")).to_have_text(re.compile(r"\d+ back"))
    await view.get_by_role("button", name="Stop").click()
    await expect(view.locator(".fs-status")).to_have_text("stopped")


@pytest.mark.parametrize("busy", ["import time; time.sleep(60)", "while True: pass"])
async def test_controls_act_while_a_cell_is_busy(notebook: Notebook, busy: str) -> None:
    await notebook.run(SETUP + STREAM)
    area = await notebook.show(await notebook.run("stream.view()"))
    await until_drawn(notebook, area, 3)
    view = area.locator(".fs-widget").first
    cell = await notebook.start(busy)
    await notebook.wait_busy()
    drawn = await view.evaluate("root => root.forgesyteState.drawn")
    await until_drawn(notebook, area, drawn + 20)
    await view.get_by_role("button", name="Pause").click()
    await expect(view.locator(".fs-status")).to_have_text("paused")
    assert await notebook.is_running(cell)
    await notebook.interrupt()
    await notebook.ended(cell, fails=True)


async def test_a_panel_retunes_the_running_stream(notebook: Notebook) -> None:
    await notebook.run(SETUP + STREAM)
    panel = await widget(notebook, "stream.panel()")
    await panel.get_by_label("threshold").fill("200")
    await expect(panel.locator(".fs-code")).to_contain_text("threshold=200")
    await notebook.run("import time\nwhile stream.results[-1]['threshold'] != 200: time.sleep(0.01)")
    await panel.get_by_role("button", name="Copy as code").click()
    await expect(panel.locator(".fs-code")).to_have_text('fs.stream("synthetic", "bright", threshold=200)')
    await expect(panel.locator(".fs-note").last).to_have_text(re.compile("^Copied|it is selected"))
    by_name = await widget(notebook, "fs.PluginPanel('bright')")
    await expect(by_name.locator(".fs-title")).to_contain_text("1 running stream")
    await by_name.get_by_label("threshold").fill("50")
    await notebook.run("while stream.results[-1]['threshold'] != 50: time.sleep(0.01)")
    await notebook.screenshot("plugin_panel", by_name)


async def test_a_plot_moves(notebook: Notebook) -> None:
    await notebook.run(SETUP + STREAM)
    plot = await widget(notebook, "stream.plot('result.brightness', 'processing_time_ms')", 3)
    await plot.get_by_label("Kind").select_option("histogram")
    await notebook.page.wait_for_function(
        "root => root.forgesyteState.told.kind === 'histogram'", arg=await plot.element_handle()
    )
    await notebook.screenshot("live_plot", plot)


async def test_messages_are_monitored(notebook: Notebook) -> None:
    await notebook.run(SETUP + STREAM)
    monitor = await widget(notebook, "monitor = fs.TopicMonitor('plugin_bright'); monitor", 2)
    await expect(monitor.locator("tbody tr[data-type=frame_result]").first).to_be_visible()
    await notebook.screenshot("topic_monitor", monitor)
    await monitor.get_by_role("button", name="Pause").click()
    await monitor.locator("tbody tr[data-type=frame_result] button").first.click()
    await expect(monitor.locator(".fs-whole")).to_contain_text('"type": "frame_result"')
    await monitor.get_by_label("Topic").fill("nonsense")
    await monitor.get_by_role("button", name="Subscribe", exact=True).click()
    await expect(monitor.locator(".fs-note")).to_contain_text("'nonsense'")
    await monitor.get_by_label("Topic").fill("plugin_ocr")
    await monitor.get_by_role("button", name="Subscribe", exact=True).click()
    await expect(monitor.locator(".fs-chip")).to_have_count(2)
    await monitor.get_by_role("button", name="Unsubscribe from plugin_bright").click()
    await expect(monitor.locator(".fs-chip")).to_have_count(1)
    table = await notebook.run("print(monitor.to_frame()['type'].unique())")
    assert "frame_result" in await notebook.output(table)


async def test_jobs_and_the_server_are_shown(notebook: Notebook) -> None:
    await notebook.run(SETUP + STREAM)
    jobs = await widget(notebook, "fs.JobTable()", 2)
    await expect(jobs.locator("tr[data-status=completed]").first).to_be_visible()
    await notebook.screenshot("job_table", jobs)
    board = await widget(notebook, "server")
    await expect(board.locator(".fs-title")).to_have_text(re.compile(r"ws://localhost:\d+"))
    await notebook.screenshot("server_view", board)


async def test_the_camera_of_the_browser_reaches_a_plugin(notebook: Notebook) -> None:
    await notebook.run(SETUP)
    area = await notebook.show(await notebook.run("fs.Webcam('bright')"))
    camera = area.locator(".fs-widget").first
    await camera.get_by_role("button", name="Camera").click()
    await until_drawn(notebook, area, 10)
    assert await camera.evaluate("root => root.forgesyteState.result.brightness") > 0
    await notebook.screenshot("webcam", camera)
    await camera.get_by_role("button", name="Stop").click()
    for how, remedy in (
        (
            "getUserMedia = () => Promise.reject(new DOMException('no', 'NotAllowedError'))",
            "Allow the camera for this page",
        ),
        ("getUserMedia = undefined", "Browsers give the camera to https pages and to localhost only"),
    ):
        await notebook.page.evaluate(f"void (navigator.mediaDevices.{how})")
        await camera.get_by_role("button", name="Camera").click()
        await expect(camera.locator(".fs-problem").last).to_contain_text(remedy)


FAILING = """
@fs.plugin
def fails(frame, *, level: int = 5):
    if frame.seq % 3:
        raise ValueError("two of three")
    return {"level": level}
stream = fs.stream("synthetic", "fails", speed=1, loop=True)
while not stream.failures: pass
"""
WIDGETS = {
    "panel": "stream.panel()",
    "plot": "stream.plot('processing_time_ms')",
    "monitor": "fs.TopicMonitor('all')",
    "jobs": "fs.JobTable()",
    "server": "server",
}


@pytest.mark.parametrize(("theme", "columns"), [("light", 80), ("dark", None)])
async def test_looks(notebook: Notebook, theme: str, columns: int | None) -> None:
    await notebook.run(SETUP + FAILING)
    await notebook.theme(theme)
    await notebook.width(columns)
    for name, code in WIDGETS.items():
        shown = await widget(notebook, code, 2)
        await shown.evaluate("root => root.querySelectorAll('details').forEach(one => { one.open = true; })")
        await notebook.screenshot(f"{name}-{theme}-{columns}", shown)
        assert await notebook.faults(shown) == [], name


async def test_a_failure_is_told_with_the_line_of_its_cell_until_it_is_mended(notebook: Notebook) -> None:
    await notebook.run(SETUP)
    await notebook.run(FAILING)
    panel = await widget(notebook, "panel = fs.PluginPanel('fails'); panel", 2)
    failure = panel.locator(".fs-failure")
    await expect(failure.locator("summary")).to_contain_text("ValueError: two of three")
    await expect(failure.locator("summary")).to_contain_text("Cell In[2], line 4 in fails")
    await expect(failure.locator("summary code")).to_have_text('raise ValueError("two of three")')
    await failure.locator("summary").click()
    await expect(failure.locator("pre")).to_contain_text("Traceback (most recent call last):\n  Cell In[2], line 4")
    debugged = await notebook.run("panel.failures[-1].rerun()", fails=True)
    assert "ValueError: two of three" in await notebook.output(debugged, "two of three")
    assert await notebook.ask("panel.failures[-1].frame.size_wh") == (640, 480)
    await notebook.run(FAILING.replace("frame.seq % 3", "False").partition("stream =")[0])
    await expect(failure).to_have_class(re.compile("fs-older"))
    assert await notebook.ask("panel.failures[-1].rerun()") == {"level": 5}
