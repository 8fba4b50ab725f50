"""`Resumption`: coming back to the session that a broken connection left, without a hole and without doing it twice.

Under `forgesyte.v2` the server numbers what it says. On a new connection the client says which session it left and what
it has of it; the server says again what was missed, or that it cannot. Only then is it known which frames have to be
sent again. A server that knows no sessions of this kind is asked for nothing. Sans-I/O.
"""

from __future__ import annotations

from typing import Any

from forgesyte_nb.protocol.messages import Resume


class Resumption:
    """What a client has of its session.

    Attributes:
        recovered: Whether the connection of the moment goes on where the last one broke, with nothing missed.
        settled: Whether that is known, and all that was missed has come.
    """

    def __init__(self) -> None:
        """For a client that was never connected."""
        self.recovered = False
        self.settled = True
        self._epoch, self._secret, self._last_seq = "", "", 0
        self._offered = ("", "")  # epoch and secret of the session that the connection would begin
        self._missing_until = 0

    def connected(self, *, is_v2: bool) -> None:
        """There is a new connection."""
        self.recovered = False
        self._missing_until = 0
        self.settled = not is_v2
        if not is_v2:
            self._epoch = ""  # what was said there had no numbers

    def take(self, message: dict[str, Any]) -> Resume | None:
        """Look at a message of the connection; what to answer, if it was the greeting of one to resume on."""
        kind = message["type"]
        answer: Resume | None = None
        if kind == "hello":
            answer = self._greeted(message)
        elif kind == "resumed":
            self._resumed(message)
        if isinstance(seq := message.get("seq"), int) and (self.settled or self._missing_until):
            # Before `resumed`, numbers are those of the session that the connection would begin.
            self._last_seq = seq
            self.settled = self.settled or seq >= self._missing_until
        return answer

    def _greeted(self, hello: dict[str, Any]) -> Resume | None:
        self._offered = (str(hello.get("epoch", "")), str(hello.pop("secret", "")))
        if self._epoch and self._offered[0]:
            return Resume(self._epoch, self._last_seq, self._secret)
        self._epoch, self._secret = self._offered
        self.settled = True
        return None

    def _resumed(self, message: dict[str, Any]) -> None:
        self.recovered = message.get("recovered") is True
        if message.get("epoch") != self._epoch:
            self._epoch, self._secret = self._offered
        self._missing_until = int(message.get("seq", 0)) + int(message.get("missed", 0))
