"""`forgesyte-nb plugins`: what plugins there are and what they take, from a running server or from the folders here.

Both ways give the shape of `/v1/plugins`, and one function makes a text of it. Found here means that the file loads;
whether a model's `setup` works shows where it runs, in the server's health.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import sys
from typing import Any
from urllib.parse import urlsplit

from forgesyte_nb.errors import ConnectionLost
from forgesyte_nb.plugins.discovery import discover, plugin_folders
from forgesyte_nb.plugins.registry import Registry
from forgesyte_nb.server.lookups import describe_plugin
from forgesyte_nb.transport.connecting import websocket_url

_TIMEOUT_S = 10.0
_BOUNDS = (
    ("minimum", "≥ {}"),
    ("exclusiveMinimum", "> {}"),
    ("maximum", "≤ {}"),
    ("exclusiveMaximum", "< {}"),
    ("multipleOf", "a multiple of {}"),
    ("maxLength", "at most {} characters"),
    ("pattern", "matching {}"),
)


def list_plugins(arguments: argparse.Namespace, token: str | None) -> int:
    """Print the plugins.

    Returns:
        0.

    Raises:
        ConnectionLost: If no server answers at the URL.
        PluginDefinitionError: If a plugin folder does not exist.
        ValueError: If the URL is none.
    """
    listed = ask_server(arguments.url, token) if arguments.url else find_here(arguments.plugins)
    print(json.dumps(listed, indent=2, ensure_ascii=False) if arguments.json else as_text(listed))
    return 0


def find_here(folders: list[str]) -> dict[str, Any]:
    """The plugins a server started here would find, as `/v1/plugins` gives them.

    Raises:
        PluginDefinitionError: If a folder does not exist.
    """
    found = Registry()
    with contextlib.redirect_stdout(sys.stderr):  # what plugin files print must not get into --json
        discover(found, plugin_folders(folders))
    healthy = {"state": "ok", "message": "", "from_cell": False}
    return {
        "plugins": [{**describe_plugin(plugin), "health": healthy} for plugin in found.plugins()],
        "failed": [{"name": name, "reason": reason, "from_cell": False} for name, reason in found.failures.items()],
    }


def ask_server(url: str, token: str | None) -> dict[str, Any]:
    """The answer of `GET /v1/plugins`.

    Raises:
        ConnectionLost: If nobody answers there, or not as expected, saying what to do.
        ValueError: If the URL is none.
    """
    address = urlsplit(websocket_url(url))
    kind = http.client.HTTPSConnection if address.scheme == "wss" else http.client.HTTPConnection
    connection = kind(address.hostname or "", address.port, timeout=_TIMEOUT_S)
    try:
        connection.request(
            "GET", f"{address.path}/v1/plugins", headers={"Authorization": f"Bearer {token}"} if token else {}
        )
        answer = connection.getresponse()
        status, body = answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ConnectionLost(
            f"No server at {url} ({reason}): start one with `forgesyte-nb serve`, or pass the --url of the one "
            "that runs"
        ) from error
    finally:
        connection.close()
    if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        raise ConnectionLost(
            f"{url} refuses (HTTP {status}): pass the server's secret if it has one, with --token-file"
        )
    try:
        listed = json.loads(body)
        return {"plugins": listed["plugins"], "failed": listed["failed"]}
    except (ValueError, TypeError, KeyError):
        raise ConnectionLost(
            f"{url} answers, but not as a ForgeSyte server (HTTP {status}): is the port right?"
        ) from None


def as_text(listed: dict[str, Any]) -> str:
    """A table of the plugins, each with its options."""
    rows = [("PLUGIN", "VERSION", "REVISION", "STATEFUL", "HEALTH")]
    rows += [
        (
            one["name"],
            one["version"] or "–",
            str(one["revision"]),
            "yes" if one["stateful"] else "no",
            ": ".join(part for part in one["health"].values() if part),
        )
        for one in listed["plugins"]
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row, plugin in zip(rows, [None, *listed["plugins"]], strict=True):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if plugin is not None:
            lines += _details(plugin)
    if not listed["plugins"]:
        lines = ["no plugins"]
    lines += [f"failed  {one['name']}: {one['reason']}" for one in listed["failed"]]
    return "\n".join(_printable(line) for line in lines)


def _details(plugin: dict[str, Any]) -> list[str]:
    schema = plugin["options"]
    required = schema.get("required", [])
    lines = [f"    {plugin['description']}"] if plugin["description"] else []
    options = {name: _about(option, name in required) for name, option in schema.get("properties", {}).items()}
    width = max(map(len, options), default=0)
    return lines + [f"    {name.ljust(width)}  {about}" for name, about in options.items()]


def _about(option: dict[str, Any], required: bool) -> str:
    """ "number, ≥ 0, ≤ 1, default 0.5 – Least confidence of a face"."""
    parts = [_type_of(option)]
    parts += [words.format(option[key]) for key, words in _BOUNDS if key in option]
    parts.append("required" if required else f"default {json.dumps(option.get('default'), ensure_ascii=False)}")
    description = option.get("description")
    return ", ".join(parts) + (f" – {description}" if description else "")


def _type_of(option: dict[str, Any]) -> str:
    if "enum" in option:
        return "one of " + ", ".join(map(json.dumps, option["enum"]))
    if "anyOf" in option:
        return " or ".join(map(_type_of, option["anyOf"]))
    return str(option.get("type", "anything"))


def _printable(text: str) -> str:
    """Without control characters: a server's text must not steer a terminal."""
    return "".join(sign if sign.isprintable() else "·" for sign in text)
