"""Cameras of this machine and streams of the network that FFmpeg speaks to: V4L2, RTSP, RTMP, UDP, SRT."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forgesyte_nb.client.sources.live import NETWORK_TIMEOUT_S, RECONNECT_S, LiveSource
from forgesyte_nb.client.sources.video import decoder_of, frame_of, open_container
from forgesyte_nb.errors import InvalidImage, SourceError
from forgesyte_nb.image.frame import Frame

if TYPE_CHECKING:
    from av.container import InputContainer


class FFmpegConnection:
    """A live input of FFmpeg; see `live.Connection`."""

    def __init__(
        self, container: InputContainer, *, silence_s: float, on_close: Callable[[], object] | None = None
    ) -> None:
        """Read an open container.

        Args:
            container: The container.
            silence_s: The limit of its reads, for messages.
            on_close: Called when it has been closed.
        """
        self._container, self._silence_s, self._on_close = container, silence_s, on_close
        self._ended = False
        rate = container.streams.video[0].average_rate
        self.fps = float(rate) if rate else None

    def pictures(self) -> Iterator[Frame | None]:
        """Pictures as they come; None for a packet that cannot be decoded."""
        import av

        decode = decoder_of(self._container)
        packets = self._container.demux(self._container.streams.video[0])
        while not self._ended:
            reason, began = "", time.monotonic()
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:
                silent = time.monotonic() - began >= self._silence_s
                reason = (
                    f"it was silent: no picture for {self._silence_s:g} s"
                    if silent
                    else f"the connection broke ({error.strerror})"
                )
            if reason:
                raise SourceError(reason)
            if packet is None:
                return
            try:
                yield from [frame_of(picture, "", 0) for picture in decode(packet)]
            except (av.FFmpegError, InvalidImage):
                yield None

    def interrupt(self) -> None:
        """End with the next packet: a read of FFmpeg ends by its own limit of time alone."""
        self._ended = True

    def close(self) -> None:
        """Close the container."""
        self._container.close()
        if self._on_close is not None:
            self._on_close()


def open_stream(url: str, name: str, *, reconnect_s: float, **pace: Any) -> LiveSource:
    """Connect to a live stream by a URL.

    Raises:
        SourceError: If it does not answer.
    """
    silence_s = silence_limit_s(reconnect_s)

    def connect(wait_s: float) -> FFmpegConnection:
        options = {"rtsp_flags": "prefer_tcp", "fpsprobesize": "0"}
        container = open_container(url, name, "", timeout=(wait_s, min(wait_s, silence_s)), options=options)
        return FFmpegConnection(container, silence_s=min(wait_s, silence_s))

    try:
        first = connect(NETWORK_TIMEOUT_S)
    except SourceError as error:
        place = f"{url.partition(':')[0]}://USER:PASSWORD@…"
        raise SourceError(
            f"{error}; see that it is switched on and reached from here, and if it asks for a password, give {place}"
        ) from None
    return LiveSource(name, connect, first=first, reconnect_s=reconnect_s, **pace)


def silence_limit_s(reconnect_s: float) -> float:
    """Seconds without a picture after which a live stream is connected to anew."""
    return min(NETWORK_TIMEOUT_S, max(1.0, reconnect_s)) if reconnect_s else NETWORK_TIMEOUT_S


def open_camera(device: str, *, reconnect_s: float = RECONNECT_S, **pace: Any) -> LiveSource:
    """Open a camera of this machine; the device is a number, a path or the system's name for it.

    Raises:
        SourceError: If there is no such camera, or it may not be used.
    """
    place, arguments = device_of(device)

    def connect(wait_s: float) -> FFmpegConnection:
        import av

        try:
            container = av.open(place, timeout=wait_s, **arguments)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SourceError(_no_camera(place, error)) from error
        return FFmpegConnection(container, silence_s=wait_s)

    return LiveSource(f"camera:{device}", connect, reconnect_s=reconnect_s, **pace)


def _no_camera(place: str, error: Exception) -> str:
    there = sorted(str(path) for path in Path("/dev").glob("video*"))
    remedy = f"found {', '.join(there)}" if there else "none is connected to the machine this kernel runs on"
    return f"No camera at {place} ({getattr(error, 'strerror', None) or error}): {remedy}"


def device_of(device: str, platform: str = sys.platform) -> tuple[str, dict[str, Any]]:
    """Place and arguments by which FFmpeg finds a camera, by platform."""
    if platform == "darwin":
        return device, {"format": "avfoundation", "options": {"framerate": "30"}}
    if platform == "win32":
        if device.isdigit():
            raise SourceError(f"camera:{device}: on Windows give its name, such as 'camera:Integrated Camera'")
        return f"video={device}", {"format": "dshow"}
    return (f"/dev/video{device}" if device.isdigit() else device), {"format": "v4l2"}
