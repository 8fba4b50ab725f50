"""What a stream remembers: all its results within bounds, and the last pictures for looking back.

Results are kept up to a number and a size of their JSON; the oldest go first and are counted. Their pictures are kept,
encoded, within a size of their own: an older result then says in place of its picture that it is kept no longer. Not
thread-safe: the stream holds its lock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import orjson

from forgesyte_nb.client.results import Result
from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.data import data_of, frame_of, size_bytes
from forgesyte_nb.image.frame import Frame
from forgesyte_nb.image.pictures import RawImage

MOST_RESULTS = 50_000
MOST_RESULT_BYTES = 256 * 1024 * 1024
MOST_FRAME_BYTES = 128 * 1024 * 1024
MOST_PICTURES = 300
MOST_PICTURE_BYTES = 128 * 1024 * 1024

SHOWN_IN_BROWSERS = {
    "JPEG": "image/jpeg",
    "array": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "WEBP": "image/webp",
}
"""Content types of the formats that every browser decodes; what comes as pixels travels as JPEG."""

_EXIF_WITHIN = 4096  # bytes: the segment stands first in a JPEG (Exif 2.3, section 4.5.4)


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture that was analysed, ready to be shown again.

    Attributes:
        frame: The picture; an image file that browsers decode, or raw pixels.
        content_type: Such as "image/jpeg".
        about: Fields for the header of a feed's picture.
    """

    frame: Frame
    content_type: str
    about: dict[str, Any]

    @property
    def image(self) -> bytes | Frame:
        """The image as a feed takes it: the bytes of the file, or raw pixels."""
        return self.frame.bytes if self.frame.pixels is None else self.frame


class History:
    """Results and pictures of one stream.

    Attributes:
        results: Results, oldest first; the newest have their pictures.
        times_s: When each of them came, monotonic seconds.
        pictures: The last pictures, oldest first.
        forgotten: Results that were dropped because there were too many.
        total: Results ever added.
        back: How many pictures before the newest the one is that viewers look at; None if they follow the newest.
    """

    def __init__(
        self,
        *,
        results: int = MOST_RESULTS,
        result_bytes: int = MOST_RESULT_BYTES,
        frame_bytes: int = MOST_FRAME_BYTES,
    ) -> None:
        """Make an empty one with these bounds."""
        self.results: deque[Result] = deque()
        self.times_s: deque[float] = deque()
        self.pictures: deque[Shown] = deque()
        self.forgotten = 0
        self.total = 0
        self.back: int | None = None
        self._most, self._most_bytes = results, result_bytes
        self._most_frame_bytes = frame_bytes
        self._sizes: deque[int] = deque()
        self._bytes = 0
        self._frame_sizes: deque[int] = deque()  # of the newest results: those whose pictures are kept
        self._frame_bytes = 0
        self._picture_bytes = 0

    def add(self, result: Result, at_s: float) -> Shown | None:
        """Remember a result that came at a time (monotonic); what there is to show of it, if its picture was one."""
        self.total += 1
        self.times_s.append(at_s)
        result = replace(result, frame=_undecoded(result.frame))
        self.results.append(result)
        self._keep_frame(result)
        self._sizes.append(len(orjson.dumps(result.result)))
        self._bytes += self._sizes[-1]
        while len(self.results) > self._most or (self._bytes > self._most_bytes and len(self.results) > 1):
            self.results.popleft()
            self.times_s.popleft()
            self._bytes -= self._sizes.popleft()
            self.forgotten += 1
            if len(self._frame_sizes) > len(self.results):
                self._frame_bytes -= self._frame_sizes.popleft()
        shown = _shown(result)
        if shown is not None:
            self.pictures.append(shown)
            self._picture_bytes += _size_bytes(shown.frame)
            while len(self.pictures) > MOST_PICTURES or (
                self._picture_bytes > MOST_PICTURE_BYTES and len(self.pictures) > 1
            ):
                self._picture_bytes -= _size_bytes(self.pictures.popleft().frame)
            if self.back is not None:
                self.back = min(self.back + 1, len(self.pictures) - 1)
        return shown

    def _keep_frame(self, result: Result) -> None:
        self._frame_sizes.append(0 if result.frame is None else _size_bytes(result.frame))
        self._frame_bytes += self._frame_sizes[-1]
        while self._frame_bytes > self._most_frame_bytes and len(self._frame_sizes) > 1:
            at = len(self.results) - len(self._frame_sizes)
            old = self.results[at]
            limit = f"a stream keeps the last {self._most_frame_bytes / 2**20:g} MiB of pictures"
            self.results[at] = replace(
                old,
                frame=RawImage(
                    b"",
                    old.name,
                    old.seq,
                    unreadable=f"the picture of {old.name or old.frame_id} is kept no longer: {limit}; use "
                    "stream.on_result(…) to have each as it comes, or read it from the source again",
                ),
            )
            self._frame_bytes -= self._frame_sizes.popleft()

    def look(self, back: int | None) -> Shown | None:
        """Have viewers look at the picture so many before the newest, or follow the newest; which that is, if any.

        Raises:
            ValueError: If there is no such picture any more.
        """
        if back is not None and not 0 <= back < len(self.pictures):
            raise ValueError(f"show({back}): the last {len(self.pictures)} pictures are kept, 0 is the newest")
        self.back = back
        return self.pictures[-1 - (back or 0)] if self.pictures else None


def _undecoded(frame: Frame | RawImage | None) -> Frame | RawImage | None:
    """The picture as it was sent, without what was made of it: the pixels of an image file, or views of pixels."""
    if not isinstance(frame, Frame):
        return frame
    about = {"frame_id": frame.frame_id, "seq": frame.seq, "captured_at": frame.captured_at, "time_s": frame.time_s}
    return frame_of(data_of(frame), **about)


def _shown(result: Result) -> Shown | None:
    frame = result.frame
    if not isinstance(frame, Frame):
        return None
    try:
        content_type = SHOWN_IN_BROWSERS.get(frame.format)
        if content_type is None:
            frame, content_type = Frame.from_array(frame.rgb), "image/jpeg"
        # Results speak of the upright picture; only EXIF can turn it, and then it must be decoded to be sure.
        turned = frame.pixels is not None or b"Exif" in frame.bytes[:_EXIF_WITHIN]
        width, height = frame.size_wh if turned else frame.stored_size_wh
    except InvalidImage:
        return None
    about: dict[str, Any] = {
        "frame_id": result.frame_id,
        "name": result.name,
        "source_seq": result.seq,
        "time_s": result.time_s,
        "width": width,
        "height": height,
        "plugin": result.plugin,
        "plugin_revision": result.plugin_revision,
        "latency_ms": result.latency_ms,
        "timings": result.timings,
    }
    if result.error is None:
        about["result"] = result.result
    else:
        about["error"] = {"code": result.error_code, "message": str(result.error)}
    return Shown(frame, content_type, about)


def _size_bytes(frame: Frame | RawImage) -> int:
    return size_bytes(data_of(frame)) if isinstance(frame, Frame) else len(frame.bytes)
