"""Sessions over real sockets: clients of both kinds whose connections break at any point, and come back.

A smaller companion of `test_sessions_model.py`. Of each run it is asserted that the accepted frames are the terminal
messages, one each; that nobody hears of another's frame, whatever their names; and that under `forgesyte.v2` all that
was missed is recovered, under numbers without a gap.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import PATIENCE_S, run_cell
from tests.figures import Figures

PLUGINS = """
@fs.plugin(engine="inline")
def at_once(frame):
    return {}

@fs.plugin(engine="threads")
def later(frame):
    return {}
"""
_runs = itertools.count()


class Someone:
    """A client over a socket, and what it has heard.

    Attributes:
        terminals: The different terminal messages, by job.
    """

    def __init__(self, server: fs.Server, client_id: str, owner: str, *, numbered: bool) -> None:
        self.terminals: dict[str, set[str]] = {}
        self._url = f"ws://127.0.0.1:{server.port}/ws/{client_id}"
        self._owner = owner
        self._subprotocols = [Subprotocol("forgesyte.v2")] if numbered else None
        self._known: dict[str, Any] = {}
        self._count = 0
        self._here = contextlib.ExitStack()
        self.come()

    def come(self) -> None:
        """Connect, and resume."""
        connecting = connect(self._url, subprotocols=self._subprotocols, compression=None, proxy=None)
        self._socket: ClientConnection = self._here.enter_context(connecting)
        self._times = Counter[str]()
        self._next_seq = 1
        if self._subprotocols is None:
            return
        hello = self._next()
        if self._known:
            self._socket.send(json.dumps({"type": "resume", **self._known}))
            self._next_seq = self._known["seq"] + 1
            resumed = self._next()
            assert (resumed["type"], resumed["recovered"]) == ("resumed", True), resumed
        else:
            self._known = {"epoch": hello["epoch"], "secret": hello["secret"]}
        self._known["seq"] = self._next_seq - 1

    def break_off(self) -> None:
        """The connection ends without a word; what its WebSocket library has received already, it hears."""
        self._socket.socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(ConnectionClosed):
            self.hear(1_000_000, PATIENCE_S)
        self._here.close()

    def leave(self) -> None:
        """Say goodbye."""
        self._here.close()

    def send(self, image: bytes, plugin: str) -> None:
        """Send a frame."""
        self._count += 1
        frame = {"type": "send_frame", "frame_id": f"{self._owner} {self._count}", "plugin": plugin}
        self._socket.send(json.dumps({**frame, "image_data": base64.b64encode(image).decode()}))

    def hear(self, count: int, patience_s: float = 0.0) -> None:
        """Hear so many messages, if there are."""
        for _ in range(count):
            try:
                message = self._next(patience_s)
            except TimeoutError:
                return
            if self._subprotocols is not None:
                self._known["seq"] = message["seq"]
            assert str(message.get("frame_id", self._owner)).startswith(self._owner), "what is another's"
            if message["type"] in ("frame_result", "error"):
                job_id = message["job_id"]
                self._times[job_id] += 1
                assert self._times[job_id] == 1, "twice on one connection"
                self.terminals.setdefault(job_id, set()).add(json.dumps({**message, "seq": 0}, sort_keys=True))

    def _next(self, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(patience_s))
        if self._subprotocols is not None:
            assert message["seq"] == self._next_seq, message
            self._next_seq += 1
        return message


BLINKING = (0, 2, 3)
"""Of two that know the seed alone and have one name, one stays: if both break within a moment, they may be mistaken."""

steps = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 3), st.sampled_from([1, 2, 20])),
    st.tuples(st.just("send"), st.integers(0, 3), st.sampled_from([1, 2, 20])),
    st.tuples(st.just("hear"), st.integers(0, 3), st.sampled_from([1, 5, 1000])),
    st.tuples(st.just("blink"), st.sampled_from(BLINKING), st.integers(1, 2)),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fs.Server]:
    registry = Registry()
    run_cell(PLUGINS, registry)
    log = tmp_path_factory.mktemp("log") / "server.log"
    chosen = fs.Settings(engine="inline", workers=2, drain_timeout_s=1.0)
    with fs.Server(port=0, settings=chosen, plugin_registry=registry, log=log) as server:
        yield server


def run(server: fs.Server, script: list[tuple[str, int, int]], image: bytes) -> int:
    """Play a script with two clients of each kind, whose pairs have one name; number of frames accepted."""
    accepted_before = server.stats()["accepted"]
    name = f"run-{next(_runs)}"
    people = [Someone(server, f"{name}-{i // 2}", f"{name} {i}.", numbered=i > 1) for i in range(4)]
    try:
        for what, who, count in script:
            one = people[who]
            if what == "send":
                for number in range(count):
                    one.send(image, "later" if number % 2 else "at_once")
            elif what == "hear":
                one.hear(count)
            else:
                for _ in range(count):
                    one.break_off()
                    one.come()
        accepted = await_terminals(server, people, accepted_before)
    finally:
        for one in people:
            with contextlib.suppress(ConnectionClosed):
                one.leave()
    heard = [job for one in people for job in one.terminals]
    assert len(heard) == len(set(heard)) == accepted, "accepted frames are terminal messages"
    assert all(len(said) == 1 for one in people for said in one.terminals.values()), "one each"
    return accepted


def await_terminals(server: fs.Server, people: list[Someone], accepted_before: int) -> int:
    """Everybody hears until there are as many terminal messages as frames were accepted."""
    end = time.monotonic() + PATIENCE_S
    while True:
        for one in people:
            one.hear(1000, patience_s=0.01)
        stats = server.stats()
        accepted = int(stats["accepted"]) - accepted_before
        if stats["active"] == 0 and sum(len(one.terminals) for one in people) >= accepted:
            return accepted
        assert time.monotonic() < end, f"{accepted} accepted, {[len(one.terminals) for one in people]} heard"


@pytest.mark.timeout(7200)
def test_connections_that_break_lose_nothing(server: fs.Server, tiny: bytes, figures: Figures) -> None:
    counts = Counter[str]()

    @settings(
        max_examples=300 if figures.soak else 15,
        deadline=None,
        database=None,
        derandomize=not figures.soak,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(steps, min_size=3, max_size=15))
    def play(script: list[tuple[str, int, int]]) -> None:
        counts["accepted"] += run(server, script, tiny)
        counts["runs"] += 1

    play()
    assert counts["accepted"]
    figures.add("sessions over sockets", "runs", counts["runs"])
    figures.add("sessions over sockets", "frames accepted", counts["accepted"])
    figures.add("sessions over sockets", "frames without exactly one terminal message", 0, 0)
