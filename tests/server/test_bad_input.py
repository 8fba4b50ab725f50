"""Messages that cannot be taken: one clear error to their sender, nothing to anybody else, and the connection works on.

Over real sockets, against a server with worker processes.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

import forgesyte_nb as fs
from tests.conftest import Connect, SeedClient, get
from tests.server.conftest import Start

PLUGINS = """
from typing import Annotated, Literal
from pydantic import Field

@fs.plugin
def size(frame):
    return {"size": list(frame.size_wh)}

@fs.plugin
def tuned(frame, *, threshold: Annotated[float, Field(ge=0, le=1)] = 0.5, mode: Literal["fast", "good"] = "fast",
          count: int = 1, tags: list = []):
    return {"threshold": threshold, "count": count, "tags": tags}
"""
MISSING = object()


@pytest.fixture(scope="module")
def server(start_for_module: Start) -> fs.Server:
    return start_for_module(PLUGINS, engine="processes", max_message_bytes=1024 * 1024, max_options_bytes=8192)


class Room:
    """A client that errs, and one that listens to everything."""

    def __init__(self, client: SeedClient, watcher: SeedClient, picture: bytes) -> None:
        self.client, self.watcher, self.picture = client, watcher, picture

    async def refused(self, message: Any) -> dict[str, Any]:
        """The one error that answers a message; nobody else hears a word, and the connection is good after it."""
        await self.client.send(message)
        return await self.one_error()

    async def frame_refused(self, image: bytes, plugin: str, options: Any = None) -> dict[str, Any]:
        """The same of a frame "f1"."""
        await self.client.frame("f1", image, plugin, options)
        error = await self.one_error()
        assert (error["frame_id"], error["plugin"]) == ("f1", plugin)
        return error

    async def one_error(self) -> dict[str, Any]:
        """The one error that was said, to the one client."""
        said = await self.client.fence()
        assert [m["type"] for m in said] == ["error"], said
        assert await self.watcher.fence() == []
        await self.works_on()
        error = said[0]
        assert set(error) >= {"type", "frame_id", "plugin", "error_code", "message", "timestamp"}
        assert error.get("job_id") is None, "a refused message is no job"
        return error

    async def works_on(self) -> None:
        """A good frame on the same connection has its result."""
        answer = await self.client.analyze("good", self.picture, "size")
        assert answer["result"] == {"size": [8, 8]}
        await self.client.fence()
        await self.watcher.fence()


@pytest.fixture
async def room(server: fs.Server, client: Connect, tiny: bytes) -> Room:
    watcher = await client(server, "watcher")
    await watcher.send({"type": "subscribe", "topic": "all"})
    assert await watcher.fence() == []
    return Room(await client(server), watcher, tiny)


NO_MESSAGES: dict[str, tuple[str, str]] = {
    "prose": ("hello", "not JSON ("),
    "nothing": ("", "not JSON ("),
    "cut": ('{"type": "subscribe", "topic": "al', "not JSON ("),
    "two": ('{"type": "subscribe"}{}', "not JSON ("),
    "NaN": ('{"type": NaN}', "not JSON ("),
    "list": ('[{"type": "subscribe"}]', "a message is a JSON object with a 'type', this is an array"),
    "number": ("42", "a message is a JSON object with a 'type', this is a number"),
    "text": ('"subscribe"', "a message is a JSON object with a 'type', this is a string"),
    "null": ("null", "a message is a JSON object with a 'type', this is null"),
    "true": ("true", "a message is a JSON object with a 'type', this is a boolean"),
    "empty object": ("{}", "missing field 'type'; it is one of 'subscribe', 'unsubscribe', 'send_frame'"),
    "unknown type": ('{"type": "sendFrame"}', "unknown type 'sendFrame'; it is one of 'subscribe'"),
    "null type": ('{"type": null}', "unknown type None; it is one of 'subscribe'"),
    "object type": ('{"type": {"a": 1}}', "unknown type {'a': 1}; it is one of"),
    "a server's type": ('{"type": "frame_result"}', "unknown type 'frame_result'; it is one of 'subscribe'"),
    "deep": ("[" * 100_000, "message is nested too deeply"),
    "lone surrogate": ('{"type": "subscribe", "topic": "\\ud800"}', "not JSON ("),
}


@pytest.mark.parametrize("name", NO_MESSAGES)
async def test_what_is_no_message(room: Room, name: str) -> None:
    text, reason = NO_MESSAGES[name]
    error = await room.refused(text)
    assert (error["error_code"], error["frame_id"], error["plugin"]) == ("INVALID_MESSAGE", None, None)
    assert reason in error["message"]
    if reason == "not JSON (":
        assert '; a message is an object such as {"type": "subscribe", "topic": "all"}' in error["message"]


FIELDS: list[tuple[str, Any, str]] = [
    ("frame_id", MISSING, "missing field 'frame_id' (string)"),
    ("frame_id", None, "'frame_id' must be a string, not null"),
    ("frame_id", 7, "'frame_id' must be a string, not a number"),
    ("plugin", MISSING, "missing field 'plugin' (string)"),
    ("plugin", None, "'plugin' must be a string, not null"),
    ("plugin", ["size"], "'plugin' must be a string, not an array"),
    ("image_data", MISSING, "missing field 'image_data' (base64 string)"),
    ("image_data", None, "'image_data' must be a base64 string, not null"),
    ("image_data", [137, 80], "'image_data' must be a base64 string, not an array"),
    ("image_data", 1e9, "'image_data' must be a base64 string, not a number"),
    ("image_data", {}, "JSON.stringify turns an ArrayBuffer into {}; pass `new Uint8Array(buffer)`"),
    ("options", None, "'options' must be an object, not null"),
    ("options", "{}", "'options' must be an object, not a string"),
    ("options", [], "'options' must be an object, not an array"),
    ("options", True, "'options' must be an object, not a boolean"),
    ("stream_id", 3, "'stream_id' must be a string, not a number"),
]


@pytest.mark.parametrize(("field", "value", "reason"), FIELDS)
async def test_fields_of_a_frame(room: Room, field: str, value: Any, reason: str) -> None:
    message: dict[str, Any] = {"type": "send_frame", "frame_id": "f1", "image_data": "aGk=", "plugin": "size"}
    message = {name: one for name, one in {**message, field: value}.items() if one is not MISSING}
    error = await room.refused(message)
    assert error["error_code"] == "INVALID_MESSAGE"
    assert error["message"].startswith("send_frame: ")
    assert reason in error["message"]
    assert error["frame_id"] == (None if field == "frame_id" else "f1")
    assert error["plugin"] == (None if field == "plugin" else "size")


@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])
@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        (MISSING, "missing field 'topic' (string)"),
        (None, "'topic' must be a string, not null"),
        (["all"], "'topic' must be a string, not an array"),
        ("", "is none of 'all', 'job_<job_id>', 'plugin_<plugin_name>'"),
        ("ALL", "topic 'ALL' is none of 'all'"),
        ("job_", "is none of"),
        ("123", "a job_id is used as it stands, such as 'job_123'"),
        ("plugin_a b", "is none of"),
        ("all\n", "is none of"),
        ("plugin_" + "x" * 1000, "x…' is none of"),
    ],
)
async def test_bad_topics(room: Room, kind: str, topic: Any, reason: str) -> None:
    error = await room.refused({"type": kind} if topic is MISSING else {"type": kind, "topic": topic})
    assert (error["error_code"], error["frame_id"]) == ("INVALID_MESSAGE", None)
    assert reason in error["message"]


@pytest.mark.parametrize("client_id", ["", "a%20b", "a/b", "a%2Fb", "%C3%A4", "x" * 129, "a%00", "%0a", "a%"])
async def test_bad_client_ids_are_refused_before_the_upgrade(
    server: fs.Server, client: Connect, client_id: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await client(server, client_id)
    assert refused.value.response.status_code == 404
    body = json.loads(refused.value.response.body)
    assert body == {"error": "bad client id: /ws/<client_id> takes 1 to 128 of the characters A-Z a-z 0-9 _ . : -"}
    assert get(server, f"/ws/{client_id}") == (404, body)


@pytest.mark.parametrize("client_id", ["a", "client_1736612345", "A.b:c-d_1", "x" * 128, "%61", "a?token=1"])
async def test_good_client_ids(server: fs.Server, client: Connect, client_id: str, tiny: bytes) -> None:
    answer = await (await client(server, client_id)).analyze("f", tiny, "size")
    assert answer["type"] == "frame_result"


@pytest.mark.parametrize("plugin", ["siz", "Size", "size ", ""])
async def test_an_unknown_plugin_is_answered_with_those_there_are(room: Room, plugin: str) -> None:
    error = await room.refused({"type": "send_frame", "frame_id": "f", "image_data": "aGk=", "plugin": plugin})
    assert (error["error_code"], error["frame_id"], error["plugin"]) == ("PLUGIN_NOT_FOUND", "f", plugin)
    hint = "; did you mean 'size'? " if plugin else ". "
    assert error["message"].startswith(f"No plugin '{plugin}'{hint}Loaded: ")
    assert "size, tuned" in error["message"]


OPTIONS: list[tuple[Any, list[str]]] = [
    ({"threshold": 7}, ["threshold: 7 is greater than 1"]),
    ({"threshold": -0.1}, ["threshold: -0.1 is less than 0"]),
    ({"threshold": "0.8"}, ["threshold: ", "valid number", "'0.8'"]),
    ({"threshold": None}, ["threshold: ", "None"]),
    ({"count": 1.5}, ["count: ", "integer", "1.5"]),
    ({"count": True}, ["count: ", "integer", "True"]),
    ({"mode": "best"}, ["mode: ", "'fast' or 'good'", "'best'"]),
    ({"treshold": 0.5}, ["treshold: no such option; did you mean 'threshold'?", "known: threshold, mode, count, tags"]),
    ({"threshold": 7, "mode": 1}, ["threshold: 7 is greater than 1.0; mode: "]),
    ({"tags": json.loads("[" * 16 + "]" * 16)}, ["nested 17 or more levels deep, the limit is 16"]),
    ({"tags": ["x" * 9000]}, ["bytes, the limit is 8192"]),
]


@pytest.mark.parametrize(("options", "reasons"), OPTIONS, ids=range(len(OPTIONS)))
async def test_options_that_the_schema_refuses(room: Room, options: Any, reasons: list[str], tiny: bytes) -> None:
    error = await room.frame_refused(tiny, "tuned", options)
    assert error["error_code"] == "INVALID_OPTIONS"
    for reason in reasons:
        assert reason in error["message"]
