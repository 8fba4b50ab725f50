"""Checks of the way to a server and of the server itself: process, port, what listens, gate, plugins, a round trip.

Each says for itself when it does not apply, because one before it has found the reason already.
"""

from __future__ import annotations

import http.client
import secrets
import socket
import time
from http import HTTPStatus

import numpy as np

from forgesyte_nb.client.blocking import BlockingClient
from forgesyte_nb.errors import ForgeSyteError, PluginError, PluginNotFound, ProcessingTimeout
from forgesyte_nb.workbench.doctor_report import Finding
from forgesyte_nb.workbench.doctor_visit import Answer, Visit
from forgesyte_nb.workbench.tracebacks import cell_name

_CONNECT_TIMEOUT_S = 3.0
_ROUND_TRIP_TIMEOUT_S = 30.0
_SHIPPED = ("image_stats", "block_mapper", "motion_detector", "face_detector", "ocr")
"""Plugins that any picture suits, the quickest first."""

_JUPYTER_PAGE = "http://localhost:8888"
_SLOW_MS = 1000.0
_START = "server = fs.serve()"


def check_process(visit: Visit) -> list[Finding]:
    """Is there a server in this process, and is it the one that is looked at?"""
    own = visit.server
    if own is None:
        return [Finding("process", "skipped", f"no server in this process; {visit.url} is looked at")]
    if not own.running:
        return [Finding("process", "problem", f"the server {own.url} of this process is closed", _START)]
    if not visit.is_own:
        found = f"the server of this process is {own.url}; {visit.url} is looked at, which is another"
        return [Finding("process", "warning", found, f"if that is not meant: url={own.url!r}, which is server.url")]
    stats = own.stats()
    found = f"{own.url} in this process: {stats['connections']} connections, {stats['accepted']} frames accepted"
    return [Finding("process", "ok", f"{found}, {stats['active']} under way")]


def check_port(visit: Visit) -> list[Finding]:
    """Does anything listen there?"""
    if visit.complaint:
        return [Finding("port", "problem", visit.complaint, "url='ws://localhost:8000', or leave it out")]
    host, port = visit.address
    try:
        socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S).close()
    except TimeoutError:
        found = f"{host}:{port} does not answer within {_CONNECT_TIMEOUT_S:g} s"
        return [Finding("port", "problem", found, "is the address right, and does a firewall let it pass?")]
    except socket.gaierror as error:
        found = f"no machine is known by the name {host}: {error.strerror}"
        return [Finding("port", "problem", found, "correct the url; on this machine it is ws://localhost:<port>")]
    except OSError as error:
        return [Finding("port", "problem", f"nothing listens on {host}:{port}: {error.strerror}", _other_way(visit))]
    visit.listens = True
    return [Finding("port", "ok", f"something listens on {host}:{port}")]


def check_server(visit: Visit) -> list[Finding]:
    """Is what listens there a ForgeSyte server?"""
    if not visit.listens:
        return [Finding("server", "skipped", "nothing listens there")]
    try:
        answer = visit.ask("/healthz")
    except (OSError, http.client.HTTPException, ValueError) as error:
        found = f"what listens on {visit.address[1]} does not speak HTTP: {type(error).__name__}: {error}"
        return [Finding("server", "problem", found, _other_way(visit))]
    if not isinstance(answer.body, dict) or not {"server_id", "error"} & set(answer.body):
        software = f" ({answer.software.strip()})" if answer.software else ""
        found = f"another program{software} listens on {visit.address[1]}: HTTP {answer.status} at /healthz"
        return [Finding("server", "problem", found, _other_way(visit))]
    return [_health(visit, answer)]


def _health(visit: Visit, answer: Answer) -> Finding:
    said = answer.body.get("error")
    if answer.status in (HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED):
        visit.answers = True
        return Finding("server", "ok", "a ForgeSyte server, or the relay to one; it lets nobody in unasked")
    if said is not None:
        return Finding("server", "problem", f"HTTP {answer.status}: {said}", _other_way(visit))
    visit.answers = visit.admitted = True
    visit.server_id = str(answer.body["server_id"])
    if answer.body.get("status") != "ok":
        return Finding("server", "warning", f"it is {answer.body.get('status')}", f"start anew: {_START}")
    if visit.is_own and visit.server is not None and visit.server.server_id != visit.server_id:
        found = f"{visit.url} is answered by another server than this process's"
        return Finding("server", "problem", found, "fs.serve(port=0), and use server.url")
    jobs = answer.body.get("active_jobs")
    return Finding("server", "ok", f"a ForgeSyte server, healthy; {jobs} jobs under way")


def check_gate(visit: Visit) -> list[Finding]:
    """Does its gate (Host, Origin, user, token) let this process and a page of Jupyter's in?"""
    if not visit.answers:
        return [Finding("gate", "skipped", "no ForgeSyte server to ask")]
    if not visit.admitted:
        reason = _reason_of_refusal(visit)
        how = "with a token" if visit.token else "without a token"
        remedy = "pass the server's secret, token=…; else its log says which of Host, Origin and user it was"
        return [Finding("gate", "problem", f"refused {how}{reason}", remedy)]
    if visit.ask("/healthz", origin=_JUPYTER_PAGE).status == HTTPStatus.FORBIDDEN:
        found = f"this process may enter; a page of {_JUPYTER_PAGE} may not"
        remedy = f"add the page's origin, {_JUPYTER_PAGE!r}, to Settings(allow_origins=…)"
        return [Finding("gate", "warning", found, remedy)]
    return [Finding("gate", "ok", f"this process may enter, a page of {_JUPYTER_PAGE} too")]


def _reason_of_refusal(visit: Visit) -> str:
    if not visit.is_own or visit.server is None:
        return ""
    lines = [line for line in visit.server.log_tail(50).splitlines() if "refused at the gate" in line]
    return f": {lines[-1].partition('refused at the gate ')[2].partition(': ')[2]}" if lines else ""


def check_plugins(visit: Visit) -> list[Finding]:
    """Are the server's plugins loaded, and which could not be?"""
    if not visit.admitted:
        return [Finding("plugins", "skipped", "no ForgeSyte server that lets us in")]
    answer = visit.ask("/v1/plugins")
    visit.plugins = [one["name"] for one in answer.body["plugins"]]
    findings = [Finding("plugins", "ok", f"{len(visit.plugins)} loaded: {', '.join(visit.plugins)}")]
    if not visit.plugins:
        remedy = "define one with @fs.plugin, or name a folder: fs.serve(plugins=[…])"
        findings = [Finding("plugins", "problem", "none is loaded", remedy)]
    for one in answer.body["failed"]:
        remedy = _how_to_mend(visit, one["name"], from_cell=one.get("from_cell", False))
        findings.append(Finding("plugins", "problem", f"{one['name']} could not be loaded: {one['reason']}", remedy))
    for one in answer.body["plugins"]:
        if one["health"]["state"] != "ok":
            found = f"{one['name']}: {one['health']['message']}"
            how = _how_to_mend(visit, one["name"], from_cell=one["health"].get("from_cell", False))
            remedy = f"{how}; revision {one['revision']} goes on answering"
            findings.append(Finding("plugins", "problem", found, remedy))
    return findings


def _how_to_mend(visit: Visit, name: str, *, from_cell: bool) -> str:
    """What to do about a plugin that could not be loaded, where it was written; servers elsewhere name no cell."""
    if not from_cell:
        return "mend the file; it is loaded again when it is saved"
    cell = None
    if visit.is_own and visit.server is not None:
        cell = cell_name(visit.server.registry.failed_origin(name))
    return f"mend {cell or f'the cell that defines {name}'} and run it again"


def check_round_trip(visit: Visit) -> list[Finding]:
    """Does a small picture come back as a result, and how soon?"""
    if not visit.admitted:
        return [Finding("round trip", "skipped", "no ForgeSyte server that lets us in")]
    plugin = next((name for name in _SHIPPED if name in visit.plugins), None)
    if plugin is None:
        return [Finding("round trip", "skipped", "none of the shipped plugins is loaded there")]
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, 32:] = 255
    name = f"doctor-{secrets.token_hex(4)}"
    try:
        with BlockingClient(visit.url, client_id=name, token=visit.token, reconnect=False) as client:
            client.analyze(picture, plugin, timeout_s=_ROUND_TRIP_TIMEOUT_S)  # the first may wait for a worker to start
            began = time.perf_counter()
            client.analyze(picture, plugin, timeout_s=_ROUND_TRIP_TIMEOUT_S)
            took_ms = (time.perf_counter() - began) * 1000
    except TimeoutError:
        found = f"{plugin} has not answered within {_ROUND_TRIP_TIMEOUT_S:g} s"
        return [Finding("round trip", "problem", found, "are the workers busy? GET /v1/jobs, and the server's log")]
    except (ProcessingTimeout, PluginError, PluginNotFound) as error:
        return [Finding("round trip", "problem", f"{plugin}: {error}", "server.log_tail() has the traceback")]
    except ForgeSyteError as error:
        found = f"no WebSocket: {error}"
        return [Finding("round trip", "problem", found, "a proxy in between? It must pass WebSockets on")]
    found = f"a picture to {plugin} and its result back: {took_ms:.1f} ms"
    if took_ms > _SLOW_MS:
        return [Finding("round trip", "warning", found, "other jobs are ahead, or the processors are busy")]
    return [Finding("round trip", "ok", found)]


def _other_way(visit: Visit) -> str:
    """Where to turn instead."""
    if visit.server is not None and visit.server.running and not visit.is_own:
        return f"the server of this process is {visit.server.url}: use server.url"
    if visit.on_this_machine:
        return f"{_START}; server.url says where it listens"
    return "start the server there, with host= and token=, or correct the url"
