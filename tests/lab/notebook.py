"""A notebook in JupyterLab, in a browser: cells are run and waited for as a person would, without their guesses.

What belongs to JupyterLab (cells, kernel, saving, themes) goes through its own application object, which the server
is told to put in the page; what belongs to this project is looked at and clicked on in the page. Waiting looks at the
page again and again: prompts, "idle" and outputs come in no order that could be relied upon. In particular

- the indicator says "idle" before the kernel connects: idle is what the status bar says once a kernel is connected;
- it may say "idle" while a cell runs, when some ipykernels have taken a message meanwhile: that a cell has begun is
  told by the kernel's own echo of it;
- an output may come after the prompt's number, and after a restart the number may be the same as before: whether a
  cell has run is what JupyterLab's own promise for that run says;
- a reloaded page shows the outputs that were saved: `reload` saves first;
- ipykernel 7 may overlook a request that came while it answered another, until somebody connects to it anew
  (ipython/ipykernel issue 1554): whoever waits in vain for a cell to begin, or for an answer, connects once more.
"""

from __future__ import annotations

import ast
import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import ConsoleMessage, Locator, Page, WebSocketRoute

from tests.conftest import PATIENCE_S
from tests.lab.jupyter_lab import JupyterLab

IMAGES = Path(__file__).parents[2] / "notebooks" / "images"
WIDE = (1600, 900)  # width and height of the window in pixels

# Set up in the page as `labTest`. It finds the notebook by its path: a second view makes another panel the current one.
PAGE_SIDE = """
window.labTest = {
  path: null,
  panel() {
    for (const widget of jupyterapp.shell.widgets("main")) {
      if (widget.context?.path === this.path && widget.sessionContext) return widget;
    }
    return null;
  },
  status() { return document.querySelector("#jp-main-statusbar")?.innerText ?? ""; },
  idle() {
    const session = this.panel()?.sessionContext;
    return Boolean(session?.isReady && session.session?.kernel?.connectionStatus === "connected"
      && session.kernelDisplayStatus === "idle" && /\\| Idle/.test(this.status())
      && !Object.values(this.runs).includes("running"));
  },
  listen() {
    this.panel().sessionContext.iopubMessage.connect((_, { header, content }) => {
      if (header.msg_type === "execute_input") this.begun.push(content.code);
    });
  },
  begun: [],
  last: null,
  cell(id) { return this.panel().content.widgets.find(cell => cell.model.id === id); },
  runs: {},
  run(source) {
    const panel = this.panel();
    const notebook = panel.content;
    const cells = panel.model.sharedModel;
    const last = cells.cells.at(-1);
    const empty = cells.cells.length === 1 && last.cell_type === "code" && !last.source && !last.execution_count;
    if (empty) last.setSource(source);
    else cells.insertCell(cells.cells.length, { cell_type: "code", source, metadata: { trusted: true } });
    notebook.deselectAll();
    notebook.activeCellIndex = cells.cells.length - 1;
    return this.execute(cells.cells.at(-1).id);
  },
  execute(id) {
    const notebook = this.panel().content;
    notebook.deselectAll();
    notebook.activeCellIndex = notebook.widgets.findIndex(cell => cell.model.id === id);
    this.runs[id] = "running";
    this.begun = [];
    this.last = id;
    this.wakeWhile(() => this.last === id && this.runs[id] === "running" && !this.hasBegun());
    jupyterapp.commands.execute("notebook:run-cell").then(
      () => { this.runs[id] = "ended"; }, problem => { this.runs[id] = `failed: ${problem}`; });
    return id;
  },
  hasBegun() { return this.begun.includes(this.cell(this.last).model.sharedModel.getSource()); },
  wakeWhile(waits) {
    const timer = setInterval(() => {
      const kernel = waits() ? this.panel()?.sessionContext.session?.kernel : null;
      if (!kernel) return clearInterval(timer);
      const { wsUrl } = kernel.serverSettings;
      const socket = new WebSocket(`${wsUrl}api/kernels/${kernel.id}/channels?session_id=${crypto.randomUUID()}`);
      socket.onopen = () => setTimeout(() => socket.close(), 1000);
    }, 5000);
  },
  mark(id) {
    const node = this.cell(id).node;
    node.dataset.labTest = id;
    return node.isConnected;
  },
  async ask(expression) {
    const kernel = this.panel().sessionContext.session.kernel;
    const asked = { code: "", silent: true, store_history: false, user_expressions: { answer: expression } };
    let waits = true;
    this.wakeWhile(() => waits);
    const { content } = await kernel.requestExecute(asked).done.finally(() => { waits = false; });
    const answer = content.user_expressions.answer;
    if (answer.status !== "ok") throw new Error(`${expression}: ${answer.ename}: ${answer.evalue}`);
    return answer.data["text/plain"];
  },
  outputs(id) { return this.cell(id).model.outputs.toJSON(); },
};
"""

# What is cut off, sticks out, or lies over something else in a widget.
FAULTS = """root => {
  const faults = [];
  const name = node => `${node.tagName.toLowerCase()}.${node.className}`;
  const seen = node => node.getClientRects().length > 0;
  const outer = root.getBoundingClientRect();
  for (const node of root.querySelectorAll("*")) {
    if (!seen(node)) continue;
    const box = node.getBoundingClientRect();
    const scrolls = node.parentElement.closest(".fs-scroll") !== null;
    if (!scrolls && (box.left < outer.left - 1 || box.right > outer.right + 1)) faults.push(`${name(node)} sticks out`);
    const style = getComputedStyle(node);
    const hides = !["visible", "auto", "scroll"].includes(style.overflowX) && style.textOverflow !== "ellipsis";
    const cut = node.tagName !== "INPUT" && node.scrollWidth > node.clientWidth + 1;
    if (hides && cut) faults.push(`${name(node)} is cut`);
  }
  const parts = "button, select, input, canvas, summary, .fs-badge, .fs-title, .fs-part";
  const alone = [...root.querySelectorAll(parts)].filter(seen);
  for (const [index, one] of alone.entries()) for (const other of alone.slice(index + 1)) {
    const [a, b] = [one.getBoundingClientRect(), other.getBoundingClientRect()];
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (across > 1 && down > 1) faults.push(`${name(one)} lies over ${name(other)}`);
  }
  return faults;
}"""


@dataclass(frozen=True)
class Cell:
    """A cell of the notebook, for as long as the notebook holds it: over restarts and reloads."""

    cell_id: str


class Notebook:
    """One notebook in one page of one browser, and what its console complained about."""

    def __init__(self, page: Page, lab: JupyterLab, name: str, pictures: Path) -> None:
        self.page = page
        self.lab = lab
        self.name = name
        self.errors: list[str] = []
        self._expected: list[re.Pattern[str]] = []
        self._dark = False
        self._pictures = pictures
        page.on("console", self._keep)
        page.on("pageerror", lambda error: self._complain(f"uncaught: {error.stack or error}"))

    def _keep(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._complain(f"{message.text} ({message.location.get('url')})")

    def _complain(self, text: str) -> None:
        if not any(pattern.search(text) for pattern in self._expected):
            self.errors.append(text)

    def expect_errors(self, pattern: str) -> None:
        """From now on, what the console says that matches `pattern` is no fault: a refused WebSocket says so there."""
        self._expected.append(re.compile(pattern))

    async def open(self) -> None:
        """Show the notebook and wait for its kernel."""
        await self.page.goto(self.lab.address(self.name))
        await self._prepare()

    async def reload(self) -> None:
        """Save, and load the page anew; returns when the notebook is there, which may be before its widgets are."""
        await self.save()
        await self.page.reload()
        await self._prepare(idle=False)

    async def close(self) -> None:
        """Leave the page, in the theme that the next one expects: themes are settings of JupyterLab, not of a page."""
        try:
            if self._dark:
                await self.theme("light")
        finally:
            await self.page.close()

    async def _prepare(self, idle: bool = True) -> None:
        await self.wait_for("window.jupyterapp?.shell !== undefined")
        await self.page.evaluate(PAGE_SIDE)
        await self.page.evaluate("path => { labTest.path = path; }", self.name)
        await self.wait_for("labTest.panel()?.sessionContext.isReady && labTest.panel().context.isReady")
        await self.page.evaluate("labTest.listen(); jupyterapp.shell.collapseLeft()")
        if idle:
            await self.wait_idle()

    async def wait_for(self, condition: str, argument: Any = None, *, patience_s: float = PATIENCE_S) -> Any:
        """Wait until a JavaScript expression is true; its value. A function is called with `argument`."""
        try:
            async with asyncio.timeout(patience_s):
                while not (value := await self.page.evaluate(condition, argument)):
                    await asyncio.sleep(0.02)
                return value
        except TimeoutError:
            raise AssertionError(f"never came about: {condition}; {await self._scene()}") from None

    async def _scene(self) -> str:
        """What there is to see, for a message about what there is not."""
        picture = self._pictures / "last-seen.png"
        await self.page.screenshot(path=picture)
        seen = await self.page.evaluate(
            "window.labTest?.panel()"
            " ? [labTest.status(), labTest.panel().content.widgets.map(cell => cell.node.innerText)]"
            " : document.body.innerText"
        )
        return f"on the page: {seen}; errors: {self.errors}; picture: {picture}"

    async def wait_idle(self) -> None:
        """Wait until the kernel is connected, the status bar says that it is idle, and no cell runs."""
        await self.wait_for("labTest.idle()")

    async def wait_busy(self) -> None:
        """Wait until the kernel is at the cell that was started last."""
        await self.wait_for("labTest.hasBegun()")

    async def start(self, code: str) -> Cell:
        """Run `code` in a new cell at the end, and do not wait for it."""
        return Cell(await self.page.evaluate("code => labTest.run(code)", code))

    async def run(self, code: str, *, fails: bool = False) -> Cell:
        """Run `code` in a new cell at the end and wait for it; it must not raise, unless it `fails`."""
        return await self.ended(await self.start(code), fails=fails)

    async def rerun(self, cell: Cell, *, fails: bool = False) -> Cell:
        """Run a cell again and wait for it."""
        await self.page.evaluate("id => labTest.execute(id)", cell.cell_id)
        return await self.ended(cell, fails=fails)

    async def ended(self, cell: Cell, *, fails: bool = False) -> Cell:
        """Wait until a cell has run; it must not have raised, unless it `fails`."""
        await self.wait_for("id => labTest.runs[id] !== 'running'", cell.cell_id)
        how = await self.page.evaluate("id => labTest.runs[id]", cell.cell_id)
        assert how == "ended", how
        outputs = await self.outputs(cell)
        raised = [output for output in outputs if output["output_type"] == "error"]
        assert bool(raised) == fails, [f"{output['ename']}: {output['evalue']}" for output in raised] or outputs
        return cell

    async def is_running(self, cell: Cell) -> bool:
        """Whether a cell that was started has not ended."""
        return bool(await self.page.evaluate("id => labTest.runs[id] === 'running'", cell.cell_id))

    async def ask(self, expression: str) -> Any:
        """The value of a Python literal's expression in the kernel, which must be idle; no cell shows it."""
        return ast.literal_eval(await self.page.evaluate("expression => labTest.ask(expression)", expression))

    async def until(self, expression: str) -> None:
        """Wait until an expression in the kernel, which must be idle, is true."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not await self.ask(expression):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"never true in the kernel: {expression}; {await self._scene()}") from None

    async def outputs(self, cell: Cell) -> list[dict[str, Any]]:
        """The outputs of a cell as nbformat has them, as far as they have come."""
        found: list[dict[str, Any]] = await self.page.evaluate("id => labTest.outputs(id)", cell.cell_id)
        return found

    async def output(self, cell: Cell, wanted: str = r"\S") -> str:
        """What a cell shows as text, once it matches `wanted`, a regular expression."""
        area = await self.area(cell)
        seen = ""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not re.search(wanted, seen := await area.inner_text()):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"never showed {wanted!r} but {seen!r}; {await self._scene()}") from None
        return seen

    async def area(self, cell: Cell) -> Locator:
        """The output area of a cell: `(await notebook.area(cell)).locator("canvas")`. Ask again after a reload."""
        await self.wait_for("id => labTest.mark(id)", cell.cell_id)
        return self.page.locator(f'[data-lab-test="{cell.cell_id}"] .jp-Cell-outputArea')

    async def show(self, cell: Cell) -> Locator:
        """Scroll to a cell's output area."""
        area = await self.area(cell)
        await area.scroll_into_view_if_needed()
        return area

    async def second_view(self, cell: Cell) -> Locator:
        """JupyterLab's "Create New View for Cell Output": the same output again, in a panel beside the notebook."""
        await self.page.evaluate(
            """id => {
                 const notebook = labTest.panel().content;
                 notebook.activeCellIndex = notebook.widgets.findIndex(cell => cell.model.id === id);
                 return jupyterapp.commands.execute("notebook:create-output-view");
               }""",
            cell.cell_id,
        )
        view = self.page.locator(".jp-LinkedOutputView").last
        await view.wait_for()
        return view

    async def interrupt(self) -> None:
        """The stop button: KeyboardInterrupt in the running cell."""
        await self.page.evaluate("labTest.panel().sessionContext.session.kernel.interrupt()")

    async def restart(self) -> None:
        """Restart the kernel, as after "yes" in its dialogue, and wait until the new one is idle."""
        await self.page.evaluate("labTest.panel().sessionContext.restartKernel()")
        await self.wait_idle()

    async def save(self) -> None:
        """Save the notebook."""
        await self.page.evaluate("labTest.panel().context.save()")

    async def hide(self) -> None:
        """Bring another of JupyterLab's tabs to the front: nothing of the notebook is to be seen."""
        await self.page.evaluate(
            "jupyterapp.commands.execute('launcher:create', { ref: labTest.panel().id, activate: true })"
        )
        await self.wait_for("!labTest.panel().isVisible")

    async def visible_tab(self, visible: bool) -> None:
        """Tell the page that the browser's tab is shown or hidden; Chromium has no window here to hide it in."""
        await self.page.evaluate(
            """state => {
                 Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
                 Object.defineProperty(document, "hidden", { value: state === "hidden", configurable: true });
                 document.dispatchEvent(new Event("visibilitychange"));
               }""",
            "visible" if visible else "hidden",
        )

    async def bring_back(self) -> None:
        """Bring the notebook to the front again."""
        await self.page.evaluate("jupyterapp.shell.activateById(labTest.panel().id)")
        await self.wait_for("labTest.panel().isVisible")

    async def faults(self, root: Locator) -> list[str]:
        """What is cut off in a widget, sticks out of it, or lies over another part: nothing, if it is well laid out."""
        found: list[str] = await root.evaluate(FAULTS)
        return found

    async def theme(self, name: str) -> None:
        """`light` or `dark`."""
        self._dark = name == "dark"
        title = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}[name]
        await self.page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', { theme })", title)
        await self.wait_for("light => document.body.dataset.jpThemeLight === light", str(name == "light").lower())

    async def width(self, columns: int | None) -> None:
        """A window in which the code of a cell is `columns` characters wide; None: a wide window."""
        width, height = WIDE
        await self.page.set_viewport_size({"width": width, "height": height})
        if columns is not None:
            over = await self.page.evaluate(
                """columns => {
                     const code = labTest.panel().content.widgets[0].node.querySelector(".cm-line");
                     const style = getComputedStyle(code);
                     const pen = document.createElement("canvas").getContext("2d");
                     pen.font = `${style.fontSize} ${style.fontFamily}`;
                     const padding = parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
                     return code.getBoundingClientRect().width - padding - columns * pen.measureText("0").width;
                   }""",
                columns,
            )
            await self.page.set_viewport_size({"width": round(width - over), "height": height})
        # JupyterLab lays out its panels when it hears of the new size.
        await self.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    async def screenshot(self, name: str, part: Locator | None = None) -> Path:
        """A PNG of the window (or of `part`): in the test's folder, in notebooks/images with FORGESYTE_NB_IMAGES=1."""
        folder = IMAGES if os.environ.get("FORGESYTE_NB_IMAGES") else self._pictures
        path = folder / f"{name}.png"
        await (part or self.page).screenshot(path=path)
        return path

    async def block_port(self, port: int) -> Callable[[], Awaitable[None]]:
        """From now on the page reaches nothing on `port` of this machine; calling the answer lifts that.

        WebSockets that are open stay open: block before they open, or reload.
        """
        return await self.block(rf"^(ws|http)s?://(localhost|127\.0\.0\.1|\[::1\]):{port}/")

    async def block(self, pattern: str) -> Callable[[], Awaitable[None]]:
        """From now on WebSockets and requests to URLs that match close at once; calling the answer lifts that."""
        blocked = True
        url = re.compile(pattern)

        async def close(socket: WebSocketRoute) -> None:
            if blocked:
                await socket.close(code=1013, reason="blocked by the test")
            else:
                socket.connect_to_server()

        async def lift() -> None:
            nonlocal blocked
            blocked = False
            await self.page.unroute(url)

        await self.page.route_web_socket(url, close)
        await self.page.route(url, lambda route: route.abort("connectionrefused"))
        return lift
