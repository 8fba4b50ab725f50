"""What a server's own process may ask of it: counts, clients, jobs.

Each report is a function from `ServerView` to plain values, as look-ups over HTTP are to bodies; called on the loop's
thread, and nothing here changes the server.
"""

from __future__ import annotations

import itertools
from typing import Any, Protocol

from forgesyte_nb.dispatch import Dispatcher
from forgesyte_nb.job_messages import summary_of
from forgesyte_nb.plugins.registry import Registry


class ServerView(Protocol):
    """What reports and look-ups may see of a server."""

    dispatcher: Dispatcher
    registry: Registry

    def engine_stats(self) -> dict[str, dict[str, Any]]:
        """Numbers of the running engines."""


def stats(view: ServerView) -> dict[str, Any]:
    """Counts since the server started, and the engines' numbers."""
    dispatcher = view.dispatcher
    return {
        "connections": len(dispatcher.sessions.connected()),
        "accepted": dispatcher.tally.accepted,
        "results": dispatcher.tally.results,
        "errors": dispatcher.tally.errors,
        "refused": sum(dispatcher.tally.refused.values()),
        "active": len(dispatcher.jobs.active),
        "engines": view.engine_stats(),
    }


def clients(view: ServerView) -> list[dict[str, Any]]:
    """Who is connected, the busiest first."""
    connected = view.dispatcher.sessions.connected()
    listed = [{"client_id": session.client_id, "frames": session.frames} for session in connected]
    return sorted(listed, key=lambda client: -client["frames"])


def sender_of(view: ServerView, job_id: str) -> str:
    """Client id of who sent the frame of a job; empty if the job is not known."""
    jobs = view.dispatcher.jobs
    active, ended = jobs.active.get(job_id), jobs.ended(job_id)
    if active is not None:
        return str(active.owner.client_id)
    return "" if ended is None else str(ended.summary["client_id"])


def recent_jobs(view: ServerView, most: int) -> list[tuple[dict[str, Any], bytes | None]]:
    """The newest jobs, in the order of `Server.recent_jobs`: line and terminal message."""
    jobs = view.dispatcher.jobs
    ended = [(one.summary, one.terminal) for one in itertools.islice(jobs.recent(), most)]
    return [*reversed(ended), *((summary_of(job), None) for job in jobs.active.values())][-most:]
