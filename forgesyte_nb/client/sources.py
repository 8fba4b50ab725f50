"""Where pictures come from: `open_source` makes a `Source` of whatever a user has.

A source has a name, says whether it is live, and yields pictures with a capture time and a number, lazily and in
one thread. A thing in it that is no picture is yielded as a `RawImage` and never stops the others. `SourceError` is
raised when it is opened if there is nothing to read, and from `frames()` at the point where reading cannot go on:
what was read until then has been yielded. That it is empty shows there at the latest.
"""

from __future__ import annotations

import glob
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from pathlib import Path
from types import TracebackType
from typing import Any

from forgesyte_nb.client.pictures import Picture, RawImage, as_picture
from forgesyte_nb.errors import InvalidImage, SourceError
from forgesyte_nb.keywords import known_keywords

_MOST_CHANNELS = 4  # of one picture; an array of three dimensions whose last is longer is a stack of gray ones

Take = Callable[[int], Picture]
"""Makes the picture of one place in a source, given its number; one that is skipped is never made."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".mts", ".3gp", ".ogv"}
)


class Source:
    """Pictures from one place, in order. Subclasses say what one pass through it yields.

    Attributes:
        name: What it is called in messages and results.
        live: Whether pictures are lost if nobody looks, as with a camera.
        length: How many pictures one pass yields; None if unknown. A hint: videos miscount.
        fps: Its own pictures per second; None if it has no rate.
    """

    name = "source"
    live = False
    length: int | None = None
    fps: float | None = None

    def __init__(self, *, every: int = 1, loop: bool = False, fps: float | None = None) -> None:
        """Set the pace; see `open_source`.

        Raises:
            ValueError: If `every` is less than 1 or `fps` not positive.
        """
        if every < 1:
            raise ValueError(f"every={every}: 1 takes every picture, 2 every second one")
        if fps is not None and not fps > 0:
            raise ValueError(f"fps={fps}: it must be greater than 0; leave it out for no pacing")
        self._every, self._loop, self._pace = every, loop, fps
        self._closed = threading.Event()

    def _takes(self) -> Iterator[Take]:
        """One pass."""
        raise NotImplementedError

    def frames(self) -> Iterator[Picture]:
        """The pictures, from the start each time it is called; one reader at a time.

        Yields:
            `Frame`, or `RawImage` for what is no picture; `seq` is its number in the source, with gaps if
            `every` is more than 1, and counts on when the source loops.

        Raises:
            SourceError: Where it cannot be read on; at its end, if it is empty.
        """
        self._closed.clear()
        began = time.monotonic()
        for count, (seq, take) in enumerate(self._places()):
            if self._pace is not None and self._closed.wait(max(0.0, began + count / self._pace - time.monotonic())):
                return
            try:
                picture = take(seq)
            except (InvalidImage, SourceError) as error:
                picture = RawImage(b"", f"{self.name}#{seq}", seq, unreadable=str(error))
            yield picture

    def _places(self) -> Iterator[tuple[int, Take]]:
        seq = 0
        while True:
            first = seq
            for take in self._takes():
                if self._closed.is_set():
                    return
                if seq % self._every == 0:
                    yield seq, take
                seq += 1
            if not seq and not self._closed.is_set():
                raise SourceError(
                    f"The source {self.name!r} has no pictures: give it one at least; a generator that was read to its "
                    "end must be made anew"
                )
            if not self._loop or seq == first:
                return

    def close(self) -> None:
        """Stop: a running `frames()` ends at the next picture; it can be called anew. Any thread may call it."""
        self._closed.set()

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """How many pictures `frames()` will yield, as far as is known.

        Raises:
            TypeError: If it is not known.
        """
        if self.length is None or self._loop:
            raise TypeError(f"{self.name} has no known length")
        return -(-self.length // self._every)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        size = "" if self.length is None else f" {self.length} pictures"
        rate = "" if self.fps is None else f" {self.fps:g} fps"
        return f"<{type(self).__name__} {self.name}{size}{rate}{' live' if self.live else ''}>"


class PictureSource(Source):
    """Pictures one by one: arrays, Pillow images, bytes, paths, or anything iterable that yields them."""

    def __init__(self, things: Iterable[Any], *, name: str, names: list[str] | None = None, **pace: Any) -> None:
        """Make a source of `things`, called `names` if those are given."""
        super().__init__(**pace)
        self.name = name
        self._things, self._names = things, names
        self.length = len(things) if isinstance(things, Sized) else None

    def _takes(self) -> Iterator[Take]:
        for index, thing in enumerate(self._things):
            if _is_many(thing):
                with open_source(thing) as inner:
                    yield from inner._takes()
            else:
                named = self._names[index] if self._names else "" if _is_path(thing) else f"{self.name}#{index}"
                yield _taker(thing, named)


def _taker(thing: Any, name: str) -> Take:
    return lambda seq: as_picture(thing, name=name, seq=seq)


@known_keywords()
def open_source(thing: Any, *, every: int = 1, loop: bool = False, fps: float | None = None) -> Source:
    """Open whatever holds pictures.

    Args:
        thing: A uint8 array (one picture `(H, W, 3)` in RGB order or `(H, W)`, or a stack `(N, H, W, 3)`), a
            Pillow image, a `Frame`, bytes of an image file; the path of an image, a folder, a glob such as
            "scans/*.png", a video file; a stream's URL; a camera (`0`, "camera:0", "/dev/video0");
            "synthetic" for drawn moving shapes; or a list or generator of pictures and paths.
        every: Take every n-th picture.
        loop: Begin again at the end.
        fps: Yield no faster than this many pictures per second; by default as fast as they are wanted.

    Returns:
        A `Source`; use it in a `with`, or close it.

    Raises:
        SourceError: If there is nothing that can be read.
        ValueError: If `every` or `fps` makes no sense.
    """
    pace: dict[str, Any] = {"every": every, "loop": loop, "fps": fps}
    if isinstance(thing, Source):
        return thing
    if isinstance(thing, int) and not isinstance(thing, bool):
        return _open_camera(str(thing), pace)
    if _is_path(thing):
        return _open_path(os.fspath(thing), pace)
    if isinstance(thing, (bytes, bytearray, memoryview)):
        return _open_picture(thing, pace)
    if hasattr(thing, "ndim"):
        stacked = thing.ndim == 4 or (thing.ndim == 3 and thing.shape[2] > _MOST_CHANNELS)
        return PictureSource(thing, name="pictures", **pace) if stacked else _open_picture(thing, pace)
    if isinstance(thing, Iterable) and not hasattr(thing, "getbands"):
        return PictureSource(thing, name=_name_of(thing), **pace)
    as_picture(thing)  # says what is wrong, if something is
    return _open_picture(thing, pace)


def _open_picture(thing: Any, pace: dict[str, Any]) -> Source:
    name = os.path.basename(getattr(thing, "filename", "")) or "picture"  # Pillow knows the file
    return PictureSource([thing], name=name, names=[name], **pace)


def _name_of(things: Iterable[Any]) -> str:
    """A generator is called as its function is."""
    name = str(getattr(things, "__name__", ""))
    return name if name.isidentifier() else "pictures"


def _open_path(text: str, pace: dict[str, Any]) -> Source:
    from forgesyte_nb.client.video import StreamUrl, VideoFile

    path = Path(os.path.expanduser(text))  # unlike `Path.expanduser`, it leaves a user who is unknown
    if text == "synthetic":
        from forgesyte_nb.client.synthetic import synthetic

        return synthetic(**pace)
    if text.startswith(("camera:", "/dev/video")):
        return _open_camera(text.removeprefix("camera:"), pace)
    if "://" in text:
        return StreamUrl(text, **pace)
    if path.is_dir():
        found = [file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()]
        return _open_files(found, text, f"No images in {text}: looked for {', '.join(sorted(IMAGE_SUFFIXES))}", pace)
    if path.is_file():
        return VideoFile(path, **pace) if _is_video(text) else PictureSource([path], name=path.name, **pace)
    if glob.has_magic(text) and "\0" not in text:
        matched = [Path(match) for match in glob.glob(str(path), recursive=True)]
        found = [file for file in matched if file.is_file()]
        return _open_files(found, text, f"No file matches {text!r} in {Path.cwd()}", pace)
    raise SourceError(f"No file {text!r} in {Path.cwd()}: give a path, a folder, a glob, 'camera:0' or a URL")


def _open_files(found: list[Path], name: str, if_none: str, pace: dict[str, Any]) -> Source:
    if not found:
        raise SourceError(if_none)
    found.sort(key=_natural_key)
    parent = Path(os.path.commonpath([file.parent for file in found]))
    names = [file.relative_to(parent).as_posix() for file in found]
    return PictureSource(found, name=name, names=names, **pace)


def _open_camera(device: str, pace: dict[str, Any]) -> Source:
    from forgesyte_nb.client.video import Camera

    return Camera(device, **pace)


def _natural_key(path: Path) -> list[tuple[bool, int, str]]:
    """Sorts frame2 before frame10."""
    parts = re.split(r"(\d+)", path.as_posix())
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part.lower()) for part in parts]


def _is_path(thing: Any) -> bool:
    return isinstance(thing, (str, os.PathLike))


def _is_video(text: str) -> bool:
    return os.path.splitext(text)[1].lower() in VIDEO_SUFFIXES


def many_in(thing: Any) -> str:
    """What a user's thing is, if it is known at sight to hold more than one picture: "a video"; else an empty text."""
    if _is_path(thing):
        path = os.path.expanduser(thing)  # `os.path` takes any text, such as a picture in base64; `Path` raises
        if os.path.isdir(path):
            return "a folder"
        if os.path.exists(path):
            return "a video" if _is_video(path) else ""
        return "a glob" if glob.has_magic(path) else ""
    if isinstance(thing, (list, tuple, Iterator)) and not hasattr(thing, "read"):  # what a file yields are lines
        return f"a {type(thing).__name__}"
    return "a source" if isinstance(thing, Source) else "a stack" if getattr(thing, "ndim", 0) == 4 else ""


def _is_many(thing: Any) -> bool:
    """Whether an element of a list is itself a source of several pictures: a video, a folder, a `Source`."""
    if isinstance(thing, Source):
        return True
    return _is_path(thing) and (_is_video(os.fspath(thing)) or os.path.isdir(thing))
