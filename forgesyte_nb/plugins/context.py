"""`Context`: what a plugin may ask of its surroundings while it works on a frame.

A plugin that declares a parameter `ctx` gets one. It reports progress and log lines to whoever runs the lane,
and tells whether the job was cancelled; it knows nothing of how they travel.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

Report = Callable[[float], None]
Log = Callable[[str], None]

_MIN_INTERVAL_S = 0.05


class Context:
    """Progress, log and cancellation for one call of a plugin.

    Attributes:
        plugin: Name of the plugin.
        revision: Its revision.
        frame_id: The frame's name; empty in `setup`.
    """

    __slots__ = ("_cancelled", "_last", "_log", "_report", "frame_id", "plugin", "revision")

    def __init__(
        self,
        plugin: str = "",
        revision: int = 0,
        frame_id: str = "",
        *,
        report: Report | None = None,
        log: Log | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        """Make a context; without arguments one that swallows everything, for direct calls and tests."""
        self.plugin = plugin
        self.revision = revision
        self.frame_id = frame_id
        self._report = report
        self._log = log
        self._cancelled = cancelled
        self._last = (-1.0, -1.0)

    def progress(self, done: float, total: float = 100.0) -> None:
        """Report that `done` of `total` is done; sent as `job_update`, at most twenty times a second.

        Raises:
            ValueError: If `total` is not positive.
        """
        percent = 100.0 * float(done) / float(total) if total > 0 else math.nan
        if math.isnan(percent):
            raise ValueError(f"progress({done}, {total}): total must be positive, and both must be numbers")
        percent = round(min(max(percent, 0.0), 100.0), 1)
        now = time.monotonic()
        last_time, last_percent = self._last
        if self._report is not None and percent != last_percent and now - last_time >= _MIN_INTERVAL_S:
            self._last = (now, percent)
            self._report(percent)

    def log(self, message: object) -> None:
        """Write one line to the server's log, under the plugin's name."""
        if self._log is not None:
            self._log(str(message))

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for this frame any more; long plugins may return early then."""
        return self._cancelled is not None and self._cancelled()
