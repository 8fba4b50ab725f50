"""What the server answers over plain HTTP: plugins, jobs, health, metrics, the page."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import urllib.request
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import PATIENCE_S, Connect, get, run_cell, wait_for
from tests.server.conftest import FAILS, WAITS, RawSocket

PLUGINS = (
    FAILS
    + WAITS
    + """
from typing import Annotated
from pydantic import Field

@fs.plugin("bright", timeout_s=7, version="1.2")
def bright(frame, *, threshold: Annotated[float, Field(ge=0, le=1)] = 0.5):
    '''Whether it is bright.'''
    return {"bright": True}

@fs.plugin
def counts(frame, *, state):
    return {}

@fs.plugin
def large(frame):
    return {"text": "x" * 8_000_000}
"""
)


@pytest.fixture
def registry(gate: threading.Event) -> Registry:
    made = Registry()
    run_cell(PLUGINS, made, gate=gate)
    return made


@pytest.fixture
def server(serve_on: Any, registry: Registry) -> fs.Server:
    started: fs.Server = serve_on(registry, job_history=3)
    return started


def test_plugins(server: fs.Server, registry: Registry) -> None:
    status, body = get(server, "/v1/plugins")
    plugins = {plugin["name"]: plugin for plugin in body["plugins"]}
    assert status == 200
    assert list(plugins) == sorted(plugins)
    bright = plugins["bright"]
    schema = bright.pop("options")
    assert bright == {
        "name": "bright", "version": "1.2", "revision": 1, "description": "Whether it is bright.", "stateful": False,
        "engine": None, "timeout_s": 7, "health": {"state": "ok", "message": "", "from_cell": True},
    }  # fmt: skip
    assert schema["additionalProperties"] is False
    threshold = schema["properties"]["threshold"]
    assert {name: threshold[name] for name in ("type", "default", "minimum", "maximum")} == {
        "type": "number", "default": 0.5, "minimum": 0, "maximum": 1,
    }  # fmt: skip
    assert (plugins["counts"]["stateful"], plugins["waits"]["engine"]) == (True, "threads")
    assert body["failed"] == []


def test_revisions_and_health(server: fs.Server, registry: Registry) -> None:
    run_cell("@fs.plugin\ndef counts(frame, *, state):\n    return {'new': 1}", registry)
    broken = """
@fs.plugin
class fails:
    def setup(self, ctx):
        raise OSError("no weights")
    def process(self, frame):
        return {}
"""
    with pytest.raises(fs.PluginDefinitionError, match="no weights"):
        run_cell(broken, registry)
    registry.fail("other.py", "SyntaxError: invalid syntax")
    _, body = get(server, "/v1/plugins")
    plugins = {plugin["name"]: plugin for plugin in body["plugins"]}
    assert (plugins["counts"]["revision"], plugins["fails"]["revision"]) == (2, 1), "the old one stays in force"
    assert plugins["fails"]["health"]["state"] == "failed"
    message = plugins["fails"]["health"]["message"]
    assert message.startswith("revision 2 cannot be loaded: ")
    assert "could not be set up: OSError: no weights" in message
    assert body["failed"] == [{"name": "other.py", "reason": "SyntaxError: invalid syntax", "from_cell": False}]


async def test_jobs_under_way_and_ended(server: fs.Server, client: Connect, tiny: bytes, gate: threading.Event) -> None:
    one = await client(server, "sender")
    await one.frame("slow", tiny, "waits")
    job_id = (await one.until(lambda m: m.get("status") == "processing"))["job_id"]
    listed = {"job_id": job_id, "plugin": "waits", "frame_id": "slow", "status": "processing", "progress_percent": 0,
              "client_id": "sender", "timings": None}  # fmt: skip
    assert get(server, f"/v1/jobs/{job_id}") == (200, listed)
    assert get(server, "/v1/jobs") == (200, {"jobs": [listed], "active": 1, "opened": 1})
    gate.set()
    result = await one.terminal("slow")
    await one.until(lambda m: m.get("status") == "completed")
    status, ended = get(server, f"/v1/jobs/{job_id}")
    assert (status, ended["status"], ended["progress_percent"]) == (200, "completed", 100)
    assert ended["terminal"] == result
    assert ended["timings"] == result["timings"]
    error = await one.analyze("bad", tiny, "fails")
    _, failed = get(server, f"/v1/jobs/{error['job_id']}")
    assert (failed["status"], failed["terminal"]) == ("failed", error)


async def test_the_latest_come_first_and_the_oldest_are_forgotten(
    server: fs.Server, client: Connect, tiny: bytes
) -> None:
    one = await client(server)
    ids = [(await one.analyze(str(number), tiny, "bright"))["job_id"] for number in range(5)]
    _, body = get(server, "/v1/jobs")
    assert [job["job_id"] for job in body["jobs"]] == ids[:1:-1]
    assert (body["active"], body["opened"]) == (0, 5)
    status, forgotten = get(server, f"/v1/jobs/{ids[0]}")
    assert status == 404
    assert forgotten["error"].startswith(f"no job '{ids[0]}'; it never was, or it ended too long ago")


@pytest.mark.parametrize(
    "path", ["/nothing", "/v1", "/v1/plugins/", "/page", "/../pyproject.toml", "/healthz/x", "/ws"]
)
def test_what_is_not_there_is_answered_with_what_is(server: fs.Server, path: str) -> None:
    status, body = get(server, path)
    assert status == 404
    assert f"nothing at '{path}'; there is /ws/<client_id>, /, /v1/plugins, /v1/jobs, /healthz" in body["error"]


@pytest.mark.parametrize("job_id", ["job_never", "", "x" * 3000, "%00", "../plugins"])
def test_no_such_job(server: fs.Server, job_id: str) -> None:
    status, body = get(server, f"/v1/jobs/{job_id}")
    assert status == 404
    assert body["error"].startswith("no job '")
    assert len(body["error"]) < 300


async def test_health(server: fs.Server, client: Connect) -> None:
    _, before = get(server, "/healthz")
    await (await client(server)).fence()
    status, body = get(server, "/healthz")
    assert (status, body["status"], body["active_jobs"]) == (200, "ok", 0)
    assert (before["connections"], body["connections"]) == (0, 1)
    assert body["server_id"] == before["server_id"]
    assert "inline" in body["engines"]


async def test_metrics_count_what_was_sent(server: fs.Server, client: Connect, tiny: bytes) -> None:
    one, two = await client(server), await client(server, "two")
    for number in range(3):
        await one.analyze(f"b{number}", tiny, "bright")
    for number in range(2):
        await one.analyze(f"f{number}", tiny, "fails")
    await two.frame("o", tiny, "bright", {"threshold": 7})
    await two.frame("p", tiny, "no such plugin")
    await two.terminal("p")
    text = get(server, "/metrics")[1].decode()
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    expected = {
        ("forgesyte_accepted_total",): 5,
        ("forgesyte_results_total", "bright"): 3,
        ("forgesyte_errors_total", "PLUGIN_ERROR", "fails"): 2,
        ("forgesyte_refused_total", "INVALID_OPTIONS"): 1,
        ("forgesyte_refused_total", "PLUGIN_NOT_FOUND"): 1,
        ("forgesyte_active_jobs",): 0,
        ("forgesyte_connections_total",): 2,
        ("forgesyte_connected_clients",): 2,
        ("forgesyte_sessions",): 2,
        ("forgesyte_dropped_broadcasts_total",): 0,
        **{("forgesyte_stage_seconds_count", "bright", stage): 3 for stage in ("queue", "decode", "plugin", "total")},
        ("forgesyte_stage_seconds_bucket", "+Inf", "bright", "total"): 3,
    }
    assert {key: samples.get(key) for key in expected} == expected
    assert server.stats() | {"engines": None} == {
        "connections": 2, "accepted": 5, "results": 3, "errors": 2, "refused": 2, "active": 0, "engines": None,
    }  # fmt: skip


PAGE_FILES = {"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript",
              "/forgesyte.js": "text/javascript", "/overlay.js": "text/javascript"}  # fmt: skip


@pytest.mark.parametrize("path", PAGE_FILES)
def test_page_files(server: fs.Server, path: str) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=PATIENCE_S) as answer:
        body, headers = answer.read().decode(), answer.headers
    assert headers["Content-Type"] == f"{PAGE_FILES[path]}; charset=utf-8"
    assert int(headers["Content-Length"]) == len(body.encode()) > 500
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")


def test_the_page_loads_nothing_that_the_server_does_not_have(server: fs.Server) -> None:
    page = get(server, "/")[1].decode()
    named = re.findall(r'(?:src|href)="([^"#]+)"', page)
    scripts = [f"/{name.lstrip('./')}" for name in named if not name.startswith("data:")]
    assert scripts
    seen = set()
    while scripts:
        path = scripts.pop()
        if path in seen:
            continue
        seen.add(path)
        status, body = get(server, path)
        assert status == 200, path
        if path.endswith(".js"):
            scripts += [f"/{name}" for name in re.findall(r'from "\./([^"]+)"', body.decode())]
    assert "/forgesyte.js" in seen


def test_a_plugin_that_cannot_be_set_up_is_not_said_to_be_healthy(serve_on: Any, tiny: bytes) -> None:
    registry = Registry()
    run_cell(
        """
@fs.plugin
class Broken:
    def setup(self, ctx):
        raise OSError("no weights here")

    def process(self, frame):
        return {}
""",
        registry,
    )
    server = serve_on(registry)
    with fs.BlockingClient(server) as client, pytest.raises(fs.PluginError, match="no weights here"):
        client.analyze(tiny, "Broken")
    (listed,) = [plugin for plugin in get(server, "/v1/plugins")[1]["plugins"] if plugin["name"] == "Broken"]
    assert listed["health"]["state"] == "failed"
    assert "no weights here" in listed["health"]["message"]
    assert listed["health"]["from_cell"]


async def test_who_reads_no_answers_gets_no_more_of_them(server: fs.Server, client: Connect, tiny: bytes) -> None:
    one = await client(server)
    path = f"/v1/jobs/{(await one.analyze('a', tiny, 'large'))['job_id']}"

    def asked() -> RawSocket:
        socket = RawSocket(server.port, receive_buffer=4096)
        socket.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost:{server.port}\r\n\r\n".encode())
        return socket

    with contextlib.ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(asked())
        _, body = await asyncio.to_thread(wait_for, lambda: (a := get(server, path))[0] == 503 and a, "a refusal")
        assert "MiB of earlier answers have not been read" in body["error"]
    await asyncio.to_thread(wait_for, lambda: get(server, path)[0] == 200, "an answer again")
