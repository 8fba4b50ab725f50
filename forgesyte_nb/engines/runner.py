"""What happens in a lane, whichever kind it is: load a plugin, run a frame, make JSON or an error of it.

`LaneRunner` is plain synchronous code, the same for the loop, a thread and a worker process. It keeps one
instance of each plugin revision and the states of streams, least recently used first out. Nothing a plugin does
gets past `run` but the signals that end a process.
"""

from __future__ import annotations

import contextlib
import gc
import io
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from forgesyte_nb.engines.contract import Outcome
from forgesyte_nb.engines.interrupt import Stopped
from forgesyte_nb.engines.raised import as_result_error, as_wire_error, let_go, sayable
from forgesyte_nb.errors import InvalidImage, PluginError, WireError
from forgesyte_nb.image.data import ImageData, frame_of
from forgesyte_nb.image.frame import Frame
from forgesyte_nb.jobs import Job
from forgesyte_nb.plugins.context import Context
from forgesyte_nb.plugins.contract import Plugin
from forgesyte_nb.plugins.results import encode_result

_OUTPUT_CHARS = 64 * 1024  # of stdout and stderr kept for one frame


class PluginKey(NamedTuple):
    """A revision of a plugin."""

    name: str
    revision: int


class Task(NamedTuple):
    """One frame, as a lane sees it.

    Attributes:
        key: The plugin and its revision.
        stream_key: Which state it uses; empty for a stateless plugin.
        seq: Number of the frame in its source, or in its stream.
        captured_at: Time of capture, seconds since the epoch; None if unknown.
        time_s: Position in the clip, in seconds; None if unknown.
        options: Raw JSON, checked at the door.
        image: An image file or raw pixels.
    """

    key: PluginKey
    frame_id: str
    stream_key: str
    seq: int
    captured_at: float | None
    time_s: float | None
    options: bytes
    image: ImageData


def task_of(job: Job) -> Task:
    """A job as a lane sees it."""
    plugin = job.entry.plugin
    key = PluginKey(plugin.name, plugin.revision)
    return Task(key, job.frame_id, job.stream_key, job.seq, job.captured_at, job.time_s, job.options, job.image)


class _Loaded:
    """A plugin in this lane: its callable, and the object behind it in the class form."""

    __slots__ = ("call", "instance", "new_stream", "plugin")

    def __init__(self, plugin: Plugin, log: Callable[[str], None]) -> None:
        self.plugin = plugin
        self.instance: Any = None
        self.new_stream: Callable[[], Any] = dict
        self.call = plugin.target
        if plugin.is_class:
            self.instance = plugin.target()
            if hasattr(self.instance, "setup"):
                self.instance.setup(Context(plugin.name, plugin.revision, log=log), **plugin.setup_options)
            self.call = self.instance.process
            self.new_stream = getattr(self.instance, "new_stream", dict)

    def teardown(self) -> None:
        if hasattr(self.instance, "teardown"):
            self.instance.teardown()


class LaneRunner:
    """Plugin instances and stream states of one lane."""

    def __init__(self, *, max_result_bytes: int, stream_states: int, capture: bool = False) -> None:
        """Make an empty lane.

        Args:
            max_result_bytes: Largest result as JSON.
            stream_states: States kept for each plugin; the least recently used goes.
            capture: Keep what plugins print for the log (a worker process only: the streams are the process's).
        """
        self._max_result_bytes = max_result_bytes
        self._stream_states = stream_states
        self._capture = capture
        self._loaded: dict[PluginKey, _Loaded] = {}
        self._failed: dict[PluginKey, WireError] = {}
        self._states: dict[PluginKey, OrderedDict[str, Any]] = {}
        self._printed = _Printed()
        self.log: Callable[[str, str], None] = lambda _plugin, _text: None

    def limit(self, *, max_result_bytes: int, stream_states: int) -> None:
        """Set the limits anew."""
        self._max_result_bytes = max_result_bytes
        self._stream_states = stream_states

    @contextlib.contextmanager
    def printing_to_log(self, plugin: str) -> Iterator[None]:
        """Within it, what is printed goes to the log under a plugin's name."""
        try:
            with self._printed.instead():
                yield
        finally:
            if text := self._printed.take():
                self.log(plugin, f"printed: {text}")

    def _say(self, plugin: str, text: str) -> None:
        self.log(plugin, sayable(text[:_OUTPUT_CHARS]))

    def load(self, plugin: Plugin) -> None:
        """Make an instance of a plugin, if there is none.

        Raises:
            PluginError: With the plugin's own traceback as `detail`.
        """
        key = PluginKey(plugin.name, plugin.revision)
        if key in self._loaded:
            return
        try:
            self._loaded[key] = _Loaded(plugin, lambda text: self._say(plugin.name, text))
        except Stopped:
            raise
        except BaseException as error:
            raise as_wire_error(error, "could not be set up: ") from error
        self._failed.pop(key, None)

    def fail(self, key: PluginKey, error: WireError) -> None:
        """Remember that a plugin could not be loaded here: its frames are answered so."""
        self._failed[key] = error

    def knows(self, key: PluginKey) -> bool:
        """Whether the plugin is loaded, or known not to load."""
        return key in self._loaded or key in self._failed

    def unload(self, name: str, kept: Collection[int] = ()) -> None:
        """Tear down the instances of a plugin and free their memory, except for some revisions."""
        for key in [key for key in self._failed if key.name == name and key.revision not in kept]:
            del self._failed[key]
        keys = [key for key in self._loaded if key.name == name and key.revision not in kept]
        for key in keys:
            self._unload(key)
        if keys:
            gc.collect()  # a model in a reference cycle would stay until the collector's oldest generation is due

    def _unload(self, key: PluginKey) -> None:
        self._states.pop(key, None)
        try:
            self._loaded.pop(key).teardown()
        except BaseException as error:  # noqa: BLE001 -- teardown() is the user's code
            self.log(key.name, f"teardown of revision {key.revision} raised: {as_wire_error(error)}")

    def forget_streams(self, prefix: str) -> None:
        """Let go of the states of all streams whose key starts so."""
        for states in self._states.values():
            for stream_key in [k for k in states if k.startswith(prefix)]:
                del states[stream_key]

    def close(self) -> None:
        """Tear down all instances."""
        for key in list(self._loaded):
            self._unload(key)

    def run(
        self,
        task: Task,
        *,
        report: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Outcome:
        """Run one frame. Never raises, except `Stopped`."""
        loaded = self._loaded.get(task.key)
        if loaded is None:
            failure = self._failed.get(task.key)
            return Outcome(error=failure or PluginError(f"{task.key.name} is not loaded in this lane"))
        if not self._capture:
            return self._call(loaded, task, report, cancelled)
        with self._printed.instead():
            outcome = self._call(loaded, task, report, cancelled)
        outcome.output = self._printed.take()
        return outcome

    def _call(
        self,
        loaded: _Loaded,
        task: Task,
        report: Callable[[float], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> Outcome:
        outcome = Outcome()
        frame: Frame | None = None
        began = time.perf_counter()
        try:
            frame = frame_of(
                task.image, frame_id=task.frame_id, seq=task.seq, captured_at=task.captured_at, time_s=task.time_s
            )
            keywords = self._keywords(loaded, task, report, cancelled)
            result = loaded.call(frame, **keywords)
            outcome.result = self._encoded(result, loaded.call)
        except InvalidImage as error:
            outcome.error = InvalidImage(str(error), detail=error.detail)
            let_go(error)
        except SystemExit as error:
            outcome.error = PluginError(f"called sys.exit({sayable(repr(error.code))}); raise an exception instead")
        except Stopped:
            raise
        except BaseException as error:  # noqa: BLE001 -- whatever the plugin raises is its answer
            outcome.error = as_wire_error(error)
            let_go(error)
        outcome.decode_ms = frame.decode_ms if frame is not None else 0.0
        outcome.plugin_ms = max(0.0, (time.perf_counter() - began) * 1000 - outcome.decode_ms)
        return outcome

    def _encoded(self, result: object, call: Callable[..., Any]) -> bytes:
        try:
            return encode_result(result, max_bytes=self._max_result_bytes)
        except PluginError as error:
            raise as_result_error(error, call) from None

    def _keywords(
        self,
        loaded: _Loaded,
        task: Task,
        report: Callable[[float], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> dict[str, Any]:
        schema = loaded.plugin.schema
        keywords = schema.keywords(task.options)
        if not schema.wants:
            return keywords
        keywords = dict(keywords)
        if "ctx" in schema.wants:
            keywords["ctx"] = Context(
                task.key.name,
                task.key.revision,
                task.frame_id,
                report=report,
                log=lambda text: self._say(task.key.name, text),
                cancelled=cancelled,
            )
        if "state" in schema.wants:
            keywords["state"] = self._state(loaded, task)
        return keywords

    def _state(self, loaded: _Loaded, task: Task) -> Any:
        states = self._states.setdefault(task.key, OrderedDict())
        if task.stream_key in states:
            states.move_to_end(task.stream_key)
        else:
            states[task.stream_key] = loaded.new_stream()
            if len(states) > self._stream_states:
                states.popitem(last=False)
        return states[task.stream_key]


class _Printed(io.TextIOBase):
    """What plugins print, up to a bound: a flood is cut, not kept.

    There is one for all frames of a lane: a logging handler made during one frame holds on to it and still writes
    to it in the next. Bytes and child processes go past it, to the file that the process really has.
    """

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[str] = []
        self._room = _OUTPUT_CHARS

    def write(self, text: str) -> int:
        if self._room > 0:
            self._parts.append(text if len(text) <= self._room else f"{text[: self._room]}\n… (the rest is cut)\n")
            self._room -= len(text)
        return len(text)

    def take(self) -> str:
        """What was printed since the last time."""
        if not self._parts:
            return ""
        text = sayable("".join(self._parts))
        self._parts.clear()
        self._room = _OUTPUT_CHARS
        return text

    @contextlib.contextmanager
    def instead(self) -> Iterator[None]:
        """Within it, stdout and stderr end here."""
        stdout, stderr = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = self
        try:
            yield
        finally:
            sys.stdout, sys.stderr = stdout, stderr

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return sys.__stdout__.fileno() if sys.__stdout__ is not None else super().fileno()

    @property
    def buffer(self) -> Any:
        return getattr(sys.__stdout__, "buffer", None)
