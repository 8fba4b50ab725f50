"""`Monitor`: the messages of some topics, as they come, kept within bounds.

The kernel's side of `fs.TopicMonitor`: counts, rate, a bounded history that becomes a table, and a feed on which
viewers see the newest messages and subscribe to others.
"""

from __future__ import annotations

import datetime
import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

from forgesyte_nb.checks import check_count
from forgesyte_nb.feeds import Feed, feed_book
from forgesyte_nb.server.server import Server
from forgesyte_nb.workbench.listening import Listening, Summary
from forgesyte_nb.workbench.ticking import ticker

if TYPE_CHECKING:
    import pandas as pd

HISTORY = 5000
SHOWN = 200
RATE_WINDOW_S = 5.0
_LONGEST_SHOWN = 160  # characters of a message in a row; the whole is a click away
_FIELDS = ("job_id", "plugin", "frame_id", "status", "error_code")


class Heard:
    """A message that was heard. It is parsed when somebody looks.

    Attributes:
        number: Counts messages from 1, also those before a `clear`: viewers know a message by it.
        at: Seconds since the epoch.
        client_id: Of who sent the frame that it is about; empty if that is not known.
        summary: Its short fields.
    """

    def __init__(self, number: int, at: float, client_id: str, summary: Summary, text: bytes) -> None:
        """Keep a message."""
        self.number, self.at, self.client_id, self.summary = number, at, client_id, summary
        self._text = text

    @property
    def message(self) -> dict[str, Any]:
        """The message, without its number in this session, which is of no use to anybody."""
        message: dict[str, Any] = orjson.loads(self._text)
        message.pop("seq", None)
        return message

    @cached_property
    def row(self) -> dict[str, Any]:
        """The message in one line: its main fields and the beginning of the rest."""
        rest = {name: value for name, value in self.message.items() if name not in (*_FIELDS, "type", "timestamp")}
        text = orjson.dumps(rest).decode()
        return {
            "number": self.number,
            "at": self.at,
            "type": self.summary.type,
            "client_id": self.client_id,
            **{name: getattr(self.summary, name) for name in _FIELDS},
            "rest": text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…",
        }


class Monitor:
    """Messages, counted and kept.

    Attributes:
        feed: What viewers see.
        total: Messages so far.
        forgotten: Of those, how many are kept no longer.
    """

    def __init__(
        self, topics: Iterable[str] = ("all",), *, server: Server | None = None, history: int = HISTORY
    ) -> None:
        """Begin to listen.

        Raises:
            InvalidMessage: If one is no topic.
            ValueError: If `history` is no number of messages.
        """
        check_count("history", history)
        self.total = 0
        self._numbers = itertools.count(1)
        self._counts: Counter[str] = Counter()
        self._messages: deque[Heard] = deque(maxlen=history)
        self._times: deque[float] = deque(maxlen=4096)
        self._lock = threading.Lock()
        self._told: tuple[Any, ...] = ()
        self._listening = Listening(self._heard, topics, server)
        self.feed: Feed = feed_book().open("monitor", f"topics {', '.join(topics)}", self._control)
        self.feed.tell(self.state())
        self.feed.on_watched = lambda: ticker.start(self._tick)

    def _heard(self, summary: Summary, text: bytes, client_id: str) -> None:
        with self._lock:
            self.total += 1
            self._counts[summary.type] += 1
            self._messages.append(Heard(next(self._numbers), time.time(), client_id, summary, text))
            self._times.append(time.monotonic())

    @property
    def forgotten(self) -> int:
        """Messages that were dropped because there were too many."""
        return self.total - len(self._messages)

    @property
    def topics(self) -> list[str]:
        """What is subscribed to."""
        return list(self._listening.topics)

    @property
    def counts(self) -> dict[str, int]:
        """Messages so far, by type."""
        with self._lock:
            return dict(self._counts)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages that are kept, oldest first."""
        with self._lock:
            kept = list(self._messages)
        return [heard.message for heard in kept]

    @property
    def rate_per_s(self) -> float:
        """Messages per second over the last seconds."""
        now = time.monotonic()
        with self._lock:
            recent = sum(now - at <= RATE_WINDOW_S for at in self._times)
        return round(recent / RATE_WINDOW_S, 1)

    def subscribe(self, topic: str) -> None:
        """Hear this topic too: "all", "plugin_<name>" or a job id.

        Raises:
            InvalidMessage: If it is no topic.
        """
        self._listening.subscribe(topic)

    def unsubscribe(self, topic: str) -> None:
        """Hear it no longer."""
        self._listening.unsubscribe(topic)

    def clear(self) -> None:
        """Forget all messages and counts."""
        with self._lock:
            self.total = 0
            self._counts.clear()
            self._messages.clear()
            self._times.clear()

    def to_frame(self) -> pd.DataFrame:
        """The messages that are kept as a table.

        Returns:
            One row each, oldest first: `received_at` (UTC), `type`, `client_id` (of the sender of the frame), `job_id`,
            `plugin`, `frame_id`, `status`, `error_code`, and the whole `message`.
        """
        import pandas as pd

        with self._lock:
            kept = list(self._messages)
        rows = [
            {
                "received_at": datetime.datetime.fromtimestamp(heard.at, datetime.UTC),
                "type": heard.summary.type,
                "client_id": heard.client_id,
                **{name: getattr(heard.summary, name) for name in _FIELDS},
                "message": heard.message,
            }
            for heard in kept
        ]
        return pd.DataFrame(rows, columns=pd.Index(["received_at", "type", "client_id", *_FIELDS, "message"]))

    def close(self) -> None:
        """Leave; what is kept stays. Twice is once."""
        self._listening.close()
        self.feed.close("the monitor was closed: run its cell again")

    # For viewers

    def _control(self, action: str, value: Any) -> Any:
        if action == "subscribe":
            self.subscribe(str(value))
        elif action == "unsubscribe":
            self.unsubscribe(str(value))
        elif action == "clear":
            self.clear()
        elif action == "message":
            with self._lock:
                found = next((heard for heard in self._messages if heard.number == value), None)
            if found is None:
                raise ValueError(f"message {value} is kept no longer; the last {self._messages.maxlen} are")
            return found.message
        else:
            raise ValueError(f"a monitor has no action {action!r}")
        ticker.start(self._tick)  # on one thread, so that states are published in their order
        return self.topics

    def _tick(self) -> bool:
        marks = (self.total, *self.topics, self.rate_per_s)
        if marks != self._told:
            self._told = marks
            self.feed.tell(self.state())
        return self.feed.watchers > 0

    def state(self) -> dict[str, Any]:
        """How things stand, as viewers are told."""
        with self._lock:
            newest = list(itertools.islice(reversed(self._messages), SHOWN))
        return {
            "topics": self.topics,
            "total": self.total,
            "forgotten": self.forgotten,
            "counts": self.counts,
            "rate_per_s": self.rate_per_s,
            "messages": [heard.row for heard in newest],
        }

    def __repr__(self) -> str:
        told = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items())) or "no message yet"
        return f"<Monitor of {', '.join(self.topics) or 'nothing'}: {told}>"
