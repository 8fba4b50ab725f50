"""The seed's Python client, as it stands in client.py, in one of four uses; prints its ledger as one JSON line.

    python harness.py video | batch | reconnect | usage

The address comes as FORGESYTE_URL, a picture as FORGESYTE_PICTURE (base64). `usage` runs the whole of client.py,
its example included, with its `websockets.connect` led to the server under test and its ten seconds of waiting cut
short once the result is there.
"""

import asyncio
import base64
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import websockets

URL = os.environ["FORGESYTE_URL"]
PICTURE = base64.b64decode(os.environ["FORGESYTE_PICTURE"])
TEXT = (Path(__file__).parent / "client.py").read_text()
CLASS, USAGE = TEXT.split("# Usage\n")


def seed_names() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "client"}
    exec(compile(CLASS, "client.py", "exec"), names)
    return names


class Counted:
    """The seed's client, and what was sent and what came."""

    def __init__(self, url: str) -> None:
        self.client = seed_names()["ForgeSyteClient"](url)
        self.ledger: dict[str, list[Any]] = {"sent": [], "accepted": [], "terminal": []}
        self.client.on_frame_result(self._result)
        self.client.on_error(self._error)
        self.client.on_job_update(self._update)

    async def _result(self, message: dict[str, Any]) -> None:
        self.ledger["terminal"].append(["result", message["frame_id"], message["job_id"]])

    async def _error(self, message: dict[str, Any]) -> None:
        self.ledger["terminal"].append([message["error_code"], message["frame_id"], message["job_id"]])

    async def _update(self, message: dict[str, Any]) -> None:
        if message["status"] == "pending":
            self.ledger["accepted"].append(message["job_id"])

    async def send(self, plugin: str, picture: bytes = PICTURE) -> None:
        self.ledger["sent"].append(await self.client.send_frame(picture, plugin))

    async def answered(self) -> None:
        await until(lambda: len(self.ledger["terminal"]) >= len(self.ledger["sent"]))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def video() -> dict[str, Any]:
    """Frames leave at the camera's pace, whatever comes back; many share an id made of whole seconds."""
    counted = Counted(URL)
    await counted.client.connect()
    for _ in range(40):
        await counted.send("motion_detector")
        await asyncio.sleep(0.01)
    await counted.answered()
    await counted.client.close()
    return counted.ledger


async def batch() -> dict[str, Any]:
    """Everything at once, every fifth no picture."""
    counted = Counted(URL)
    await counted.client.connect()
    await asyncio.gather(*(counted.send("ocr", PICTURE if n % 5 else b"no picture") for n in range(100)))
    await counted.answered()
    await counted.client.close()
    return counted.ledger


class Relay:
    """A TCP relay that can be cut and can refuse."""

    def __init__(self) -> None:
        self.refusing = False
        self.made = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def listen(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        if self.refusing:
            near_out.transport.abort()
            return
        self.made += 1
        host, port = URL.removeprefix("ws://").split(":")
        far_in, far_out = await asyncio.open_connection(host, int(port))
        self._writers += [near_out, far_out]
        await asyncio.gather(self._pass(near_in, far_out), self._pass(far_in, near_out))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


async def connect_with_retry(client: Any, max_retries: int = 8) -> None:
    """As the seed's JavaScript does it, its clock running faster."""
    for retries in range(1, max_retries + 1):
        try:
            await client.connect()
            return
        except (OSError, websockets.exceptions.WebSocketException):
            await asyncio.sleep(min(2**retries, 30) / 100)
    raise ConnectionError("Failed to connect after max retries")


async def reconnect() -> dict[str, Any]:
    """Cut after the server has accepted the frames and before it has answered them."""
    relay = Relay()
    counted = Counted(await relay.listen())
    await connect_with_retry(counted.client)
    for _ in range(12):
        await counted.send("slow")
    await until(lambda: len(counted.ledger["accepted"]) >= 12)
    relay.refusing = True
    relay.cut()
    await counted.client.ws.wait_closed()
    asyncio.get_running_loop().call_later(0.05, setattr, relay, "refusing", False)
    await connect_with_retry(counted.client)
    await until(lambda: len({job_id for _, _, job_id in counted.ledger["terminal"]}) >= 12)
    await counted.client.close()
    return {**counted.ledger, "connections": relay.made}


def usage() -> dict[str, Any]:
    """client.py from its first line to its last."""
    ledger: dict[str, list[Any]] = {"sent": [], "accepted": [], "terminal": []}
    names = seed_names()
    client_class, connect, sleep = names["ForgeSyteClient"], websockets.connect, asyncio.sleep
    send_frame, handle_message = client_class.send_frame, client_class._handle_message

    async def counted_send(client: Any, *given: Any) -> str:
        ledger["sent"].append(await send_frame(client, *given))
        return ledger["sent"][-1]

    async def counted_message(client: Any, message: dict[str, Any]) -> None:
        await handle_message(client, message)
        if message["type"] in ("frame_result", "error"):
            ledger["terminal"].append([message["type"], message["frame_id"], message["job_id"]])

    async def short_sleep(seconds: float) -> None:
        while len(ledger["terminal"]) < len(ledger["sent"]):
            await sleep(0.005)

    client_class.send_frame, client_class._handle_message = counted_send, counted_message
    websockets.connect = lambda url: connect(url.replace("ws://localhost:8000", URL))
    asyncio.sleep = short_sleep
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("image.png").write_bytes(PICTURE)
        exec(compile(USAGE, "client.py", "exec"), names)
        os.chdir("/")
    return ledger


if __name__ == "__main__":
    use = sys.argv[1]
    found = usage() if use == "usage" else asyncio.run({"video": video, "batch": batch, "reconnect": reconnect}[use]())
    print(json.dumps(found))
