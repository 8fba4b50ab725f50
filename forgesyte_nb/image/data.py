"""`ImageData`: an image on its way to a plugin, as the bytes of an image file or as raw pixels.

Raw pixels are a contiguous uint8 array, `(H, W, 3)` RGB or `(H, W)` gray. Between processes they travel as their bytes
and a `RawFormat`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, Union

from forgesyte_nb.image.frame import Frame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


ImageData: TypeAlias = Union[bytes, "NDArray[np.uint8]"]


class RawFormat(NamedTuple):
    """The layout of raw pixels, rows from top to bottom without padding.

    Attributes:
        encoding: "rgb24": three bytes a pixel, red first; "gray8": one byte a pixel.
        width: Pixels in a row.
        height: Number of rows.
    """

    encoding: Literal["rgb24", "gray8"]
    width: int
    height: int

    @property
    def size_bytes(self) -> int:
        """Number of bytes of the pixels."""
        return self.width * self.height * (3 if self.encoding == "rgb24" else 1)


def data_of(frame: Frame) -> ImageData:
    """What a frame was made of: its pixels, or the bytes of its file."""
    return frame.bytes if frame.pixels is None else frame.pixels


def size_bytes(data: ImageData) -> int:
    """Its size in memory."""
    return len(data) if isinstance(data, bytes) else data.nbytes


def raw_format(data: ImageData) -> RawFormat | None:
    """The layout of raw pixels; None for an image file."""
    if isinstance(data, bytes):
        return None
    return RawFormat("rgb24" if data.ndim == 3 else "gray8", data.shape[1], data.shape[0])


def as_buffer(data: ImageData) -> bytes | memoryview:
    """Its bytes, one an element; those of raw pixels are not copied."""
    return data if isinstance(data, bytes) else data.data.cast("B")


def from_buffer(buffer: bytes, layout: RawFormat | None) -> ImageData:
    """The image in a buffer, whose memory it uses.

    Raises:
        ValueError: If the buffer is not as long as its layout says.
    """
    if layout is None:
        return buffer
    import numpy as np

    shape = (layout.height, layout.width, 3) if layout.encoding == "rgb24" else (layout.height, layout.width)
    return np.frombuffer(buffer, np.uint8).reshape(shape)


def frame_of(data: ImageData, **about: Any) -> Frame:
    """A frame of an image; `about` is `frame_id`, `seq` and `captured_at`.

    Raises:
        InvalidImage: If it is an image file that cannot be decoded.
    """
    return Frame(data, **about) if isinstance(data, bytes) else Frame.from_array(data, copy=False, **about)
