"""`PagesSource`: the pictures of one image file that holds several: pages of a TIFF, frames of an animation.

Pillow reads one at a time, composited as a viewer shows it. Pages travel as PNG, so that every pixel stays as it is.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from forgesyte_nb.client.sources.base import Source, Take
from forgesyte_nb.client.sources.content import tiff_pages
from forgesyte_nb.errors import InvalidImage, SourceError
from forgesyte_nb.image.formats import FORMATS
from forgesyte_nb.image.frame import Frame
from forgesyte_nb.image.pictures import Picture, as_picture
from forgesyte_nb.image.pillow import PILLOW_ERRORS
from forgesyte_nb.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

_FASTEST_MS = 10  # browsers show frames of GIFs that claim no more than this for 100 ms
_FAST_FRAME_MS = 100
_PILLOW_SAYS = (*PILLOW_ERRORS, MemoryError)


class PagesSource(Source):
    """The pictures of one file; `time_s` is when an animation shows the frame."""

    def __init__(self, file: Path | bytes | PILImage, *, name: str, count: int, **pace: Any) -> None:
        """Read `count` pictures of an image file, given by its path, its bytes, or opened with Pillow."""
        super().__init__(**pace)
        self.name, self.length = name, count
        self._file = file
        self._captured_at = file.stat().st_mtime if isinstance(file, Path) else None

    def _takes(self) -> Iterator[Take]:
        from PIL import Image

        with self._opened() as image:
            time_s: float | None = None
            if image.format != "TIFF":
                self._check_size(image)  # of all frames; Pillow makes room for one when it seeks
            for position, page in enumerate(self._pages(image)):
                try:
                    image.seek(page)
                    if image.format == "WEBP":
                        image.load()  # says how long the frame is shown
                except (*_PILLOW_SAYS, Image.DecompressionBombError) as error:
                    yield _failing(f"{self.name}#{position} is damaged: {error}")
                    continue
                duration_ms = image.info.get("duration") if image.format != "TIFF" else None
                if duration_ms is not None and time_s is None:
                    time_s = 0.0
                yield self._taker(image, position, time_s)
                if time_s is not None:
                    shown_ms = duration_ms or 0
                    time_s += (shown_ms if shown_ms > _FASTEST_MS else _FAST_FRAME_MS) / 1000

    def _pages(self, image: PILImage) -> Sequence[int]:
        """Numbers by which Pillow knows them."""
        if image.format == "TIFF":
            return _pages_of_tiff(self._file)
        first = 1 if getattr(image, "default_image", False) else 0  # an APNG's still picture for old viewers
        return range(first, first + (self.length or 1))

    @contextmanager
    def _opened(self) -> Iterator[PILImage]:
        from PIL import Image

        if not isinstance(self._file, (Path, bytes)):
            yield self._file
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit of size, and what it thinks of damaged notes
            file = io.BytesIO(self._file) if isinstance(self._file, bytes) else self._file
            try:
                opened = Image.open(file, formats=FORMATS)
            except (*_PILLOW_SAYS, Image.DecompressionBombError) as error:
                raise SourceError(f"{self.name} cannot be read: {error}; save the file anew, or smaller") from error
        with opened as image:
            yield image

    def _check_size(self, image: PILImage) -> None:
        if image.width * image.height > Settings.max_image_pixels:
            raise SourceError(
                f"{self.name} of {image.width}×{image.height} is over the limit of "
                f"{Settings.max_image_pixels / 1e6:g} megapixels: scale it down"
            )

    def _taker(self, image: PILImage, position: int, time_s: float | None) -> Take:
        def take(seq: int) -> Picture:
            self._check_size(image)
            try:
                pixels = as_picture(image)
            except _PILLOW_SAYS as error:
                raise InvalidImage(f"{self.name}#{position} is damaged: {error}; save the file anew") from error
            frame = Frame.from_array(cast(Frame, pixels).rgb, lossless=True, seq=seq, captured_at=self._captured_at)
            frame.frame_id, frame.time_s = f"{self.name}#{position}", time_s
            return frame

        return take


def _pages_of_tiff(file: Path | bytes | PILImage) -> Sequence[int]:
    if isinstance(file, bytes):
        return tiff_pages(io.BytesIO(file))
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return tiff_pages(opened)
    return range(getattr(file, "n_frames", 1))


def _failing(reason: str) -> Take:
    def take(_seq: int) -> Picture:
        raise InvalidImage(f"{reason}; save the file anew")

    return take
