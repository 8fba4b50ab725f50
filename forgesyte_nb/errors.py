"""Everything that can go wrong, as one tree: one class per wire code, and the errors of the Python side.

A `WireError` is what a client is told: its class fixes the `error_code` and its text is the `message`, which
names the thing, the reason and the remedy. The same class is raised by `Client.analyze`, so the wire and
Python speak of one error by one name. Errors that never travel (a port in use, a connection lost for good)
are plain `ForgeSyteError`s.

    ForgeSyteError
    ├── WireError                  has a code; travels as an `error` message
    │   ├── InvalidMessage         INVALID_MESSAGE
    │   ├── InvalidImage           INVALID_IMAGE
    │   ├── PluginNotFound         PLUGIN_NOT_FOUND
    │   ├── InvalidOptions         INVALID_OPTIONS
    │   ├── PluginError            PLUGIN_ERROR
    │   ├── ProcessingTimeout      PROCESSING_TIMEOUT
    │   └── QueueFull              QUEUE_FULL
    ├── PluginDefinitionError      a plugin that cannot be registered, or a file that cannot be loaded
    ├── ServerError                a server that cannot start, or is not running
    ├── ConnectionLost             a client that could not reach its server, or lost it for good
    └── SourceError                pictures that cannot be opened or read
"""

from __future__ import annotations

from typing import ClassVar


class ForgeSyteError(Exception):
    """The root: `except ForgeSyteError` catches all that this package raises on purpose."""


class WireError(ForgeSyteError):
    """An error that a client is told of.

    Attributes:
        code: The `error_code` on the wire.
        detail: More for the developer than belongs in one line, such as a traceback; empty if there is none.
    """

    code: ClassVar[str] = "PLUGIN_ERROR"

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross from workers by pickle, with their detail."""
        return (_rebuild, (type(self), str(self), self.detail))


def _rebuild(error_class: type[WireError], message: str, detail: str) -> WireError:
    return error_class(message, detail=detail)


class InvalidMessage(WireError):
    """Not JSON, no object, an unknown `type`, a missing or wrong field, or a bad topic."""

    code = "INVALID_MESSAGE"


class InvalidImage(WireError):
    """Image bytes that are empty, no picture, damaged, of a refused format or over the limits."""

    code = "INVALID_IMAGE"


class PluginNotFound(WireError):
    """No plugin of that name is loaded."""

    code = "PLUGIN_NOT_FOUND"


class InvalidOptions(WireError):
    """Options that the plugin's schema refuses."""

    code = "INVALID_OPTIONS"


class PluginError(WireError):
    """The plugin raised, crashed its worker, or returned what JSON cannot say.

    Plugins may raise it themselves: the text then reaches the client as it is, without an exception's name.
    """

    code = "PLUGIN_ERROR"


class ProcessingTimeout(WireError):
    """The plugin ran longer than its time limit and was stopped."""

    code = "PROCESSING_TIMEOUT"


class QueueFull(WireError):
    """More frames are waiting than the server may hold; send again when results have come."""

    code = "QUEUE_FULL"


WIRE_ERRORS: dict[str, type[WireError]] = {
    error.code: error
    for error in (
        InvalidMessage,
        InvalidImage,
        PluginNotFound,
        InvalidOptions,
        PluginError,
        ProcessingTimeout,
        QueueFull,
    )
}
"""Every wire code and its class; `docs` and the protocol table are tested against it."""


class PluginDefinitionError(ForgeSyteError):
    """A function or class that cannot be a plugin, or a plugin file that cannot be loaded."""


class ServerError(ForgeSyteError):
    """A server that cannot start, or that is not running."""


class ConnectionLost(ForgeSyteError):
    """No server answered, or the connection was lost and could not be made again."""


class SourceError(ForgeSyteError):
    """A source of pictures that cannot be opened or read."""
