"""Counts and times since the server started, per plugin: plain numbers, cheap to keep and ready to be shown.

The dispatcher adds to it on the loop's thread; `/metrics` and the server's own display read it. Buckets are upper
bounds in milliseconds, the last of them infinite.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from forgesyte_nb.errors import WireError
from forgesyte_nb.protocol.messages import Timings

BUCKETS_MS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0, float("inf"))
STAGES = ("queue", "decode", "plugin", "total")


@dataclass(slots=True)
class Stage:
    """Times of one stage of one plugin: how many fell into which bucket, and their sum in milliseconds."""

    counts: list[int] = field(default_factory=lambda: [0] * len(BUCKETS_MS))
    sum_ms: float = 0.0

    def add(self, ms: float) -> None:
        """Count one."""
        self.counts[bisect_left(BUCKETS_MS, ms)] += 1
        self.sum_ms += ms


@dataclass(slots=True)
class PluginTally:
    """What happened to the frames of one plugin.

    Attributes:
        results: Frames with a result.
        errors: Failed frames by error code.
        stages: Times by stage, one of `STAGES`.
    """

    results: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    stages: dict[str, Stage] = field(default_factory=lambda: {name: Stage() for name in STAGES})

    def count(self, timings: Timings, error: WireError | None) -> None:
        """Count a job that has ended, with its times if it has a result."""
        if error is not None:
            self.errors[error.code] = self.errors.get(error.code, 0) + 1
            return
        self.results += 1
        self.stages["queue"].add(timings.queue_ms)
        self.stages["decode"].add(timings.decode_ms)
        self.stages["plugin"].add(timings.plugin_ms)
        self.stages["total"].add(timings.total_ms)


@dataclass(slots=True)
class Tally:
    """What happened since the server started.

    Attributes:
        plugins: By plugin name.
        refused: Messages refused before they became a job, by error code.
        accepted: Frames that became a job.
        connections: Connections so far.
        dropped: Broadcasts that clients whose sessions have ended were too slow for.
    """

    plugins: dict[str, PluginTally] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    accepted: int = 0
    connections: int = 0
    dropped: int = 0

    def of(self, plugin: str) -> PluginTally:
        """The tally of one plugin."""
        found = self.plugins.get(plugin)
        if found is None:
            found = self.plugins[plugin] = PluginTally()
        return found

    @property
    def results(self) -> int:
        """Results of all plugins."""
        return sum(plugin.results for plugin in self.plugins.values())

    @property
    def errors(self) -> int:
        """Failed jobs of all plugins."""
        return sum(sum(plugin.errors.values()) for plugin in self.plugins.values())
