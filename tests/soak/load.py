"""Mixed load: clients of every kind that come, work, break off and go, until told to stop.

Each kind is a function that is one client's visit; `Load` has visits of all kinds made again and again, with a seed,
and keeps the books. A visit whose client behaves ends with its books balanced. What those that do not are owed nobody
reads, so of them only the number of frames is known.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

import forgesyte_nb as fs
from tests.chaos.apart import Apart
from tests.chaos.fault_proxy import FaultProxy
from tests.chaos.ledger import assert_balanced
from tests.chaos.seed_style import SeedStyle
from tests.conftest import get
from tests.server.conftest import RawSocket

PLUGINS = """
import time
import forgesyte_nb as fs

STEP = 0

@fs.plugin
def gray(frame, *, times: float = 1.0) -> dict:
    return {"gray": float(frame.gray.mean()) * times, "step": STEP}

@fs.plugin
def counts(frame, *, state) -> dict:
    state["n"] = state.get("n", 0) + 1
    return {"n": state["n"]}

@fs.plugin
def naps(frame, *, ctx) -> dict:
    for turn in range(4):
        time.sleep(0.01)
        ctx.progress(turn + 1, 4)
    return {}

@fs.plugin(engine="threads")
def in_a_thread(frame) -> dict:
    return {"gray": float(frame.gray.mean())}

@fs.plugin
def fails(frame) -> dict:
    raise ValueError("on purpose")

@fs.plugin
def large(frame) -> dict:
    return {"text": "x" * 200_000}
"""
NAMES = ("gray", "counts", "naps", "in_a_thread", "fails", "large")
BAD = (
    "no JSON", "[]", '{"type": "dance"}', '{"type": "send_frame"}', '{"type": "subscribe", "topic": "job_!"}',
    '{"type": "send_frame", "frame_id": "f", "plugin": "grey", "image_data": ""}',
    '{"type": "send_frame", "frame_id": "f", "plugin": "gray", "image_data": "AAAA"}',
    '{"type": "cancel", "job_id": "job_0"}', "[" * 5000, b"\x00\x00\x00\x00", b"\xff\xff\xff\x7f{}",
)  # fmt: skip
PATHS = ("/metrics", "/healthz", "/v1/plugins", "/v1/jobs", "/v1/jobs/none", "/", "/forgesyte.js", "/nothing")

Visit = Callable[[], Awaitable[None]]
_VISIT_S = 60.0  # the longest takes a few seconds


class Load:
    """Visits to one server.

    Attributes:
        visits: Made so far, by kind.
        answered: Terminal messages of jobs that clients heard, each once.
    """

    def __init__(self, server: Apart, proxy: FaultProxy, picture: bytes, *, most_frames: int, seed: int) -> None:
        """Visits send up to so many frames; `seed` is of all that is left to chance."""
        self.visits: Counter[str] = Counter()
        self.answered = 0
        self._server, self._proxy, self._picture = server, proxy, picture
        self._url = f"ws://127.0.0.1:{server.port}"
        self._most_frames = most_frames
        self._random = random.Random(seed)
        self._stop = asyncio.Event()

    async def use_each_plugin(self) -> None:
        """So that what a server makes when it is first needed is there."""
        async with fs.Client(self._url) as client:
            for plugin in NAMES:
                results = [result async for result in client.stream([self._picture] * 4, plugin)]
                self.answered += len(results)

    async def run(self, duration_s: float, *, kill_every_s: float) -> None:
        """All kinds of visits, several at a time, for a while; until the last of them has ended."""
        kinds = [self.ours, self.ours, self.ours_behind_the_proxy, self.seeds, self.seeds_that_break_off]
        kinds += [self.subscriber, self.reads_nothing, self.says_nonsense, self.looks_up]
        paced = [(kind, 0.1) for kind in kinds] + [(self.cuts, 1.0), (self.changes_a_plugin, 10.0)]
        paced += [(self.kills_a_worker, kill_every_s)]
        self._stop.clear()
        asyncio.get_running_loop().call_later(duration_s, self._stop.set)
        async with asyncio.TaskGroup() as group:
            for kind, pause_s in paced:
                group.create_task(self._again_and_again(kind, pause_s))

    async def _again_and_again(self, kind: Visit, pause_s: float) -> None:
        while not self._stop.is_set():
            async with asyncio.timeout(_VISIT_S):
                await kind()
            self.visits[kind.__name__] += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s * self._random.uniform(0.5, 1.5)):
                    await self._stop.wait()

    def _frames(self) -> int:
        return self._random.randint(self._most_frames // 4, self._most_frames)

    # Clients that behave

    async def ours(self) -> None:
        """`fs.Client`, straight to the server."""
        async with fs.Client(self._url) as client:
            await self._stream(client)

    async def ours_behind_the_proxy(self) -> None:
        """`fs.Client`, cut now and then."""
        client = fs.Client(self._proxy.url)
        try:
            await client.connect()
        except fs.ConnectionLost:  # cut while it connected for the first time; that is for its user to know
            return
        try:
            await self._stream(client)
        finally:
            await client.close()

    async def _stream(self, client: fs.Client) -> None:
        """A frame may fail, by its plugin or with its worker, but none is without an answer."""
        count, plugin = self._frames(), self._random.choice(NAMES)
        stream = client.stream([self._picture] * count, plugin, fps=self._random.uniform(20, 100))
        results = [result async for result in stream]
        assert sorted(result.seq for result in results) == list(range(count))
        assert all(result.ok or isinstance(result.error, fs.PluginError) for result in results)
        self.answered += count

    async def seeds(self) -> None:
        """The seed's kind, behind the proxy."""
        name = f"seed-{self.visits['seeds']}"
        async with SeedStyle(self._proxy.url, name, ping_interval=None) as client:
            for number in range(self._frames()):
                await client.frame(f"{name} {number}", self._picture, self._random.choice(NAMES))
            await client.settled()
        assert_balanced([client.ledger], repeats=True)
        self.answered += len(client.ledger.terminals)

    async def seeds_that_break_off(self) -> None:
        """All is heard, and then there is no goodbye: its session is kept until it expires."""
        async with SeedStyle(self._url, f"broken-{self.visits['seeds_that_break_off']}") as client:
            for number in range(self._frames()):
                await client.frame(str(number), self._picture, "gray")
            await client.settled()
            self.answered += len(client.ledger.terminals)
            client.break_off()

    async def subscriber(self) -> None:
        """Hears of others for a while, then goes, with or without a word."""
        async with connect(f"{self._url}/ws/subscriber", proxy=None) as socket:
            for topic in ("all", "plugin_gray", "plugin_naps"):
                await socket.send(json.dumps({"type": "subscribe", "topic": topic}))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._random.uniform(0.5, 3.0)):
                    async for _ in socket:
                        pass
            if self._random.random() < 0.5:
                socket.transport.abort()

    # Clients that do not

    async def reads_nothing(self) -> None:
        """Subscribed to everything, asking for large results; it leaves, or is cut, without having read a byte."""
        with RawSocket(self._server.port, receive_buffer=4096).open() as raw:
            raw.send_frame(1, b'{"type": "subscribe", "topic": "all"}')
            image = base64.b64encode(self._picture).decode()
            frame = {"type": "send_frame", "frame_id": "unread", "plugin": "large", "image_data": image}
            raw.socket.settimeout(0)
            for _ in range(self._frames()):
                with contextlib.suppress(OSError):
                    raw.send_frame(1, json.dumps(frame).encode())
                await asyncio.sleep(0.1)

    async def says_nonsense(self) -> None:
        """Each piece has one answer; only a broken frame of the protocol ends the connection."""
        async with connect(f"{self._url}/ws/nonsense", proxy=None) as socket:
            for said in BAD:
                await socket.send(said)
                assert json.loads(await socket.recv())["type"] == "error"
            with contextlib.suppress(ConnectionClosed):
                socket.transport.write(b"\x8f\x80no frame")
                await socket.recv()

    async def looks_up(self) -> None:
        """Every path of HTTP."""
        for path in PATHS:
            status, _ = await asyncio.to_thread(get, self._server, path)
            assert status in (200, 404)

    # What befalls them

    async def cuts(self) -> None:
        """All lines through the proxy, in the middle of whatever they carry."""
        how: Any = self._random.choice(("rst", "fin"))
        await asyncio.to_thread(self._proxy.cut, how, after_bytes=self._random.randrange(500))

    async def kills_a_worker(self) -> None:
        """Whichever, busy or not."""
        workers = self._server.workers
        if workers and not self._stop.is_set():
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(self._random.choice(workers)).send_signal(signal.SIGKILL)

    async def changes_a_plugin(self) -> None:
        """A new revision of the whole file."""
        text = PLUGINS.replace("STEP = 0", f"STEP = {self.visits['changes_a_plugin'] + 1}")
        (self._server.log.parent / "plugins" / "chaos_plugins.py").write_text(text)
