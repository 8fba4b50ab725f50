"""What the server answers over plain HTTP on its port: plugins, jobs, health, metrics, and the page.

Read-only, one request per connection, every path behind the gate. Each look-up is a function from `ServerView` to a
body; nothing here changes the server.
"""

from __future__ import annotations

import http
from collections.abc import Callable
from importlib import resources
from typing import Any

import msgspec
from websockets.datastructures import Headers
from websockets.http11 import Response

from forgesyte_nb.job_messages import summary_of
from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.plugins.payload import is_cell
from forgesyte_nb.server.metrics import exposition
from forgesyte_nb.server.reports import ServerView

JOBS_SHOWN = 200

_PAGE_FOLDER = resources.files("forgesyte_nb.server").joinpath("page")
_PAGE_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    **{
        f"/{file.name}": (file.name, "text/javascript; charset=utf-8")
        for file in _PAGE_FOLDER.iterdir()
        if file.name.endswith(".js")
    },
}
PAGE_PATHS = frozenset(_PAGE_FILES)
"""The page and its files: the same for everyone, without a secret in them."""

_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET",
    "Access-Control-Allow-Headers": "Authorization",
    "Access-Control-Max-Age": "600",
}

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self' ws: wss:; base-uri 'none'; frame-ancestors 'self'"
)


def look_up(path: str, view: ServerView) -> Response:
    """The answer to `GET path`; 404 names the paths there are."""
    if path in _PAGE_FILES:
        return _page_file(*_PAGE_FILES[path])
    if path.startswith("/v1/jobs/"):
        return _job(path.removeprefix("/v1/jobs/"), view)
    answer = _LOOK_UPS.get(path)
    if answer is None:
        known = ", ".join(["/ws/<client_id>", "/", *_LOOK_UPS, "/v1/jobs/<job_id>"])
        return respond(http.HTTPStatus.NOT_FOUND, {"error": f"nothing at {path[:100]!r}; there is {known}"})
    return answer(view)


def respond(
    status: http.HTTPStatus, body: Any, content_type: str = "application/json", extra: dict[str, str] | None = None
) -> Response:
    """A response; what is not bytes becomes JSON."""
    encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
    headers = Headers(
        {
            "Content-Type": content_type,
            "Content-Length": str(len(encoded)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Connection": "close",
            **(extra or {}),
        }
    )
    return Response(status.value, status.phrase, headers, encoded)


def is_shared(path: str) -> bool:
    """True for paths that answer CORS, to origins that may open the WebSocket: the scripts and `/v1/…`."""
    return path.startswith("/v1/") or (path in _PAGE_FILES and path.endswith(".js"))


def allow_origin(response: Response, origin: str | None) -> Response:
    """Let a page that passed the gate read the response (CORS); `origin` is None for a program."""
    response.headers["Vary"] = "Origin"
    if origin is not None:
        response.headers["Access-Control-Allow-Origin"] = origin
    return response


def allow_preflight(origin: str | None) -> Response:
    """The response to a CORS preflight: GET with an `Authorization` header is allowed."""
    status = http.HTTPStatus.NO_CONTENT
    return allow_origin(Response(status.value, status.phrase, Headers({**_PREFLIGHT, "Connection": "close"})), origin)


def describe_plugin(plugin: Plugin) -> dict[str, Any]:
    """A plugin as `/v1/plugins` lists it."""
    return {
        "name": plugin.name,
        "version": plugin.version,
        "revision": plugin.revision,
        "description": plugin.description,
        "stateful": plugin.stateful,
        "engine": plugin.engine,
        "timeout_s": plugin.timeout_s,
        "options": plugin.schema.json_schema,
    }


def _plugins(view: ServerView) -> Response:
    failures = view.registry.failures
    listed = []
    for plugin in view.registry.plugins_known():
        reason = view.registry.trouble_with(plugin)
        failures.pop(plugin.name, None)
        from_cell = is_cell(view.registry.failed_origin(plugin.name)) if reason else is_cell(plugin.origin)
        health = {"state": "failed" if reason else "ok", "message": reason, "from_cell": from_cell}
        listed.append({**describe_plugin(plugin), "health": health})
    failed = [
        {"name": name, "reason": reason, "from_cell": is_cell(view.registry.failed_origin(name))}
        for name, reason in failures.items()
    ]
    return respond(http.HTTPStatus.OK, {"plugins": listed, "failed": failed})


def _jobs(view: ServerView) -> Response:
    jobs = view.dispatcher.jobs
    shown = [summary_of(job) for job in list(jobs.active.values())[-JOBS_SHOWN:]]
    for ended in jobs.recent():
        if len(shown) >= JOBS_SHOWN:
            break
        shown.append(ended.summary)
    return respond(http.HTTPStatus.OK, {"jobs": shown, "active": len(jobs.active), "opened": jobs.opened})


def _job(job_id: str, view: ServerView) -> Response:
    active = view.dispatcher.jobs.active.get(job_id)
    if active is not None:
        return respond(http.HTTPStatus.OK, summary_of(active))
    ended = view.dispatcher.jobs.ended(job_id)
    if ended is None:
        message = f"no job {job_id[:100]!r}; it never was, or it ended too long ago to be remembered"
        return respond(http.HTTPStatus.NOT_FOUND, {"error": message})
    terminal = msgspec.Raw(ended.terminal) if ended.terminal is not None else None
    return respond(http.HTTPStatus.OK, {**ended.summary, "terminal": terminal})


def _health(view: ServerView) -> Response:
    state = {
        "status": "closing" if view.dispatcher.closing else "ok",
        "server_id": view.dispatcher.reception.server_id,
        "active_jobs": len(view.dispatcher.jobs.active),
        "connections": len(view.dispatcher.sessions.connected()),
        "engines": view.engine_stats(),
    }
    status = http.HTTPStatus.SERVICE_UNAVAILABLE if view.dispatcher.closing else http.HTTPStatus.OK
    return respond(status, state)


def _metrics(view: ServerView) -> Response:
    body, content_type = exposition(view.dispatcher, view.engine_stats())
    return respond(http.HTTPStatus.OK, body, content_type)


def _page_file(name: str, content_type: str) -> Response:
    body = _PAGE_FOLDER.joinpath(name).read_bytes()
    return respond(http.HTTPStatus.OK, body, content_type, {"Content-Security-Policy": _POLICY})


_LOOK_UPS: dict[str, Callable[[ServerView], Response]] = {
    "/v1/plugins": _plugins,
    "/v1/jobs": _jobs,
    "/healthz": _health,
    "/metrics": _metrics,
}
