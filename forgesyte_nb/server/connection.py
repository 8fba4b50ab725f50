"""The socket shell: between one WebSocket connection and one session.

`FrameConnection` is a `websockets` server connection that hands each complete message straight to the dispatcher
as bytes, in the callback in which it arrived: nothing is ever awaited between socket and dispatcher, so reading
never stops and pings are always answered. What the session's outbox holds goes out through an `OutboxWriter`.
Handshake, limits and closing are the library's.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import InvalidMessage
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import CLOSED, CLOSING, OPEN, Event
from websockets.server import ServerProtocol

from forgesyte_nb.dispatch import Dispatcher
from forgesyte_nb.protocol.messages import SUBPROTOCOL_V2
from forgesyte_nb.server.outbox_writer import WRITE_LIMIT_BYTES, OutboxWriter
from forgesyte_nb.server.peer_tcp import is_unreachable
from forgesyte_nb.server.request_head import RequestHead
from forgesyte_nb.server.ws_frames import BINARY, PASSED_ON, TINY_BYTES, Fragments, FrameReader
from forgesyte_nb.sessions import Session

_READ_BYTES = 256 * 1024
_SHORT_READ_BYTES = 8 * 1024
_MOST_UNREAD_PONG_BYTES = 1024 * 1024
_FRAME_HEAD_BYTES = 2
_ENDING = (CLOSING, CLOSED)
_of_this_thread = threading.local()  # a loop has a thread of its own, and a process may have several
_EARLY_BYTES = 256 * 1024
_FAILURES = {1006, 1011, 1012, 1013, 1014, 4001}
"""Close codes of whoever did not mean to leave (RFC 6455 section 7.4.1): an error of its own, a restart; and that of
`forgesyte.js` for a server that has not answered."""

_REFUSAL = b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

PROBE_S = 1.5
"""A peer that has acknowledged nothing for so long, when another client of its name has come, is gone."""

PROBE_PAUSE_S = 0.1
"""Of clients that come within so long of each other, all of one name, one question to each serves all."""

CLOSE_TIMEOUT_S = 2.0
"""A peer that has been told the end has so long to let go of the connection."""


class FrameConnection(ServerConnection, asyncio.BufferedProtocol):
    """One client's connection.

    Attributes:
        session: The session it serves; None until the handshake is done.
        dispatcher: Where its messages go; set by the server at the gate.
        client_id: From the path `/ws/<client_id>`.
        head: Of its request.
        on_made: Called once when it has been accepted.
        on_lost: Called once when it has ended.
        heard_at: When its peer last gave a sign of life, monotonic seconds.
        reached_at: When its peer's operating system was last seen to acknowledge what it is sent, if it was asked.
    """

    def __init__(self, protocol: ServerProtocol, server: WebSocketServer, **settings: Any) -> None:
        """Make it, as `websockets` asks; the write limit is ours."""
        super().__init__(protocol, server, **{**settings, "write_limit": WRITE_LIMIT_BYTES})
        self.session: Session | None = None
        self.dispatcher: Dispatcher | None = None
        self.client_id = ""
        self._writer = OutboxWriter(self)
        self.wake, self.wake_later = self._writer.wake, self._writer.wake_later
        self.head = RequestHead()
        self._reader = FrameReader(protocol.max_message_size or 0)
        self._fragments = Fragments()
        self._frames = 0  # in what was read last
        self._read_bytes = _SHORT_READ_BYTES
        self._unread_pong_bytes = 0
        self.heard_at = self.reached_at = 0.0
        self.on_made: Callable[[], None] = _nobody
        self.on_lost: Callable[[], None] = _nobody
        self._cut_for = ""
        self._refused = False
        self._pong = asyncio.Event()
        self._end_timer: asyncio.TimerHandle | None = None
        self._probe_timer: asyncio.TimerHandle | None = None
        self._probed_at = float("-inf")

    def open(self, session: Session) -> None:
        """Begin to serve a session."""
        self.take_over(session)
        self._reader.open()
        self._read(memoryview(b""))  # of a client that is faster than the server, or did not wait for its answer
        self.transport.resume_reading()

    def take_over(self, session: Session) -> None:
        """Serve another session from now on."""
        self._writer.serve(session.outbox)
        self.session = session
        session.connect(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection has been accepted; nothing has been read yet."""
        super().connection_made(transport)
        self.on_made()

    def process_event(self, event: Event) -> None:
        """Take a WebSocket frame; overrides the library's queue of messages."""
        if type(event) is not Frame:
            super().process_event(event)
            return
        self._frames += 1
        if self.session is None:
            return  # the connection is ending: what comes now is not taken
        opcode = event.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            if event.fin:
                self._message(bytes(event.data), binary=opcode is Opcode.BINARY)
            else:
                self._fragments.begin(event)
        elif opcode is Opcode.CONT:
            whole = self._fragments.add(event)
            if self._fragments.too_many:
                self._fail(CloseCode.MESSAGE_TOO_BIG, self._fragments.too_many)
            elif whole is not None:
                self._message(whole, binary=self._fragments.binary)
        elif opcode is Opcode.PING:
            self._ponged(len(event.data))
        elif opcode is Opcode.PONG and self._writer.confirm(bytes(event.data)):
            self._pong.set()
        else:
            super().process_event(event)

    def _ponged(self, size: int) -> None:
        """The library has answered a ping, whether or not the peer reads: nothing else bounds what waits to be read."""
        self._unread_pong_bytes += size + _FRAME_HEAD_BYTES if self.paused else 0
        if self._unread_pong_bytes > _MOST_UNREAD_PONG_BYTES:
            self._fail(CloseCode.POLICY_VIOLATION, "pings whose pongs are not read")

    def _message(self, data: bytes, *, binary: bool) -> None:
        session, dispatcher = self.session, self.dispatcher
        if session is None or dispatcher is None:
            return
        # Also when the connection is closing already: what came before the end in the same read was sent in good faith.
        if not binary and not data.isascii():
            try:
                data.decode()
            except UnicodeDecodeError as error:
                self._fail(CloseCode.INVALID_DATA, f"{error.reason} at position {error.start}")
                return
        dispatcher.receive(session, data, binary=binary)

    def _fail(self, code: CloseCode, reason: str) -> None:
        self.protocol.fail(code, reason)
        self.close_deadline = self.loop.time() + CLOSE_TIMEOUT_S
        self.send_data()
        self.release()  # nothing that came after it may be taken (RFC 6455 section 7.1.7)

    async def keepalive(self) -> None:
        """Ping, and end a connection whose peer does not answer. The library's waits for one that reads nothing."""
        while self.ping_interval is not None:
            await asyncio.sleep(self.ping_interval)
            self._pong.clear()
            self._writer.ask()
            try:
                async with asyncio.timeout(self.ping_timeout):
                    await self._pong.wait()
            except TimeoutError:
                if self.paused:
                    self.cut(f"it has read nothing and answered no ping for {self.ping_timeout:g} s")
                else:
                    self._fail(CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
                    self._end_in_time()
                return

    def finish(self) -> None:
        """The server ends: write what the peer is owed, however slow it is; one that asked for nothing is cut off."""
        if self.request is None:  # a browser opens connections ahead, for requests that may never come
            if hasattr(self, "transport"):
                self.transport.abort()
        else:
            self._writer.write_all()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the loop puts what it reads: one buffer for all its connections, emptied before the next read."""
        try:
            view: memoryview = _of_this_thread.read_view
        except AttributeError:
            view = _of_this_thread.read_view = memoryview(bytearray(_READ_BYTES))
        return view[: self._read_bytes]

    def buffer_updated(self, nbytes: int) -> None:
        """The loop has read something."""
        self.heard_at = self.loop.time()
        self._frames = 0
        self._read(_of_this_thread.read_view[:nbytes])
        # Each frame costs 10 µs, however little is in it: of very many the others are not kept waiting for long.
        if self._frames * TINY_BYTES > nbytes:
            self._read_bytes = _SHORT_READ_BYTES
        elif nbytes >= self._read_bytes:
            self._read_bytes = _READ_BYTES

    def _read(self, data: memoryview) -> None:
        """Take messages of one frame straight to the dispatcher, and let the library have the rest."""
        reader, protocol = self._reader, self.protocol
        if protocol.state in _ENDING:
            reader.end()
        for kind, part in reader.feed(self.head.feed(data)):
            if kind == PASSED_ON:
                self.data_received(part)  # type: ignore[arg-type]  # it is copied, whatever buffer it is in
            else:
                self._frames += 1
                self._message(bytes(part), binary=kind == BINARY)
            if protocol.state in _ENDING:
                reader.end()
        if reader.early_bytes > _EARLY_BYTES:
            self.transport.pause_reading()
        if self.session is not None and protocol.state is not OPEN:
            self.release()
        self._end_in_time()

    def send_data(self) -> None:
        """Write what the library has for the peer; it has no answer to a request that it cannot parse."""
        fault = self.protocol.handshake_exc
        if not self._refused and isinstance(fault, InvalidMessage) and not isinstance(fault.__cause__, EOFError):
            self._refused = True
            status = b"431 Request Header Fields Too Large" if self.head.too_large else b"400 Bad Request"
            self.transport.write(_REFUSAL % status)
        super().send_data()

    def _end_in_time(self) -> None:
        """Told the end, a peer that does not let go is cut off; the library would do so only within a `recv`."""
        if self.close_deadline is not None and self._end_timer is None:
            self._end_timer = self.loop.call_at(self.close_deadline, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended, one way or another."""
        super().connection_lost(exc)
        self.release()
        self.on_lost()
        if self._end_timer is not None:
            self._end_timer.cancel()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        super().resume_writing()
        self._unread_pong_bytes = 0
        self._writer.wake()

    def release(self) -> None:
        """The connection is ending: its session is free for the client's next one, at once."""
        session, dispatcher = self.session, self.dispatcher
        if session is None or dispatcher is None:
            return
        self.session = None
        self._writer.stop()
        dispatcher.reception.leave(session, now=time.monotonic(), for_good=self.left(), reason=self._reason())

    def probe(self) -> None:
        """Another client of this name has come: is it the same one, and this peer gone?"""
        if self._probe_timer is None:
            at = max(self.loop.time(), self._probed_at + PROBE_PAUSE_S)
            self._probe_timer = self.loop.call_at(at, self._ask_who_is_there)

    def _ask_who_is_there(self) -> None:
        self._probe_timer = None
        if self.protocol.state is OPEN:
            self._probed_at = self.loop.time()
            self._writer.ask()
            self.loop.call_later(PROBE_S, self._judge, self._probed_at)

    def _judge(self, asked_at: float) -> None:
        """A peer that is only busy has an operating system that acknowledges what it is sent."""
        if self.session is None or self.heard_at >= asked_at:
            return
        if is_unreachable(self.transport.get_extra_info("socket")):
            self.cut("its peer acknowledges nothing any more")
        else:
            self.reached_at = self.loop.time()

    def cut(self, reason: str) -> None:
        """End it without a word; its session is free at once."""
        self._cut_for = reason
        self.release()
        self.transport.abort()

    def _reason(self) -> str:
        """Why it ended, as far as that is known."""
        said = self.protocol.close_sent
        return self._cut_for or (f"{said.code} {said.reason}".rstrip() if said is not None else "")

    def left(self) -> bool:
        """Whether the client said goodbye with a Close frame, rather than being lost, or closing for a failure."""
        received = self.protocol.close_rcvd
        return received is not None and received.code not in _FAILURES


def _nobody() -> None:
    """For a connection that was never let in."""


async def serve_session(connection: FrameConnection) -> None:
    """Serve one connection from its handshake to its end."""
    dispatcher = connection.dispatcher
    if dispatcher is None:
        return
    session = dispatcher.reception.enter(connection.client_id, numbered=connection.subprotocol == SUBPROTOCOL_V2)
    try:
        connection.open(session)
        await connection.wait_closed()
    finally:
        connection.release()
