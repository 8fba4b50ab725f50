"""`Result`: what became of one frame, as a client sees it.

Every frame that was sent ends as one `Result`: with the plugin's `result`, or with an `error`. Built here from
the wire's dicts, so that nothing above knows the wire's names. Frozen, and knows no socket.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from forgesyte_nb.errors import WIRE_ERRORS, ForgeSyteError, PluginError, WireError
from forgesyte_nb.failures import failure_book
from forgesyte_nb.image.frame import Frame
from forgesyte_nb.image.pictures import RawImage

_SHOWN = 60  # characters of a value in a repr


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one frame.

    `result["text"]` is short for `result.result["text"]`.

    Attributes:
        frame_id: Its name, as its sender gave it. On the wire, one that was sent again may have a mark behind it.
        plugin: Name of the plugin.
        result: What the plugin returned; empty if it failed.
        error: Why it failed: the class that belongs to the wire's `error_code`, or `ConnectionLost`; else None. Its
            `detail` is the plugin's traceback, if the server is in this process.
        name: Where the picture came from: a file's name, or a source's and a number; empty if unknown.
        seq: Number of the picture in its source, from 0, as `frame.seq` is in the plugin; of pictures sent one by one,
            number in their `stream_id`.
        time_s: Position of the picture in the clip it is from, in seconds; None if it is from no clip.
        job_id: The server's name for the work; empty if it was refused before it became a job.
        processing_time_ms: Wall time in the plugin, decoding included; None if it failed.
        latency_ms: From sending to the answer, as this client measured it; None if it was never sent.
        timings: The server's account of the time: `queue_ms`, `decode_ms`, `plugin_ms`, `total_ms`.
        plugin_revision: Which version of the plugin's code answered; None if unknown.
        frame: The picture that was sent.
    """

    frame_id: str
    plugin: str
    result: dict[str, Any] = field(default_factory=dict)
    error: ForgeSyteError | None = None
    name: str = ""
    seq: int = 0
    time_s: float | None = None
    job_id: str = ""
    processing_time_ms: float | None = None
    latency_ms: float | None = None
    timings: dict[str, float] = field(default_factory=dict)
    plugin_revision: int | None = None
    frame: Frame | RawImage | None = None

    @property
    def ok(self) -> bool:
        """Whether the plugin returned a result."""
        return self.error is None

    @property
    def error_code(self) -> str | None:
        """The wire's `error_code`, `CONNECTION_LOST` where there was no answer, or None."""
        return None if self.error is None else getattr(self.error, "code", "CONNECTION_LOST")

    def __getitem__(self, key: str) -> Any:
        """A field of `result`.

        Raises:
            ForgeSyteError: The frame's error, if it failed.
            KeyError: If the plugin returned no such field.
        """
        if self.error is not None:
            raise self.error
        try:
            return self.result[key]
        except KeyError:
            raise KeyError(f"{self.plugin} returned no {key!r}; it returned {', '.join(self.result)}") from None

    def __repr__(self) -> str:
        about = f"{self.plugin} {self.name or self.frame_id}"
        if self.error is not None:
            return f"<Result {about} {self.error_code}: {_short(str(self.error))}>"
        fields = ", ".join(f"{key}={_short(repr(value))}" for key, value in list(self.result.items())[:4])
        took = "" if self.processing_time_ms is None else f" {self.processing_time_ms:.1f} ms"
        return f"<Result {about}{took}: {fields}{', …' if len(self.result) > 4 else ''}>"


def error_of(message: dict[str, Any]) -> WireError | None:
    """The error a terminal message tells of; None if it tells of success.

    Of a server in this process it has the plugin's own traceback too, as `detail` and as a note under Python's.
    """
    if message["type"] == "error":
        code, text = str(message.get("error_code")), str(message.get("message", ""))
        known = WIRE_ERRORS.get(code)
        if known is None:
            return WireError(f"{code}: {text}")
        failed = failure_book().of_job(str(message.get("job_id")))
        error = known(text, detail="" if failed is None else failed.detail)
        if error.detail:
            error.add_note(f"In the plugin:\n{error.detail.rstrip()}")
        return error
    if message.get("status") == "error":
        return PluginError(f"{message.get('plugin')} answered with status 'error': {message.get('result')}")
    return None


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
