"""Widgets without a kernel: what they would send to pages is recorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import forgesyte_nb as fs
from forgesyte_nb.feeds import Feed, feed_book
from tests.conftest import wait_for


class Page:
    """One browser page: speaks to a widget as `comm_socket.js` does and keeps what the widget says to its view."""

    def __init__(self, widget: Any, view: str = "v1") -> None:
        self.widget = widget
        self.view = view
        self.texts: list[dict[str, Any]] = []
        self.pictures: list[tuple[dict[str, Any], bytes]] = []
        self.closed: list[str] = []
        passed_on = widget.send

        def send(content: dict[str, Any], buffers: Any = None) -> None:
            passed_on(content, buffers)
            if content.get("to") != self.view:
                return
            self.texts += [json.loads(text) for text in content.get("texts", ())]
            self.pictures += [_parsed(bytes(buffer)) for buffer in buffers or ()]
            self.closed += [content["closed"]] if "closed" in content else []

        widget.send = send

    def post(self, kind: str, message: dict[str, Any] | None = None, buffers: Any = ()) -> None:
        content: dict[str, Any] = {"view": self.view, "kind": kind}
        if message is not None:
            content["text"] = json.dumps(message)
        self.widget._handle_custom_msg(content, list(buffers))

    def say(self, kind: str, **fields: Any) -> None:
        self.post("say", {"type": kind, **fields})

    def heard(self, kind: str) -> dict[str, Any]:
        """The first message of a type, when it has come."""

        def first() -> dict[str, Any] | None:
            return next((text for text in list(self.texts) if text["type"] == kind), None)

        found: dict[str, Any] = wait_for(first, f"{kind} among {self.texts}")
        return found


def _parsed(message: bytes) -> tuple[dict[str, Any], bytes]:
    end = 4 + int.from_bytes(message[:4], "little")
    return json.loads(message[4:end]), message[end:]


@pytest.fixture
def server(serve_on: Callable[..., fs.Server]) -> fs.Server:
    return serve_on(engine="inline", workers=1)


@pytest.fixture
def feed() -> Iterator[Feed]:
    opened = feed_book().open("stream", "a street", lambda action, value: {action: value})
    yield opened
    opened.close()
