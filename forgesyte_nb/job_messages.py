"""What is said of a job: its updates, its terminal message, its line in `/v1/jobs`. Pure functions; no I/O."""

from __future__ import annotations

from typing import Any

import msgspec

from forgesyte_nb.engines.contract import Outcome
from forgesyte_nb.errors import WireError
from forgesyte_nb.jobs import Job
from forgesyte_nb.protocol import wire
from forgesyte_nb.protocol.messages import Error, FrameResult, JobStatus, JobUpdate, Timings


def timings_of(job: Job, outcome: Outcome, now: float) -> Timings:
    """Where the time of a job went that ended at `now`, monotonic seconds."""
    total_ms = (now - job.received_at) * 1000
    # The loop hears of a start later than the worker starts, by as much as the plugin has run then.
    waited_ms = ((job.started_at or now) - job.received_at) * 1000
    queue_ms = min(waited_ms, total_ms - outcome.decode_ms - outcome.plugin_ms)
    return Timings(
        queue_ms=round(max(0.0, queue_ms), 3),
        decode_ms=round(outcome.decode_ms, 3),
        plugin_ms=round(outcome.plugin_ms, 3),
        total_ms=round(total_ms, 3),
    )


def update_of(job: Job, status: JobStatus, percent: float) -> bytes:
    """A `job_update`."""
    return wire.encode(
        JobUpdate(
            job.job_id,
            status,
            job.frame_id,
            job.entry.plugin.name,
            int(percent) if percent in (0.0, 100.0) else percent,
            wire.timestamp(),
        )
    )


def result_of(job: Job, outcome: Outcome, timings: Timings) -> bytes:
    """A `frame_result`."""
    return wire.encode(
        FrameResult(
            frame_id=job.frame_id,
            job_id=job.job_id,
            plugin=job.entry.plugin.name,
            status="success",
            result=msgspec.Raw(outcome.result or b"{}"),
            processing_time_ms=round(outcome.decode_ms + outcome.plugin_ms, 3),
            timestamp=wire.timestamp(),
            timings=timings,
            plugin_revision=job.entry.plugin.revision,
        )
    )


def failure_of(job: Job, error: WireError) -> bytes:
    """An `error` that ends a job."""
    name = job.entry.plugin.name
    return wire.encode(Error(job.frame_id, name, error.code, str(error), wire.timestamp(), job_id=job.job_id))


def summary_of(
    job: Job, status: JobStatus | None = None, percent: float | None = None, timings: Timings | None = None
) -> dict[str, Any]:
    """A job as `/v1/jobs` lists it: as it stands, or as it ended."""
    return {
        "job_id": job.job_id,
        "plugin": job.entry.plugin.name,
        "frame_id": job.frame_id,
        "status": job.status if status is None else status,
        "progress_percent": job.progress_percent if percent is None else percent,
        "client_id": job.owner.client_id,
        "timings": timings,
    }
