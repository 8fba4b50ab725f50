"""Video files, network streams and cameras, decoded with PyAV.

Never with `cv2.VideoCapture`: current OpenCV builds abort the whole process on some real files, which would take
the kernel down. A damaged packet is skipped and counted; at the end `SourceError` says what was lost. A container is
closed by the thread that reads it: FFmpeg does not survive it otherwise.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forgesyte_nb.client.sources import Source, Take
from forgesyte_nb.errors import SourceError
from forgesyte_nb.frame import Frame

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

_NETWORK_TIMEOUT_S = 10.0
_LIVE_SCHEMES = ("rtsp:", "rtmp:", "udp:", "rtp:", "srt:")
_SHORTFALL = 0.95  # headers miscount by some frames; fewer than this part of them means that the file is cut short


class _AvSource(Source):
    """What files, streams and cameras share: open, walk the packets, make frames."""

    _open_arguments: dict[str, Any] = {}
    _place: str

    def _open(self) -> InputContainer:
        """Open it and check that it has pictures.

        Raises:
            SourceError: If it has none, or cannot be opened.
        """
        import av

        try:
            container: InputContainer = av.open(self._place, **self._open_arguments)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SourceError(self._cannot_open(error)) from error
        if not container.streams.video:
            container.close()
            raise SourceError(f"{self.name} has no pictures: it holds no video stream")
        video = container.streams.video[0]
        self.fps = float(video.average_rate) if video.average_rate else None
        self.length = video.frames or None
        return container

    def _cannot_open(self, error: Exception) -> str:
        reason = getattr(error, "strerror", None) or error
        return f"{self.name} cannot be read as video: {reason}. Is it complete, and a video file?"

    def _captured_at(self, picture: VideoFrame, index: int) -> float | None:
        raise NotImplementedError

    def _takes(self) -> Iterator[Take]:
        with self._open() as container:
            yield from self._walk(container)

    def _walk(self, container: InputContainer) -> Iterator[Take]:
        import av

        index, damage = 0, ""
        video = container.streams.video[0]
        if not self.live:
            video.thread_type = "AUTO"  # for a camera it would hold pictures back
        packets = container.demux(video)
        while True:
            try:
                packet = next(packets, None)
                pictures = packet.decode() if packet is not None else []
            except av.FFmpegError as error:
                damage = damage or f"damaged after picture {index} ({error.strerror or error})"
                if self.live:
                    break
                continue  # if the file itself cannot be read on, the next packet is None
            if packet is None:
                break
            for picture in pictures:
                yield self._taker(picture, index)
                index += 1
        self._check_complete(index, damage)

    def _taker(self, picture: VideoFrame, index: int) -> Take:
        captured_at = self._captured_at(picture, index)
        return lambda seq: Frame.from_array(
            upright(picture), frame_id=f"{self.name}#{seq}", seq=seq, captured_at=captured_at
        )

    def _check_complete(self, read: int, damage: str) -> None:
        if not damage and not (self.length and read < self.length * _SHORTFALL - 1):
            return
        what = damage or "cut short"
        of = f" of {self.length}" if self.length else ""
        raise SourceError(f"{self.name} is {what}: {read}{of} pictures could be read")


def upright(picture: VideoFrame) -> Any:
    """RGB pixels `(H, W, 3)`, uint8, turned as the file's display matrix says (phones film sideways)."""
    import numpy as np

    pixels = picture.to_ndarray(format="rgb24")
    turns = round(picture.rotation / 90) % 4
    return np.rot90(pixels, turns) if turns else pixels


class VideoFile(_AvSource):
    """A video file; `captured_at` is seconds from the start of the video."""

    def __init__(self, path: Path, **pace: Any) -> None:
        """Look into the file.

        Raises:
            SourceError: If it is no video.
        """
        super().__init__(**pace)
        self.name = path.name
        self._place = str(path)
        self._open().close()

    def _captured_at(self, picture: VideoFrame, index: int) -> float | None:
        if picture.pts is not None:
            return picture.time
        return index / self.fps if self.fps else None


class StreamUrl(_AvSource):
    """Video from the network; live if the protocol is, such as rtsp."""

    def __init__(self, url: str, **pace: Any) -> None:
        """Connect once, to see whether it is there.

        Raises:
            SourceError: If it does not answer.
        """
        super().__init__(**pace)
        scheme, _, rest = url.partition("://")
        self.name = f"{scheme}://{rest.rpartition('@')[2]}"  # without a user name and password
        self.live = f"{scheme}:" in _LIVE_SCHEMES
        self._place = url
        self._open_arguments = {"timeout": _NETWORK_TIMEOUT_S}
        self._open().close()

    def _captured_at(self, picture: VideoFrame, index: int) -> float | None:
        return time.time() if self.live else picture.time


class Camera(_AvSource):
    """A camera of this machine, through the system's own video interface."""

    live = True

    def __init__(self, device: str, **pace: Any) -> None:
        """Open it, to see whether it is there; the device is a number, a path or the system's name for it.

        Raises:
            SourceError: If there is no such camera, or it may not be used.
        """
        super().__init__(**pace)
        self.name = f"camera:{device}"
        self._place, self._open_arguments = _device(device)
        self._open().close()

    def _cannot_open(self, error: Exception) -> str:
        there = sorted(str(path) for path in Path("/dev").glob("video*"))
        remedy = f"found {', '.join(there)}" if there else "none is connected to the machine this kernel runs on"
        return f"No camera at {self._place} ({getattr(error, 'strerror', None) or error}): {remedy}"

    def _captured_at(self, picture: VideoFrame, index: int) -> float | None:
        return time.time()

    def _check_complete(self, read: int, damage: str) -> None:
        if not self._closed.is_set():
            raise SourceError(f"{self.name} stopped after {read} pictures{': ' + damage if damage else ''}")


def _device(device: str, platform: str = sys.platform) -> tuple[str, dict[str, Any]]:
    """Where FFmpeg finds a camera, by platform."""
    if platform == "darwin":
        return device, {"format": "avfoundation", "options": {"framerate": "30"}}
    if platform == "win32":
        if device.isdigit():
            raise SourceError(f"camera:{device}: on Windows give its name, such as 'camera:Integrated Camera'")
        return f"video={device}", {"format": "dshow"}
    return (f"/dev/video{device}" if device.isdigit() else device), {"format": "v4l2"}
