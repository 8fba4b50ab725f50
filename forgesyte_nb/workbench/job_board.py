"""`JobBoard`: the jobs of the server, one row each, newest first; the kernel's side of `fs.JobTable`.

It begins with the jobs that the server still knows (`Settings.job_history`), and hears of all that come after.
"""

from __future__ import annotations

import itertools
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from forgesyte_nb.errors import ServerError
from forgesyte_nb.feeds import Feed, feed_book
from forgesyte_nb.server.current import running_server
from forgesyte_nb.server.server import Server
from forgesyte_nb.workbench.listening import Listening, Summary, read_summary
from forgesyte_nb.workbench.ticking import ticker

if TYPE_CHECKING:
    import pandas as pd

HISTORY = 2000
SHOWN = 100
_ENDED = ("completed", "failed")
COLUMNS = ("job_id", "plugin", "client_id", "frame_id", "status", "progress_percent", "processing_time_ms", "error")


class JobBoard:
    """Jobs that the server knew when it was made, and those since, at most `HISTORY` of them.

    Attributes:
        feed: What viewers see.
        counts: Jobs so far by status: pending, processing, completed, failed.
    """

    def __init__(self, *, server: Server | None = None) -> None:
        """Begin to listen, then ask for what was before: so no job is missing in between."""
        self._jobs: dict[str, dict[str, Any]] = {}
        self._ended = {"completed": 0, "failed": 0}
        self._changes = 0
        self._told = -1
        self._lock = threading.Lock()
        self._listening = Listening(self._heard, ["all"], server)
        self._recall(server or running_server())
        self.feed: Feed = feed_book().open("jobs", "jobs", self._control)
        self.feed.tell(self.state())
        self.feed.on_watched = lambda: ticker.start(self._tick)

    def _recall(self, server: Server | None) -> None:
        """Take in the jobs that a server knows, before those that were heard of already."""
        if server is None:
            return
        with suppress(ServerError):  # it is closing
            known = [_row(summary, terminal) for summary, terminal in server.recent_jobs(HISTORY)]
            with self._lock:
                heard, self._jobs = self._jobs, {}
                for row in known:
                    since = heard.pop(row["job_id"], {})
                    if row["status"] in _ENDED and since.get("status") not in _ENDED:
                        self._ended[row["status"]] += 1
                    else:
                        row |= {key: said for key, said in since.items() if said is not None}
                    self._jobs[row["job_id"]] = row
                self._jobs |= heard
                while len(self._jobs) > HISTORY:
                    self._jobs.pop(next(iter(self._jobs)))

    def _heard(self, message: Summary, _text: bytes, client_id: str) -> None:
        job_id = message.job_id
        if not job_id:
            return
        with self._lock:
            self._changes += 1
            job = self._jobs.get(job_id)
            if job is None:
                job = self._jobs[job_id] = dict.fromkeys(COLUMNS)
                job.update(job_id=job_id, client_id=client_id, status="pending", progress_percent=0.0)
                if len(self._jobs) > HISTORY:
                    self._jobs.pop(next(iter(self._jobs)))
            job.update(plugin=message.plugin, frame_id=message.frame_id)
            if message.type == "job_update":
                if job["status"] in _ENDED:
                    return  # that it has ended was known before its messages arrived
                if message.status in _ENDED:
                    self._ended[message.status] += 1
                job.update(status=message.status, progress_percent=message.progress_percent)
            elif message.type == "frame_result":
                job["processing_time_ms"] = message.processing_time_ms
            elif message.type == "error":
                job["error"] = f"{message.error_code}: {message.message}"

    @property
    def counts(self) -> dict[str, int]:
        """Jobs by status: those under way now, those that have ended so far."""
        with self._lock:
            active = [job["status"] for job in self._jobs.values() if job["status"] not in _ENDED]
            return {"pending": active.count("pending"), "processing": active.count("processing"), **self._ended}

    def to_frame(self) -> pd.DataFrame:
        """The jobs that are kept as a table, oldest first, with the columns of `COLUMNS`."""
        import pandas as pd

        with self._lock:
            return pd.DataFrame([dict(job) for job in self._jobs.values()], columns=pd.Index(COLUMNS))

    def close(self) -> None:
        """Leave; what is kept stays. Twice is once."""
        self._listening.close()
        self.feed.close("the table was closed: run its cell again")

    def _control(self, action: str, value: Any) -> Any:
        if action != "clear":
            raise ValueError(f"a job table has no action {action!r}")
        with self._lock:
            self._jobs = {job_id: job for job_id, job in self._jobs.items() if job["status"] not in _ENDED}
            self._changes += 1
        ticker.start(self._tick)  # on one thread, so that states are published in their order

    def _tick(self) -> bool:
        if self._told != self._changes:
            self._told = self._changes
            self.feed.tell(self.state())
        return self.feed.watchers > 0

    def state(self) -> dict[str, Any]:
        """How things stand, as viewers are told."""
        with self._lock:
            newest = [dict(job) for job in itertools.islice(reversed(self._jobs.values()), SHOWN)]
        return {"counts": self.counts, "jobs": newest}

    def __repr__(self) -> str:
        told = ", ".join(f"{count} {name}" for name, count in self.counts.items() if count) or "none yet"
        return f"<JobBoard: {told}>"


def _row(summary: dict[str, Any], terminal: bytes | None) -> dict[str, Any]:
    """The row of a job that was there before."""
    row = dict.fromkeys(COLUMNS) | {key: said for key, said in summary.items() if key in COLUMNS}
    if summary["status"] == "completed":
        row["processing_time_ms"] = round(summary["timings"].decode_ms + summary["timings"].plugin_ms, 3)
    elif summary["status"] == "failed" and terminal is not None:
        said = read_summary(terminal)
        row["error"] = f"{said.error_code}: {said.message}"
    return row
