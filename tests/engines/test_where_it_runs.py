"""The same engines under a real server in a plain script, in a real kernel, and under the stop button."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from tests.conftest import PATIENCE_S, wait_for

CLIENT = '''
import asyncio, base64, io, json
from websockets.asyncio.client import connect
from PIL import Image

def ask(url, plugin, count=1, **options):
    """The terminal messages of some frames."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (128, 128, 128)).save(file, "PNG")
    image = base64.b64encode(file.getvalue()).decode()
    async def main():
        async with connect(url + "/ws/script", proxy=None) as socket:
            for number in range(count):
                frame = {"type": "send_frame", "frame_id": str(number), "plugin": plugin, "image_data": image}
                await socket.send(json.dumps({**frame, "options": options}))
            ended = []
            while len(ended) < count:
                message = json.loads(await socket.recv())
                if message["type"] in ("frame_result", "error"):
                    ended.append(message)
            return ended
    return asyncio.run(main())
'''

SCRIPT = """
import forgesyte_nb as fs
print("module runs")
OFFSET = 4

@fs.plugin
def shade(frame, *, add: int = 0):
    return {"shade": int(frame.gray[0, 0]) + add + OFFSET}

server = fs.serve(port=0, engine="%s", workers=2)
for message in ask(server.url, "shade", 3, add=1):
    print(message.get("result", message))
%s
"""


def run_script(tmp_path: Path, engine: str, ending: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "script.py"
    path.write_text(CLIENT + SCRIPT % (engine, ending))
    return subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=tmp_path,
        check=False,
    )


@pytest.mark.parametrize("engine", ["inline", "threads", "processes"])
@pytest.mark.parametrize("ending", ["server.close()", ""], ids=["closed", "left open"])
def test_a_plain_script_without_a_main_guard(tmp_path: Path, engine: str, ending: str) -> None:
    done = run_script(tmp_path, engine, ending)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "module runs\n" + "{'shade': 133}\n" * 3, "the script runs once, whatever runs its plugins"
    assert done.stderr == ""


def test_workers_end_with_a_script_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    pids = "import psutil\nprint([child.pid for child in psutil.Process().children()], flush=True)\ninput()"
    path.write_text(CLIENT + SCRIPT % ("processes", pids))
    with subprocess.Popen([sys.executable, str(path)], stdin=-1, stdout=-1, text=True, cwd=tmp_path) as script:
        assert script.stdout is not None
        line = wait_for(lambda: (read := script.stdout.readline()).startswith("[") and read, "the workers")
        workers = [int(number) for number in re.findall(r"\d+", line)]
        assert len(workers) >= 2
        script.kill()

    def alive() -> list[int]:
        return [pid for pid in workers if Path(f"/proc/{pid}").exists() and "Z" not in state(pid)]

    wait_for(lambda: not alive(), "the workers to end with the script")


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_an_interrupt_to_the_process_group_hurts_no_frame(tmp_path: Path) -> None:
    """As a terminal's Ctrl-C and the notebook's stop button send it: to everyone, while frames are under way."""
    path = tmp_path / "script.py"
    ending = """
import os, signal, threading, time
@fs.plugin
def slow(frame):
    end = time.monotonic() + 0.05
    while time.monotonic() < end: pass
    return {}

def interrupt():
    for _ in range(10):
        time.sleep(0.05)
        os.killpg(0, signal.SIGINT)

signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
threading.Thread(target=interrupt).start()
print([message["type"] for message in ask(server.url, "slow", 30)].count("frame_result"))
server.close()
"""
    path.write_text(CLIENT + SCRIPT % ("processes", ending))
    done = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=tmp_path,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stderr
    assert "interrupted" in done.stdout
    assert "\n30\n" in done.stdout


@pytest.fixture(scope="module")
def kernel() -> Any:
    """A real kernel: `kernel("code")` runs a cell and returns what it printed."""
    manager = KernelManager()
    manager.start_kernel(cwd=str(Path(__file__).parent), env={**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1"})
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(timeout=PATIENCE_S)

    class Kernel:
        pid = manager.provisioner.pid  # type: ignore[union-attr]
        status = ""

        def __call__(self, code: str, *, allow_error: bool = False) -> str:
            said: list[str] = []

            def hear(message: dict[str, Any]) -> None:
                content = message["content"]
                said.append(content.get("text", "") or "\n".join(content.get("traceback", [])))

            reply = client.execute_interactive(code, timeout=PATIENCE_S, output_hook=hear)
            text = "".join(said)
            self.status = reply["content"]["status"]
            assert allow_error or reply["content"]["status"] == "ok", text
            return text

        def start(self, code: str) -> None:
            client.execute(code, stop_on_error=False)  # else the cell after its end may be aborted

        def interrupt(self) -> None:
            """As the stop button does it; returns when the cell has ended."""
            manager.interrupt_kernel()
            assert client.get_shell_msg(timeout=PATIENCE_S)["content"]["ename"] == "KeyboardInterrupt"

    yield Kernel()
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("engine", ["inline", "threads", "processes"])
def test_functions_and_classes_of_cells_in_a_real_kernel(kernel: Any, engine: str) -> None:
    kernel("from __future__ import annotations\n" + CLIENT)
    kernel(
        "import forgesyte_nb as fs, dataclasses, threading\nfrom typing import Annotated\n"
        "from pydantic import Field\n"
        "@dataclasses.dataclass\nclass Point:\n    x: int\ndef helper(v): return Point(v)\n"
        "@fs.plugin\ndef cell(frame, *, add: Annotated[int, Field(ge=0)] = 1):\n"
        "    return {'value': helper(add).x}\n"
        "@fs.plugin\nclass Model:\n    def setup(self, ctx): self.k = 5\n"
        "    def process(self, frame): return {'k': self.k}\n"
    )
    kernel(f"server = fs.serve(port=0, engine={engine!r})")
    # ask() runs a loop of its own: on a thread, as the kernel's is taken
    kernel(
        "def call(*args, **options):\n    got = []\n"
        "    thread = threading.Thread(target=lambda: got.extend(ask(*args, **options)))\n"
        "    thread.start(); thread.join()\n    return got"
    )
    assert "{'value': 3}" in kernel("print(call(server.url, 'cell', add=3)[0].get('result'))")
    assert "{'k': 5}" in kernel("print(call(server.url, 'Model')[0].get('result'))")
    assert "INVALID_OPTIONS" in kernel("print(call(server.url, 'cell', add=-3)[0])")
    kernel("@fs.plugin\ndef cell(frame): return {'swapped': True}")
    assert "'swapped': True" in kernel("print(call(server.url, 'cell')[0])")
    text = kernel(
        "@fs.plugin\nclass Model:\n    def setup(self, ctx): raise OSError('no weights')\n"
        "    def process(self, frame): return {}",
        allow_error=True,
    )
    assert "PluginDefinitionError" in text
    assert "OSError: no weights" in text
    assert "{'k': 5}" in kernel("print(call(server.url, 'Model')[0].get('result'))"), "the old one stays"
    kernel("server.close()")


def test_a_cell_that_ends_registers_what_it_defines_and_fails_with_it(kernel: Any, tmp_path: Path) -> None:
    module = tmp_path / "edited_beside_a_notebook.py"
    module.write_text("def tell(): return 'first'\n")
    kernel(
        "import sys, numpy as np, forgesyte_nb as fs\nsys.dont_write_bytecode = True\n"
        f"sys.path.append({str(tmp_path)!r})\nserver = fs.serve(port=0, workers=1)\n"
        "client = fs.BlockingClient(server)\n"
        "def ask_one(plugin): print(client.analyze(np.zeros((8, 8, 3), np.uint8), plugin).result)"
    )
    cell = (
        "@fs.plugin\nclass Det:\n    NAMES = %r\n    def setup(self, ctx): self.known = %s\n"
        "    def process(self, frame): return {'names': [Det.NAMES, self.known, below()]}\n"
        "def below(): return Det.NAMES\n"
    )
    for names in ("old", "new"):
        assert (
            kernel(cell % (names, "Det.NAMES") + "ask_one('Det')")
            == f"{{'names': [{names!r}, {names!r}, {names!r}]}}\n"
        )
    text = kernel(cell % ("bad", "open('/no such file')"), allow_error=True)
    assert "PluginDefinitionError" in text
    assert "Det cannot be loaded: could not be set up: FileNotFoundError" in text
    assert "class" in text.partition("cannot be loaded")[0], "the lines of the cell are shown"
    assert kernel.status == "error", "a notebook that is run from top to bottom stops there"
    assert kernel("ask_one('Det')") == "{'names': ['new', 'new', 'new']}\n", "the old one stays"

    kernel(
        "import edited_beside_a_notebook as m\n@fs.plugin\ndef tells(frame): return {'v': m.tell()}\nask_one('tells')"
    )
    module.write_text("def tell(): return 'the second'\n")
    assert kernel("ask_one('tells')") == "{'v': 'the second'}\n"
    kernel("client.close(); server.close()")


def test_the_stop_button_during_a_cell_hurts_no_frame(kernel: Any, tmp_path: Path) -> None:
    started, spins, go_on = tmp_path / "started", tmp_path / "spins", tmp_path / "go on"
    kernel(CLIENT)
    kernel(
        "import forgesyte_nb as fs, threading, time\n"
        f"@fs.plugin\ndef held(frame):\n    import os, time\n    open({str(started)!r}, 'w').close()\n"
        f"    while not os.path.exists({str(go_on)!r}): time.sleep(0.01)\n    return {{}}\n"
        "server = fs.serve(port=0, engine='processes')\ngot = []\n"
        "thread = threading.Thread(target=lambda: got.extend(ask(server.url, 'held', 4)))\nthread.start()"
    )
    kernel.start(f"open({str(spins)!r}, 'w').close()\nwhile True: time.sleep(0.01)")
    wait_for(spins.exists, "the cell to run")
    wait_for(started.exists, "a frame to be under way")
    assert os.getpgid(kernel.pid) != os.getpgid(0), "the interrupt goes to the kernel's whole group"
    kernel.interrupt()
    go_on.touch()
    assert kernel("thread.join(); print([m['type'] for m in got])").count("frame_result") == 4
    kernel("server.close()")
