"""Every number a user may turn, in one frozen object, with its unit in its name.

A server is made with one and never changes it; `Settings(...)` checks
its values when it is made, so that a wrong one fails where it is written. The README's table of settings is
tested against these fields.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from forgesyte_nb.keywords import known_keywords
from forgesyte_nb.token_file import check_secret

MIB = 1024 * 1024

EngineName = Literal["processes", "threads", "inline"]
ENGINE_NAMES: tuple[EngineName, ...] = ("processes", "threads", "inline")

_MAY_BE_ZERO = (
    "workers",
    "threads_per_worker",
    "job_history",
    "stream_grace_s",
    "session_grace_s",
    "spool_bytes",
    "drain_timeout_s",
)


def _available_cpus() -> int:
    """Processors that this process may use (a container or `taskset` may allow fewer than exist)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Limits and defaults of one server.

    Attributes:
        engine: Where plugins run unless they say otherwise: worker processes, threads, or the loop itself.
        workers: Lanes of the engine; 0 means one per available processor.
        threads_per_worker: Threads that OpenMP, MKL, OpenBLAS, OpenCV, PyTorch and ONNX Runtime use in a worker process
            unless a plugin sets them; 0 means available processors divided by lanes, at least 1, or what the kernel's
            `OMP_NUM_THREADS` and similar variables say.
        env: Environment variables of worker processes, such as `{"CUDA_VISIBLE_DEVICES": "0"}`, in addition to the
            kernel's.
        plugin_timeout_s: Time limit of one frame in a plugin that names none of its own.
        setup_timeout_s: Time limit for loading a plugin in a worker, `setup` included.
        max_message_bytes: Largest WebSocket message; a larger one closes the connection with 1009.
        max_image_pixels: Largest picture, width × height, read from the header before anything is decoded.
        max_options_bytes: Largest `options`, as JSON.
        max_options_depth: Deepest nesting of `options`.
        max_result_bytes: Largest result of a plugin, as JSON.
        max_topics: Most topics one client may subscribe to.
        queue_bytes: Image bytes that may wait in memory for a lane, over all clients.
        spool_bytes: Size of the temporary file for images over `queue_bytes` and answers that a client does not read;
            0 for none.
        queue_frames: Frames that may wait for a lane, over all clients.
        session_grace_s: Time a session outlives a broken connection, so that its client can come back to it.
        session_messages: Messages kept for one client that is away; with more, broadcasts and updates are let go,
            terminal messages never.
        session_bytes: Size of the messages kept for one client that is away; with more, as above.
        sessions_bytes: Size of all that is kept for clients that are away; with more, the session longest away ends.
        unread_bytes: Answers that wait for one client that is there but does not read; with more, its next frames are
            refused, and the answers to those accepted before wait in the temporary file.
        outbox_bytes: Broadcast bytes that may wait for one slow subscriber before the oldest are dropped.
        job_history: Ended jobs that stay known to `/v1/jobs` and to late subscribers.
        stream_states: Streams of one stateful plugin whose state one lane keeps; the least recently used goes.
        stream_grace_s: Time a stream's state is kept after its client has gone.
        ping_interval_s: Time between keepalive pings.
        ping_timeout_s: Silence after a ping that ends a connection (a client busy in a handler cannot pong).
        drain_timeout_s: Time that frames in flight get when the server closes.
        max_connections: WebSocket connections at once; more are answered 503. Also sessions of clients that are away;
            with more, the one longest away ends.
        max_peer_connections: As above, of one address.
        handshake_timeout_s: Time a new connection has to ask for something.
        allow_origins: Origins that a browser page may connect from, such as "https://lab.example.org", compared whole.
            An empty tuple allows any loopback page; one that names some allows these alone. The server's own page may
            always.
        allow_hosts: Host names by which the server may be addressed, besides loopback and the one it is bound to.
        check_peer_uid: Whether loopback is for this user's processes alone (on Linux, where the kernel can tell).
        token: Secret that clients must present, of letters, digits and ``!#$%&'*+-.^_`|~``; required when the server is
            bound to other than loopback.
    """

    engine: EngineName = "processes"
    workers: int = 0
    threads_per_worker: int = 0
    env: Mapping[str, str] | None = None
    plugin_timeout_s: float = 30.0
    setup_timeout_s: float = 120.0
    max_message_bytes: int = 16 * MIB
    max_image_pixels: int = 50_000_000
    max_options_bytes: int = 64 * 1024
    max_options_depth: int = 16
    max_result_bytes: int = 16 * MIB
    max_topics: int = 1000
    queue_bytes: int = 256 * MIB
    spool_bytes: int = 1024 * MIB
    queue_frames: int = 100_000
    session_grace_s: float = 120.0
    session_messages: int = 1000
    session_bytes: int = 8 * MIB
    sessions_bytes: int = 256 * MIB
    unread_bytes: int = 16 * MIB
    outbox_bytes: int = 8 * MIB
    job_history: int = 1000
    stream_states: int = 64
    stream_grace_s: float = 60.0
    ping_interval_s: float = 7.0
    ping_timeout_s: float = 60.0
    drain_timeout_s: float = 5.0
    max_connections: int = 10_000
    max_peer_connections: int = 5000
    handshake_timeout_s: float = 10.0
    allow_origins: tuple[str, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    check_peer_uid: bool = True
    token: str | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot work, naming the setting.

        Raises:
            ValueError: If a number is negative or zero where it must not be, the engine is unknown, or the token is
                empty or has characters that browsers cannot present.
            TypeError: If a value is not of its setting's type: no number, no tuple of names, no text.
        """
        if self.token is not None and not isinstance(self.token, str):
            raise TypeError(
                f"token={type(self.token).__name__}: Settings take the secret itself; serve(token=Path(…)) a file"
            )
        if self.token is not None and not self.token.strip():
            raise ValueError("token is empty: everyone would know it; leave it out, or choose a secret")
        if self.token is not None:
            check_secret(self.token)
        if self.engine not in ENGINE_NAMES:
            raise ValueError(f"engine={self.engine!r}: choose one of {', '.join(ENGINE_NAMES)}")
        if self.env is not None:
            object.__setattr__(self, "env", _checked_env(self.env))
        for field in fields(self):
            number = getattr(self, field.name)
            _check_type(field.name, number, field.default)
            if not isinstance(number, (int, float)) or isinstance(number, bool):
                continue
            if not number > 0 and (number != 0 or field.name not in _MAY_BE_ZERO):
                raise ValueError(f"{field.name}={number}: it must be {'≥' if field.name in _MAY_BE_ZERO else '>'} 0")

    def __repr__(self) -> str:
        """The settings that differ from the defaults; the token and values of `env` are never shown."""
        changed = [
            f"{field.name}={self._shown(field.name)}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"Settings({', '.join(changed)})"

    def _shown(self, name: str) -> str:
        value = getattr(self, name)
        if name == "env":
            return "{" + ", ".join(f"{variable!r}: <hidden>" for variable in value) + "}"
        return "<hidden>" if name == "token" else repr(value)

    @property
    def lanes(self) -> int:
        """Number of lanes: `workers`, or one per available processor."""
        return self.workers or _available_cpus()

    @property
    def threads(self) -> int:
        """Threads of each library in a worker: `threads_per_worker`, or available processors divided by lanes."""
        return self.threads_per_worker or max(1, _available_cpus() // self.lanes)


def _checked_env(env: object) -> Mapping[str, str]:
    """A copy of environment variables.

    Raises:
        TypeError: If it is no mapping of texts to texts.
        ValueError: If a name is empty or has "=", or either has a null character.
    """
    if not isinstance(env, Mapping) or not all(isinstance(text, str) for pair in env.items() for text in pair):
        raise TypeError('env: names and values are texts, such as {"CUDA_VISIBLE_DEVICES": "0"}')
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f'env: {name!r} cannot be set; a name is not empty and has no "=", neither has a "\\0"')
    return dict(env)


def _check_type(name: str, value: object, default: object) -> None:
    """Refuse a value of another type than the default: it would fail later, where nobody knows where it came from."""
    if isinstance(default, bool):
        is_right, wanted = isinstance(value, bool), f"give {not default} or {default}"
    elif isinstance(default, tuple):
        is_right = isinstance(value, tuple) and all(isinstance(one, str) for one in value)
        wanted = "give a tuple of texts" + (f", such as ({value!r},)" if isinstance(value, str) else "")
    elif isinstance(default, int):
        is_right = isinstance(value, int) and not isinstance(value, bool)
        wanted = f"give a whole number, such as {default}"
    elif isinstance(default, float):
        is_right = isinstance(value, (int, float)) and not isinstance(value, bool)
        wanted = f"give a number, such as {default}"
    else:
        return
    if not is_right:
        raise TypeError(f"{name}={value!r}: {wanted}")


Settings.__init__ = known_keywords()(Settings.__init__)  # type: ignore[method-assign]  # made by `dataclass`
