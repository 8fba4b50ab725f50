"""Video files, decoded with PyAV.

Never with `cv2.VideoCapture`: current OpenCV builds abort the whole process on some real files, which would end the
kernel. A damaged packet is skipped; at the end `SourceError` reports what was lost. A container is closed by the
thread that reads it: FFmpeg does not survive it otherwise.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forgesyte_nb.client.sources.base import Source, Take
from forgesyte_nb.errors import SourceError
from forgesyte_nb.image.frame import Frame

if TYPE_CHECKING:
    import numpy as np
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

_SHORTFALL = 0.95  # headers miscount by some frames; fewer than this part of them means that the file is cut short
_IS_VIDEO = "; is it complete, and a video file?"
_NO_VIDEO = ("tty",)  # FFmpeg's demuxers that draw a picture of any text


class VideoFile(Source):
    """A video file; `time_s` is the position in the clip."""

    def __init__(self, place: Path | bytes | str, *, name: str, open_options: Any = None, **pace: Any) -> None:
        """Look into a video.

        Args:
            place: Path, content, or a URL as FFmpeg takes it.
            name: Its name in messages and results.
            open_options: Further arguments of `av.open`.
            **pace: See `open_source`.

        Raises:
            SourceError: If it is no video.
        """
        super().__init__(**pace)
        self.name = name
        self._place = f"file:{place}" if isinstance(place, Path) else place  # else a colon ends a protocol's name
        self._open_options = open_options or {}
        self._open().close()

    def _open(self) -> InputContainer:
        place = io.BytesIO(self._place) if isinstance(self._place, bytes) else self._place
        container = open_container(place, self.name, **self._open_options)
        video = container.streams.video[0]
        if container.format.name == "mjpeg":  # no header says how fast its pictures are; FFmpeg makes a rate up
            return container
        self.fps = float(video.average_rate) if video.average_rate else None
        self.length = video.frames or None
        return container

    def _takes(self) -> Iterator[Take]:
        with self._open() as container:
            yield from self._walk(container)

    def _walk(self, container: InputContainer) -> Iterator[Take]:
        import av

        index, damage, time_s = 0, "", None
        video = container.streams.video[0]
        video.thread_type = "AUTO"
        decode = decoder_of(container)
        packets = container.demux(video)
        while True:
            try:
                packet = next(packets, None)
                pictures = decode(packet) if packet is not None else []
            except av.FFmpegError as error:
                damage = damage or f"damaged after picture {index} ({error.strerror or error})"
                continue  # if the file itself cannot be read on, the next packet is None
            if packet is None:
                break
            for picture in pictures:
                time_s = self._position_s(picture, container, index)
                yield self._taker(picture, time_s)
                index += 1
        self._check_complete(index, damage, time_s, video)

    def _position_s(self, picture: VideoFrame | bytes, container: InputContainer, index: int) -> float | None:
        if isinstance(picture, bytes):
            return None
        if picture.pts is not None:
            return max(0.0, picture.time - (container.start_time or 0) / 1_000_000)  # AV_TIME_BASE is 1 µs
        return index / self.fps if self.fps else None

    def _taker(self, picture: VideoFrame | bytes, time_s: float | None) -> Take:
        def take(seq: int) -> Frame:
            frame = frame_of(picture, f"{self.name}#{seq}", seq)
            frame.time_s = time_s
            return frame

        return take

    def _check_complete(self, read: int, damage: str, time_s: float | None, video: VideoStream) -> None:
        if not damage and not self._is_cut_short(read, time_s, video):
            return
        what = damage or "cut short"
        of = f" of {self.length}" if self.length else ""
        raise SourceError(f"{self.name} is {what}: {read}{of} pictures could be read")

    def _is_cut_short(self, read: int, time_s: float | None, video: VideoStream) -> bool:
        """True if pictures are missing at the end; those that an edit list leaves out are not missing."""
        if not self.length or read >= self.length * _SHORTFALL - 1:
            return False
        if time_s is None or not video.duration or not video.time_base:
            return True
        duration_s = float(video.duration * video.time_base)
        return time_s < duration_s * _SHORTFALL - 2 / (self.fps or 1)


def open_container(place: Any, name: str, remedy: str = _IS_VIDEO, **arguments: Any) -> InputContainer:
    """Open with FFmpeg and check that there are pictures.

    Args:
        place: Path, URL or file object.
        name: Its name for messages: FFmpeg's own texts hold the whole URL, with its secrets.
        remedy: End of the message if it cannot be opened.
        **arguments: Of `av.open`.

    Raises:
        SourceError: If it holds no video stream, or cannot be opened.
    """
    import av

    container: InputContainer | None = None
    reason = ""
    try:
        container = av.open(place, **arguments)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
    # Raised outside of `except`: the error of FFmpeg, which names the whole URL, would be shown with it.
    if container is None:
        raise SourceError(f"{name} cannot be read as video: {reason}{remedy}")
    if not container.streams.video or container.format.name in _NO_VIDEO:
        container.close()
        raise SourceError(f"{name} has no pictures: it holds no video stream; give a video or an image file")
    return container


def decoder_of(container: InputContainer) -> Callable[[Packet[VideoStream]], list[VideoFrame] | list[bytes]]:
    """What makes pictures of the packets: the JPEGs of Motion JPEG as they are, else FFmpeg."""
    if container.format.name == "mjpeg":
        return lambda packet: [bytes(packet)] if packet.size else []
    return lambda packet: packet.decode()


def frame_of(picture: VideoFrame | bytes, name: str, seq: int) -> Frame:
    """A picture as a `Frame`.

    Raises:
        InvalidImage: If it is a JPEG that is damaged.
    """
    if isinstance(picture, bytes):
        return Frame(picture, frame_id=name, seq=seq)
    return Frame.from_array(upright(picture), frame_id=name, seq=seq, copy=False)


def upright(picture: VideoFrame) -> NDArray[np.uint8]:
    """RGB pixels `(H, W, 3)`, uint8, turned and mirrored by the display matrix (phones film sideways)."""
    import numpy as np

    pixels: Any = picture.to_ndarray(format="rgb24")
    # x' = a x + c y, y' = b x + d y (ISO/IEC 14496-12, section 6.2.2)
    a, b, c, d = _display_matrix(picture)
    if abs(a) + abs(d) < abs(b) + abs(c):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    turned: NDArray[np.uint8] = np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
    return turned


def _display_matrix(picture: VideoFrame) -> tuple[int, ...]:
    """The numbers a, b, c, d of FFmpeg's `AV_FRAME_DATA_DISPLAYMATRIX`: nine int32 in the machine's byte order."""
    import numpy as np

    found: Any = picture.side_data.get("DISPLAYMATRIX")
    if found is None:
        return 1, 0, 0, 1
    numbers = np.frombuffer(found, np.int32)
    return tuple(int(numbers[index]) for index in (0, 1, 3, 4))
