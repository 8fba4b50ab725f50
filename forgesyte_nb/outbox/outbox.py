"""An outbox: what one client is to be sent, what it was sent and has not confirmed, and what it may lose.

What a client is owed for its own frames is kept until its side has confirmed it (`confirm`), or as long as its session
lives. Of broadcasts a slow subscriber loses the oldest; they are counted, and it is told. Of a feed only the newest
picture and state wait. While nobody empties it, an outbox is bounded: first broadcasts go, then updates, terminal
messages never. Every text message has a number; under `forgesyte.v2` it travels with it, and the client that comes back
says which it has (`resume`). Sans-I/O.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from forgesyte_nb.outbox.owed import OwedQueue
from forgesyte_nb.outbox.sent_log import SentLog
from forgesyte_nb.protocol.messages import Dropped
from forgesyte_nb.protocol.wire import encode, is_job_update, timestamp, with_seq
from forgesyte_nb.settings import Settings
from forgesyte_nb.spool import Spool

POUR_BYTES = 1024 * 1024
"""So much is moved at a time from one outbox to another."""

_SHED_AGAIN = 1.25  # an outbox over its limit is looked through again when it has grown by so much


class Outbox:
    """What one client is to be sent.

    Attributes:
        numbered: Whether text messages carry their number as `seq` (`forgesyte.v2`).
        seq: Number of the last text message that was taken, from 1.
        dropped: Broadcasts that its client was too slow for.
        unread_answers: Answers that no frame stands behind, since there was last nothing left to take.
    """

    __slots__ = (
        "_awake",
        "_broadcast_bytes",
        "_broadcasts",
        "_confirmed",
        "_greeting",
        "_owed",
        "_pictures",
        "_sent",
        "_settings",
        "_shed_again_at",
        "_states",
        "_untold",
        "_wake",
        "_wake_later",
        "_whole_from",
        "dropped",
        "numbered",
        "seq",
        "unread_answers",
    )

    def __init__(self, settings: Settings, spool: Spool, *, numbered: bool) -> None:
        """Make an empty one that nobody empties yet; what is owed and too much for memory goes to the spool."""
        self.numbered = numbered
        self.seq = 0
        self.dropped = 0
        self._settings = settings
        self._owed = OwedQueue(spool)
        self._greeting: bytes | None = None
        self._broadcasts: list[bytes] = []  # an empty deque takes 760 bytes, of each idle connection
        self._broadcast_bytes = 0
        self._untold = 0  # broadcasts dropped since the client was last told
        self._states: dict[str, bytes] = {}
        self._pictures: dict[str, bytes] = {}
        self._sent = SentLog()
        self._confirmed = 0  # up to this number nothing can be said again
        self._whole_from = 0  # who has this number, or a later one, knows of all that cannot be said again
        self._shed_again_at = 0
        self.unread_answers = 0
        self._wake: Callable[[], object] | None = None
        self._wake_later: Callable[[], object] | None = None
        self._awake = False

    # Who empties it

    def connect(self, wake: Callable[[], object], wake_later: Callable[[], object] | None = None) -> None:
        """Somebody empties it from now on.

        Args:
            wake: Called once when there is something that should be written now.
            wake_later: Called when there is only what may wait a moment; by default, `wake`.
        """
        self._wake = wake
        self._wake_later = wake_later or wake
        self._awake = False
        if self.waiting:
            self._rouse()

    def disconnect(self) -> None:
        """Nobody empties it any longer.

        What was taken last may not have arrived. A client that knows no numbers is owed it again, before the rest; one
        that does will say what it has.
        """
        self._wake = self._wake_later = None
        self._awake = False
        self._greeting = None
        self._states.clear()
        self._pictures.clear()
        if not self.numbered:
            self._restore()
            self._broadcasts.clear()
            self._broadcast_bytes = 0
        self._shed_again_at = 0
        self._shed()

    @property
    def waiting(self) -> int:
        """Messages that wait to be taken."""
        waiting = len(self._owed) + len(self._broadcasts) + len(self._states) + len(self._pictures)
        return waiting + (self._greeting is not None)

    @property
    def owed_bytes(self) -> int:
        """Size of what is owed and was not taken."""
        return self._owed.bytes

    @property
    def kept_bytes(self) -> int:
        """Size of all that is kept for a client that is away."""
        return self._owed.bytes + self._broadcast_bytes + self._sent.bytes

    # What is put in

    def owe(self, encoded: bytes) -> None:
        """Put in a message about the client's own doings."""
        self._owed.append(encoded)
        if not self._awake:
            self._rouse()

    def owe_later(self, encoded: bytes) -> None:
        """As `owe`, for news that may wait a moment for something to go out with."""
        first = not len(self._owed)
        self._owed.append(encoded)
        if self._wake_later is None:
            self._shed()
        elif first and not self._awake:
            self._wake_later()

    def greet(self, encoded: bytes) -> None:
        """Put in a message before all others, for this connection alone: it is not owed to the next."""
        self._greeting = encoded
        if not self._awake:
            self._rouse()

    def offer(self, encoded: bytes) -> None:
        """Put in a broadcast; of too many the oldest go. For the absent it is kept only if they know numbers."""
        if self._wake is None and not self.numbered:
            return
        self._broadcasts.append(encoded)
        self._broadcast_bytes += len(encoded)
        while self._broadcast_bytes > self._settings.outbox_bytes and len(self._broadcasts) > 1:
            self._drop_broadcast()
            self._untold += 1
            if self._wake is None:
                self._whole_from = self.seq + 1
        if not self._awake:
            self._rouse()

    def show_state(self, feed_id: str, encoded: bytes) -> None:
        """Put in the newest state of a feed, in place of one that still waits."""
        self._states[feed_id] = encoded
        if not self._awake:
            self._rouse()

    def show_picture(self, feed_id: str, encoded: bytes) -> None:
        """Put in the newest picture of a feed, a binary message, in place of one that still waits."""
        self._pictures[feed_id] = encoded
        if not self._awake:
            self._rouse()

    def hide(self, feed_id: str) -> None:
        """What waits of a feed is wanted no longer."""
        self._states.pop(feed_id, None)
        self._pictures.pop(feed_id, None)

    # What is taken out

    def take_pictures(self) -> list[bytes]:
        """Take the binary messages; they are never owed, and carry no number."""
        pictures = list(self._pictures.values())
        self._pictures.clear()
        return pictures

    def take(self, max_bytes: int = sys.maxsize) -> list[bytes]:
        """Take the text messages: what is owed first, each with its number if the client wants one.

        Args:
            max_bytes: Of what is owed; at least one message is taken, and the rest stays for the next time.
        """
        self._awake = False
        messages: list[bytes] = []
        if self._greeting is not None:
            messages.append(self._greeting)
            self._greeting = None
        owed = self._owed.take(max_bytes)
        if not self._owed:
            self.unread_answers = 0
        self._count_unreadable()
        self._sent.note(self.seq + len(messages), owed, is_owed=True)
        messages += owed
        if self._untold:
            told = encode(Dropped(self._untold, timestamp()))
            self._sent.note(self.seq + len(messages), [told], is_owed=True)
            messages.append(told)
            self._untold = 0
        if self._broadcasts:
            if self.numbered:
                self._sent.note(self.seq + len(messages), self._broadcasts, is_owed=False)
            messages.extend(self._broadcasts)
            self._broadcasts.clear()
            self._broadcast_bytes = 0
        if self._states:
            messages.extend(self._states.values())
            self._states.clear()
        first = self.seq + 1
        self.seq += len(messages)
        if self.numbered:
            messages = [with_seq(message, first + index) for index, message in enumerate(messages)]
        return messages

    def _count_unreadable(self) -> None:
        """What was lost since the spool's file could not be read is told as broadcasts that were dropped are."""
        if self._owed.unreadable:
            self._untold += self._owed.unreadable
            self.dropped += self._owed.unreadable
            self._owed.unreadable = 0
            self._whole_from = self.seq + 1

    # What has arrived

    def confirm(self, seq: int) -> None:
        """The client's side has received all text messages up to this number."""
        self._sent.confirm(seq)
        self._confirmed = max(self._confirmed, min(seq, self.seq))

    def resume(self, seq: int) -> bool:
        """The client is back and has received all up to this number: the rest is owed to it, in order.

        Returns:
            Whether nothing between that number and now is missing.
        """
        whole = max(self._whole_from, self._sent.forgotten, self._confirmed) <= seq <= self.seq
        if seq <= self.seq:
            self.confirm(seq)
        self._restore()
        for message in self._broadcasts:
            self._owed.append(message, is_answer=False)
        self._broadcasts.clear()
        self._broadcast_bytes = 0
        if whole:
            self.seq = seq
        else:
            self._whole_from = self.seq + 1  # the answer to this; should that be lost, the next answer is the same
        self._confirmed = self.seq
        return whole

    def _restore(self) -> None:
        """What was taken and not confirmed waits again, before the rest."""
        owed, broadcasts = self._sent.take()
        self._owed.put_back(owed)
        self._broadcasts[:0] = broadcasts
        self._broadcast_bytes += sum(map(len, broadcasts))

    def pour_into(self, other: Outbox) -> None:
        """All that is put in from now on, and what waits already, is owed by another outbox.

        What was taken from this one on the connection that the other goes on with counts as taken from the other.
        """
        while self._broadcasts:
            other.offer(self._broadcasts.pop(0))
        self._broadcast_bytes = 0

        def pour() -> None:
            self._awake = False
            while self._owed:
                for message in self._owed.take(POUR_BYTES):
                    other.owe(message)
            self._count_unreadable()

        taken, _ = self._sent.take()
        other._sent.note(other.seq, taken, is_owed=True)
        other.seq += len(taken)
        self.connect(pour)

    # While nobody empties it

    def _rouse(self) -> None:
        if self._wake is not None:
            self._awake = True
            self._wake()
        else:
            self._shed()

    def _shed(self) -> None:
        """Let go of what is least needed, if more is kept for one who is away than its share."""
        if self._has_share() or self._count < self._shed_again_at:
            return
        before = self._count
        self._sent.keep(lambda message, is_owed: is_owed)
        while self._broadcasts and not self._has_share():
            self._drop_broadcast()
        if not self._has_share():
            self._sent.keep(lambda message, is_owed: not is_job_update(message))
            self._owed.keep(lambda message: not is_job_update(message))
        if self._count < before:
            self._whole_from = self.seq + 1
        self._shed_again_at = 0 if self._has_share() else int(self._count * _SHED_AGAIN) + 1

    @property
    def _count(self) -> int:
        return len(self._owed) + len(self._broadcasts) + len(self._sent)

    def _has_share(self) -> bool:
        return self._count <= self._settings.session_messages and self.kept_bytes <= self._settings.session_bytes

    def _drop_broadcast(self) -> None:
        self._broadcast_bytes -= len(self._broadcasts.pop(0))
        self.dropped += 1

    def close(self) -> None:
        """Its session has ended: what is in it goes, and what is put in is not kept."""

        def forget() -> None:
            self._owed.clear()
            self._broadcasts.clear()
            self._broadcast_bytes = 0
            self._awake = False

        self.disconnect()
        self._sent.take()
        self.connect(forget)
        forget()
