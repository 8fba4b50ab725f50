"""`doctor()`: looks, in order, at everything that can be wrong between a notebook and its results.

It reads and asks; it starts, registers and repairs nothing. The one thing it leaves is a job of one small picture in
the server's history. Each check is a function that gets the `Visit` and returns findings; it runs on a thread of its
own with a time limit, so that neither a hanging socket nor an error in a check takes the others with it. A call blocks,
and works in a cell whose loop is running.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from forgesyte_nb.keywords import known_keywords
from forgesyte_nb.server.current import running_server
from forgesyte_nb.server.server import Server
from forgesyte_nb.token_file import token_of
from forgesyte_nb.transport.connecting import default_url, websocket_url
from forgesyte_nb.workbench.doctor_machine import check_camera, check_log, check_relay, check_tesseract, check_versions
from forgesyte_nb.workbench.doctor_report import Diagnosis, Finding
from forgesyte_nb.workbench.doctor_server import (
    check_gate,
    check_plugins,
    check_port,
    check_process,
    check_round_trip,
    check_server,
)
from forgesyte_nb.workbench.doctor_visit import Visit

Check = Callable[[Visit], list[Finding]]

CHECKS: tuple[tuple[str, Check, float], ...] = (
    ("process", check_process, 5.0),
    ("port", check_port, 10.0),
    ("server", check_server, 15.0),
    ("gate", check_gate, 15.0),
    ("versions", check_versions, 20.0),
    ("plugins", check_plugins, 15.0),
    ("tesseract", check_tesseract, 20.0),
    ("round trip", check_round_trip, 45.0),
    ("relay", check_relay, 10.0),
    ("camera", check_camera, 5.0),
    ("log", check_log, 5.0),
)
"""Name, function and time limit in seconds of each check, in order."""


@known_keywords()
def doctor(url: Any = None, *, token: str | os.PathLike[str] | None = None) -> Diagnosis:
    """Find out why there is no connection or no result, and what to do.

    Args:
        url: Base URL of the server, or a `Server`; by default this process's, else `FORGESYTE_NB_URL`, else
            `ws://localhost:8000`.
        token: The server's secret, or the path of a file with it; of a server in this process it is known.

    Returns:
        A line for each check, which shows as a table in a cell; `.ok` and `.problems` are for programs.
    """
    visit = _visit(url, token_of(token))
    findings: list[Finding] = []
    for name, check, limit_s in CHECKS:
        findings += _carry_out(name, check, limit_s, visit)
    return Diagnosis(visit.url, findings)


def _visit(url: Any, token: str | None) -> Visit:
    server = url if isinstance(url, Server) else running_server()
    named = url.url if isinstance(url, Server) else url
    if named is None:
        named = server.url if server is not None else default_url()
    try:
        address, complaint = websocket_url(str(named)), ""
        urlsplit(address).port  # noqa: B018 -- raises if it is none
    except ValueError as error:
        address, complaint = str(named), str(error)
    return Visit(url=address, complaint=complaint, token=token, server=server)


def _carry_out(name: str, check: Check, limit_s: float, visit: Visit) -> list[Finding]:
    """What a check finds; that it failed or took too long is a finding too."""
    found: list[Finding] = []

    def examine() -> None:
        try:
            found.extend(check(visit))
        except Exception as error:  # noqa: BLE001 -- one check that fails must not hide what the others find
            found.append(Finding(name, "problem", f"cannot be checked: {type(error).__name__}: {error}", _REPORT))

    thread = threading.Thread(target=examine, name=f"forgesyte-doctor-{name}", daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        return [Finding(name, "problem", f"not known after {limit_s:g} s", "is the machine very busy? Try again")]
    return found


_REPORT = "the other lines hold all the same; this one is a fault of forgesyte_nb's, please report it"
