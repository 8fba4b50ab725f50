"""Autobahn's cases that the server does not pass, and why that is right."""

from __future__ import annotations

EXCEPTIONS: dict[str, str] = {
    "7.1.5": (
        "a Close frame in the middle of a fragmented message is answered with 1002 (protocol error), by the library: "
        "the message will never be whole. The case would have 1000; the connection ends as cleanly either way"
    ),
    "9.7.*": (
        "the case takes any ping for the end of the run, and the server pings every 64 messages to learn what has "
        "arrived; without these receipts the cases pass, which is tested"
    ),
    "12.*": "permessage-deflate is off: pictures are compressed already, and inflating is a way to be attacked",
    "13.*": "permessage-deflate is off, as for 12.*",
}
"""Case, or all that begin with it, and the reason."""
