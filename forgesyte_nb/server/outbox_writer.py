"""The writing side of one connection: from a session's outbox to its socket.

`OutboxWriter` empties the outbox once per turn of the loop, in one write, and not at all while the peer is too slow to
take it. Now and then it sends a ping that asks for a receipt: the pong proves what the peer's side has received,
whatever client it is, and the outbox forgets that much.
"""

from __future__ import annotations

import asyncio

from websockets.asyncio.server import ServerConnection
from websockets.frames import Opcode
from websockets.protocol import OPEN

from forgesyte_nb.outbox.outbox import Outbox
from forgesyte_nb.outbox.sent_log import KEPT_BYTES
from forgesyte_nb.server.ws_frames import frames_of, ping_of

RECEIPT_MESSAGES = 64
RECEIPT_DELAY_S = 0.5
"""After so many messages, or so long after one, the client's side is asked what has arrived."""

UPDATES_DELAY_S = 0.002
"""So long `pending` and `processing` wait for something to be written with."""

FLUSH_BYTES = 1024 * 1024
"""What is owed is written in portions of this size, so that little is on its way when a connection breaks."""

WRITE_LIMIT_BYTES = 256 * 1024
"""Bytes in the transport's own buffer from which on messages stay in the outbox."""

_RECEIPT = b"seen "  # longer than the random payload of a ping of the library, which is none of these


class OutboxWriter:
    """Writes what one outbox after the other holds."""

    def __init__(self, connection: ServerConnection) -> None:
        """Made before the connection is; there is nothing to write until `serve`."""
        self._connection = connection
        self._outbox: Outbox | None = None
        self._scheduled = False
        self._unasked = 0  # messages written since a receipt was asked for
        self._series = 0  # of receipts: how often the outbox was changed
        self._receipt_timer: asyncio.TimerHandle | None = None

    def serve(self, outbox: Outbox) -> None:
        """Write from another outbox now on; what the one before was given until now goes first."""
        self._flush()
        self._series += 1  # receipts asked for before count the messages of the other
        self._outbox = outbox

    def stop(self) -> None:
        """Write nothing any more."""
        self._outbox = None
        if self._receipt_timer is not None:
            self._receipt_timer.cancel()
            self._receipt_timer = None

    def wake(self) -> None:
        """There is something in the outbox: write it in the next turn of the loop."""
        if not self._scheduled:
            self._scheduled = True
            self._connection.loop.call_soon(self._flush)

    def wake_later(self) -> None:
        """For updates alone: a write and a wake-up of the client that a short job's result would follow at once."""
        if not self._scheduled:
            self._connection.loop.call_later(UPDATES_DELAY_S, self._wake_if_waiting)

    def _wake_if_waiting(self) -> None:
        if self._outbox is not None and self._outbox.waiting:
            self.wake()

    def _flush(self) -> None:
        """Write what the outbox holds in one write; of very much a portion, and the rest in the next turns."""
        self._scheduled = False
        outbox, connection = self._outbox, self._connection
        if outbox is None or connection.paused or connection.protocol.state is not OPEN:
            return
        messages = outbox.take(FLUSH_BYTES)
        data = frames_of(messages)
        self._unasked += len(messages)
        if self._unasked >= RECEIPT_MESSAGES or len(data) >= WRITE_LIMIT_BYTES:
            data += self._receipt()
        elif self._receipt_timer is None and messages:
            self._receipt_timer = connection.loop.call_later(RECEIPT_DELAY_S, self._ask_in_time)
        pictures = outbox.take_pictures()
        if pictures:
            data += frames_of(pictures, Opcode.BINARY)
        connection.transport.write(data)
        if outbox.waiting:
            self.wake()

    def write_all(self) -> None:
        """The server ends: write what the peer is owed, however slow it is."""
        if self._outbox is not None and self._connection.protocol.state is OPEN:
            self._connection.transport.write(frames_of(self._outbox.take(KEPT_BYTES)))

    # Receipts

    def ask(self) -> None:
        """Ask the peer what has arrived."""
        self._connection.transport.write(self._receipt())

    def confirm(self, pong: bytes) -> bool:
        """Take the payload of a pong; whether it is a receipt."""
        if not pong.startswith(_RECEIPT):
            return False
        series, _, number = pong[len(_RECEIPT) :].partition(b".")
        if self._outbox is not None and series == b"%d" % self._series and number.isdigit():
            self._outbox.confirm(int(number))
        return True

    def _receipt(self) -> bytes:
        """A ping whose pong tells what has arrived; every WebSocket client answers it, by the protocol."""
        self._unasked = 0
        number = self._outbox.seq if self._outbox is not None else 0
        return ping_of(_RECEIPT + b"%d.%d" % (self._series, number))

    def _ask_in_time(self) -> None:
        self._receipt_timer = None
        if self._unasked and self._connection.protocol.state is OPEN:
            self.ask()
