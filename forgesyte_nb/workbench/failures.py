"""`Failure`: a frame that failed, back in the kernel with its options and the plugin's traceback, to be run again.

A stream and a panel keep the last of them. What is known of the plugin's side comes from this process's book of failed
frames (`forgesyte_nb/failures.py`); of a server elsewhere it is what the wire said, and nothing can be run.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from typing import Any, Self

from forgesyte_nb.client.options import encode_options
from forgesyte_nb.client.results import Result
from forgesyte_nb.errors import ForgeSyteError, PluginError
from forgesyte_nb.failures import FailedFrame, FailureCounts, failure_book
from forgesyte_nb.image.data import frame_of, size_bytes
from forgesyte_nb.image.frame import Frame
from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.workbench.rerun import call_plugin
from forgesyte_nb.workbench.tracebacks import Place, place_in, with_cells

MOST_KEPT = 64
MOST_BYTES = 64 * 1024 * 1024  # of pictures
MOST_TOLD = 5


class Failure:
    """A frame that failed.

        failure = stream.failures[-1]
        failure                        # the line of the cell, and the traceback
        failure.frame.pil              # the picture
        failure.rerun()                # the same call, here; then %debug

    Attributes:
        key: Unique.
        plugin: Name of the plugin.
        plugin_revision: Which code of it failed; None if that is not known.
        name: Where the picture came from, or what its sender calls it.
        error: What the client was told.
        options: The plugin's options; what is changed here holds for `rerun`.
        failed_at: Seconds since the epoch.
    """

    def __init__(self, found: FailedFrame, name: str = "") -> None:
        """Of a failed frame; `name` is where it came from, if that is known."""
        self.key, self.plugin, self.name = found.job_id, found.plugin, name or found.frame_id
        self.plugin_revision, self.failed_at = found.revision or None, found.failed_at
        self.error = found.error
        self.options: dict[str, Any] = json.loads(found.options)
        self._found = found

    @classmethod
    def of_result(cls, result: Result, error: ForgeSyteError, options: dict[str, Any]) -> Self:
        """Of a failed result of a client; `options` are those of its stream, for what the book does not know."""
        image = b"" if result.frame is None else result.frame.bytes
        found = failure_book().of_job(result.job_id) or FailedFrame(
            job_id=result.frame_id,
            plugin=result.plugin,
            revision=0,
            registry=lambda: None,
            frame_id=result.frame_id,
            seq=result.seq,
            options=encode_options(options),
            image=image,
            error=error,
            captured_at=None if result.frame is None else result.frame.captured_at,
            time_s=result.time_s,
        )
        return cls(found, result.name)

    @cached_property
    def frame(self) -> Frame | None:
        """The picture, named and numbered as the plugin saw it; None if it was none, or is not known any more."""
        try:
            return self._new_frame()
        except ForgeSyteError:
            return None  # bytes that are no picture, which is why it failed

    def _new_frame(self) -> Frame:
        """The picture as the plugin saw it, not decoded yet.

        Raises:
            InvalidImage: If it is none.
        """
        found = self._found
        return frame_of(
            found.image,
            frame_id=found.frame_id,
            seq=found.seq,
            captured_at=found.captured_at,
            time_s=found.time_s,
        )

    @property
    def kind(self) -> Hashable:
        """What it has in common with those that failed alike; see `FailedFrame.kind`."""
        return self._found.kind

    @property
    def size(self) -> int:
        """Bytes of its picture."""
        return size_bytes(self._found.image)

    @property
    def code(self) -> str:
        """The wire's `error_code`, or "CONNECTION_LOST"."""
        return getattr(self.error, "code", "CONNECTION_LOST")

    @property
    def message(self) -> str:
        """What the client was told, without the place."""
        place = self.place
        said = str(self.error)
        return said if place is None else said.removesuffix(f" (line {place.line} in {place.function})")

    @property
    def traceback(self) -> str:
        """The plugin's own, with cells named as IPython names them; empty if there is none."""
        return with_cells(self._found.detail)

    @cached_property
    def place(self) -> Place | None:
        """The line of the cell or file where it was raised; None if that is not known."""
        return place_in(self._found.detail, str(self.error))

    def rerun(self, *, anyway: bool = False) -> Any:
        """Call the plugin, as its code is now, on this frame with these options, in the kernel.

        It raises here what it raises there, so that `%debug` looks into it; mended, it returns what the plugin returns.
        A stateful plugin begins with a fresh state.

        Args:
            anyway: Do so even if it ended its worker process: it may end the kernel.

        Raises:
            ForgeSyteError: If there is no plugin to be called here, or no picture.
            Exception: Whatever the plugin raises.
        """
        __tracebackhide__ = True  # IPython then shows the cell and the plugin alone
        plugin = self._plugin_in_force()
        if self.frame is None:
            raise ForgeSyteError(f"{self.name}: there is no picture to run {self.plugin} on ({self.error})")
        if not anyway and isinstance(self.error, PluginError) and not self._found.detail:
            raise ForgeSyteError(
                f"{self.plugin} left no traceback ({self.error}): if it ended its worker process, it would end the "
                "kernel too; rerun(anyway=True) runs it nevertheless"
            )
        return call_plugin(plugin, self._new_frame(), json.dumps(self.options).encode())

    def _plugin_in_force(self) -> Plugin:
        registry = self._found.registry()
        if registry is None:
            raise ForgeSyteError(
                f"{self.plugin} cannot be run here: the frame never reached it, or it ran in the server of another "
                "process; failure.frame and failure.options are what it got"
            )
        return registry.entry(self.plugin).plugin

    def __repr__(self) -> str:
        revision = "" if self.plugin_revision is None else f" revision {self.plugin_revision}"
        return f"<Failure of {self.plugin}{revision} on {self.name}: {self.error}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What a cell shows."""
        printer.text(repr(self) if cycle or not self.traceback else f"{self!r}\n{self.traceback.rstrip()}")


class Failures:
    """The last failures, within bounds. Not thread-safe: whoever has them holds a lock."""

    def __init__(self) -> None:
        """Begin without any."""
        self._kept: deque[Failure] = deque()
        self._bytes = 0
        self._counts = FailureCounts()

    def add(self, failure: Failure) -> None:
        """Remember and count one; the oldest go first."""
        self._counts.add(failure.kind)
        self._kept.append(failure)
        self._bytes += failure.size
        while len(self._kept) > MOST_KEPT or (self._bytes > MOST_BYTES and len(self._kept) > 1):
            self._bytes -= self._kept.popleft().size

    def all(self) -> list[Failure]:
        """Those that are kept, oldest first."""
        return list(self._kept)

    def count(self, kind: Hashable) -> int:
        """Failures of a kind, also those that are kept no longer."""
        return self._counts.of(kind)


def told_of(failures: Sequence[Failure], count: Callable[[Hashable], int]) -> list[dict[str, Any]]:
    """What viewers are told: one line for those that failed alike, the newest first, without tracebacks.

    Args:
        failures: Those that are kept, oldest first.
        count: Returns how many failed alike, also those that are kept no longer.
    """
    groups: dict[Hashable, Failure] = {}
    for failure in reversed(failures):
        groups.setdefault(failure.kind, failure)
    return [_told(newest, count(kind)) for kind, newest in list(groups.items())[:MOST_TOLD]]


def _told(newest: Failure, count: int) -> dict[str, Any]:
    place = newest.place
    return {
        "key": newest.key,
        "code": newest.code,
        "message": newest.message,
        "place": None if place is None else str(place),
        "source": "" if place is None else place.source,
        "revision": newest.plugin_revision,
        "name": newest.name,
        "count": count,
        "at": newest.failed_at,
    }


def traceback_of(failures: Sequence[Failure], key: str) -> str:
    """The traceback of one of them.

    Raises:
        ValueError: If it is not among them.
    """
    found = next((failure for failure in failures if failure.key == key), None)
    if found is None:
        raise ValueError("this failure is kept no longer; the log has its traceback")
    return found.traceback or "There is no traceback: the plugin raised nothing itself."
