"""What an engine is, and what it says to the room above.

An engine owns *lanes*. A lane holds plugin instances and the states of streams, runs one frame at a time, and can
be killed and replaced. The engine is given `Job`s and tells a `Listener` what becomes of them; every submitted
job is answered by exactly one `ended`, whatever dies. All calls and all answers happen on the event loop's thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from forgesyte_nb.errors import PluginError, QueueFull, WireError
from forgesyte_nb.jobs import Job
from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.plugins.registry import Entry


@dataclass(slots=True)
class Outcome:
    """What became of a frame.

    Attributes:
        result: The plugin's result as JSON; None if it failed.
        error: Why it failed; None if it did not.
        decode_ms: Time spent decoding the image.
        plugin_ms: Time spent in the plugin, without decoding.
        output: What the plugin wrote to stdout and stderr.
    """

    result: bytes | None = None
    error: WireError | None = None
    decode_ms: float = 0.0
    plugin_ms: float = 0.0
    output: str = ""


def unreadable(error: OSError) -> PluginError:
    """For a job whose picture cannot be read back from the backlog's temporary file."""
    return PluginError(f"the server could not read the picture back from its temporary file ({error}); send it again")


def closed_outcome() -> Outcome:
    """What a frame is answered that the end of the server came before: to be sent again, to whoever comes next."""
    return Outcome(error=QueueFull("the server was closed before this frame was done; send it again when one is back"))


class Listener(Protocol):
    """Who is told; all methods return at once and do not raise."""

    def started(self, job: Job) -> None:
        """A worker has started on it."""

    def progressed(self, job: Job, percent: float) -> None:
        """The plugin reports progress, 0–100."""

    def ended(self, job: Job, outcome: Outcome) -> None:
        """It is done; the last word on this job."""

    def logged(self, plugin: str, text: str) -> None:
        """A plugin, or the lane it ran in, has something for the log."""

    def unloadable(self, plugin: Plugin, error: WireError) -> None:
        """A lane could not load a plugin in force; its frames will be answered with that."""


class Engine(Protocol):
    """Where plugins run."""

    name: str

    def start(self) -> None:
        """Begin to make lanes ready; the slow part of that happens later."""

    def submit(self, job: Job) -> None:
        """Take a job; the listener hears the rest."""

    def cancel(self, job: Job) -> bool:
        """End a job that has not started; a started one is told so and goes on. Whether it was ended."""

    def forget_streams(self, prefix: str) -> None:
        """Let go of the states of all streams whose key starts so."""

    async def trial(self, entry: Entry) -> None:
        """Load a plugin in a lane, which keeps it, and raise what that raises; the other lanes load it afterwards."""

    def supersede(self, plugin: Plugin) -> None:
        """Unload older revisions of a plugin, each with its last frame."""

    async def unload(self, name: str) -> None:
        """Unload all revisions of a plugin from all lanes, after the frames they have; its next frame loads it."""

    async def close(self) -> None:
        """Answer what is left with an error, and leave no thread and no process behind."""

    def disown(self) -> list[int]:
        """In a process forked from this one: let go of shared memory; descriptors that must not be held open."""

    def stats(self) -> dict[str, Any]:
        """Lanes, how many are busy, how many were replaced, how many jobs wait."""
