"""A frame: one image and its name, as an image file or as raw pixels.

`Frame` is what a plugin gets and what a source yields. It holds the bytes of an image file or raw pixels, RGB or gray,
and makes the other one (and the views `.rgb`, `.bgr`, `.gray`, `.pil`) on first use. Decoding turns the picture upright
(EXIF), takes the first picture of an animation, and gives 8 bits a channel whatever the file has. The arrays are
read-only, since they may share memory.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.decode import decode
from forgesyte_nb.image.formats import ImageHeader
from forgesyte_nb.image.header import read_header
from forgesyte_nb.image.memory import decoding
from forgesyte_nb.image.pillow import PILLOW_ERRORS, open_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image as PILImage

    Image8 = NDArray[np.uint8]

JPEG_QUALITY = 90
"""Quality of the JPEG made of an array; visually lossless at normal viewing."""

_NO_LIMIT = 1 << 62


class Frame:
    """One image, encoded or as an array, with its name, number and time of capture.

    NumPy accepts a frame: `np.asarray(frame)` is `frame.rgb`.

    Attributes:
        frame_id: The sender's name for it; empty if it was never sent.
        seq: Its number in its stream or source, from 0.
        captured_at: Time of capture, seconds since the epoch; None if unknown.
        time_s: Position in the clip that it is from, in seconds; None if it is from no clip.
        decode_ms: Milliseconds spent decoding so far.
    """

    __slots__ = (
        "_bgr",
        "_encoded",
        "_gray",
        "_header",
        "_lossless",
        "_pixels",
        "_rgb",
        "captured_at",
        "decode_ms",
        "frame_id",
        "seq",
        "time_s",
    )

    def __init__(
        self,
        encoded: bytes,
        *,
        frame_id: str = "",
        seq: int = 0,
        captured_at: float | None = None,
        time_s: float | None = None,
        max_pixels: int = _NO_LIMIT,
    ) -> None:
        """Make a frame from the bytes of an image file; only the header is read.

        Args:
            encoded: Bytes of a JPEG, PNG, GIF, BMP, WebP or TIFF file.
            frame_id: Name of the frame.
            seq: Number in its stream.
            captured_at: Time of capture, seconds since the epoch.
            time_s: Position in the clip, in seconds.
            max_pixels: Largest width × height.

        Raises:
            InvalidImage: If the header shows that it cannot be decoded or is over the limit.
        """
        if not isinstance(encoded, (bytes, bytearray, memoryview)):
            raise InvalidImage(
                f"fs.Frame takes the bytes of an image file, not {type(encoded).__name__}: pixels go to "
                "Frame.from_array(…), and clients and streams take paths and arrays as they are"
            )
        encoded = bytes(encoded)  # a copy of what the caller may change later
        self._header: ImageHeader | None = read_header(encoded, max_pixels=max_pixels)
        self._encoded: bytes | None = encoded
        self._pixels: Image8 | None = None
        self._rgb: Image8 | None = None
        self._bgr: Image8 | None = None
        self._gray: Image8 | None = None
        self._lossless = False
        self.frame_id = frame_id
        self.seq = seq
        self.captured_at = captured_at
        self.time_s = time_s
        self.decode_ms = 0.0

    @classmethod
    def from_array(
        cls,
        image_rgb: Any,
        *,
        frame_id: str = "",
        seq: int = 0,
        captured_at: float | None = None,
        time_s: float | None = None,
        lossless: bool = False,
        copy: bool = True,
    ) -> Frame:
        """Make a frame from pixels.

        Args:
            image_rgb: uint8 array, `(H, W, 3)` in RGB order, `(H, W)` or `(H, W, 1)` gray, or `(H, W, 4)` whose alpha
                is dropped.
            frame_id: Name of the frame.
            seq: Number in its stream.
            captured_at: Time of capture, seconds since the epoch.
            time_s: Position in the clip, in seconds.
            lossless: True if its `bytes` are a PNG, which keeps every pixel; False for a JPEG.
            copy: False to use the memory of the array, which must not be written to from now on.

        Raises:
            InvalidImage: If the dtype is not uint8 or the shape is none of these.
        """
        import numpy as np

        if isinstance(image_rgb, (str, bytes, bytearray)):
            raise InvalidImage("Frame.from_array takes pixels: for the bytes of an image file use fs.Frame(…)")
        array = np.asarray(image_rgb)
        if array.dtype == np.uint16:
            raise InvalidImage("Array of uint16: a frame is uint8, 0–255; for 16 bits use (array >> 8).astype('uint8')")
        if array.dtype != np.uint8:
            advice = {
                "b": "for a mask use array.astype('uint8') * 255",
                "i": "for values of 0–255 use array.clip(0, 255).astype('uint8')",
                "u": "for values of 0–255 use array.clip(0, 255).astype('uint8')",
            }.get(array.dtype.kind, "for floats of 0–1 use (array * 255).round().astype('uint8')")
            raise InvalidImage(f"Array of {array.dtype}: a frame is uint8, 0–255; {advice}")
        if array.ndim == 3 and array.shape[2] == 1:
            array = array[:, :, 0]
        if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
            raise InvalidImage(f"Array of shape {array.shape}: expected (H, W, 3) in RGB order, or (H, W)")
        array = array[..., :3] if array.ndim == 3 else array
        frame = cls.__new__(cls)
        frame._header = frame._encoded = frame._rgb = frame._bgr = frame._gray = None
        frame._pixels = _read_only(np.array(array, order="C") if copy else np.ascontiguousarray(array).view())
        if array.ndim == 3:
            frame._rgb = frame._pixels
        else:
            frame._gray = frame._pixels
        frame._lossless = lossless
        frame.frame_id, frame.seq, frame.captured_at, frame.time_s = frame_id, seq, captured_at, time_s
        frame.decode_ms = 0.0
        return frame

    @property
    def pixels(self) -> Image8 | None:
        """The pixels it was made of, uint8 `(H, W, 3)` RGB or `(H, W)` gray; None if it was made of an image file."""
        return self._pixels

    @property
    def rgb(self) -> Image8:
        """Pixels, uint8 `(H, W, 3)`, red first.

        Raises:
            InvalidImage: If the image is damaged.
        """
        if self._rgb is None:
            if self._bgr is not None:
                self._rgb = _convert(self._bgr, "COLOR_BGR2RGB")
            elif self._pixels is not None:
                self._rgb = _convert(self._pixels, "COLOR_GRAY2RGB")
            else:
                self._rgb = self._decode(rgb=True)
        return self._rgb

    @property
    def bgr(self) -> Image8:
        """Pixels, uint8 `(H, W, 3)`, blue first: OpenCV's order."""
        if self._bgr is None:
            if self._rgb is not None:
                self._bgr = _convert(self._rgb, "COLOR_RGB2BGR")
            elif self._pixels is not None:
                self._bgr = _convert(self._pixels, "COLOR_GRAY2BGR")
            else:
                self._bgr = self._decode(rgb=False)
        return self._bgr

    @property
    def gray(self) -> Image8:
        """Luma, uint8 `(H, W)`: 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601)."""
        if self._gray is None:
            if self._bgr is not None:
                self._gray = _convert(self._bgr, "COLOR_BGR2GRAY")
            else:
                self._gray = _convert(self.rgb, "COLOR_RGB2GRAY")
        return self._gray

    @property
    def pil(self) -> PILImage:
        """A Pillow image in mode RGB; its `info` has the file's own, such as `dpi`, where there is a file."""
        from PIL import Image

        picture = Image.fromarray(self.rgb)
        if self._encoded is not None:
            try:
                with open_image(self._encoded) as opened:
                    picture.info.update(opened.info)
            except PILLOW_ERRORS:
                picture.info.clear()  # OpenCV decodes files whose metadata Pillow cannot read
        return picture

    @property
    def bytes(self) -> bytes:
        """The image file: the given bytes, or the pixels as JPEG of quality 90 (as PNG if `lossless`)."""
        if self._encoded is None:
            pixels = self._pixels if self._pixels is not None and self._pixels.ndim == 2 else self.bgr
            self._encoded = encode_png(pixels) if self._lossless else encode_jpeg(pixels)
        return self._encoded

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels, as seen upright (this decodes the image)."""
        known = self._bgr if self._pixels is None else self._pixels
        height, width = (self.rgb if known is None else known).shape[:2]
        return width, height

    @property
    def stored_size_wh(self) -> tuple[int, int]:
        """Width and height in pixels by the file's header, before an orientation tag is applied; decodes nothing."""
        return self.size_wh if self._header is None else (self._header.width, self._header.height)

    @property
    def format(self) -> str:
        """Format of the file, such as "JPEG"; "array" for a frame made of pixels."""
        return self._header.format if self._header is not None else "array"

    def _decode(self, *, rgb: bool) -> Image8:
        if self._encoded is None or self._header is None:
            raise InvalidImage("Frame without pixels and without bytes")
        began = time.perf_counter()
        try:
            with decoding(self._header):
                return decode(self._encoded, self._header, rgb=rgb)
        except MemoryError as error:
            header = self._header
            raise InvalidImage(
                f"{header.format} of {header.width}×{header.height} takes more memory to decode than a picture of its "
                "size should: it is damaged, or made to do harm; save it anew with another program"
            ) from error
        finally:
            self.decode_ms += (time.perf_counter() - began) * 1000

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The RGB pixels, for `np.asarray(frame)`."""
        import numpy as np

        return np.array(self.rgb, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        header = self._header
        shape = f"{header.width}×{header.height}" if header else "×".join(map(str, self.size_wh))
        return f"<Frame {self.frame_id or self.seq} {shape} {self.format}>"


def encode_jpeg(image_bgr: Image8, *, quality: int = JPEG_QUALITY) -> bytes:
    """A JPEG file of uint8 `(H, W, 3)` BGR or `(H, W)` gray pixels; `quality` is 1–100.

    Raises:
        InvalidImage: If OpenCV cannot encode it, such as over 65,500 pixels wide.
    """
    import cv2

    return _encode_with_opencv("JPEG", ".jpg", image_bgr, cv2.IMWRITE_JPEG_QUALITY, quality)


def encode_png(image_bgr: Image8) -> bytes:
    """A PNG file of uint8 `(H, W, 3)` BGR or `(H, W)` gray pixels.

    Raises:
        InvalidImage: If OpenCV cannot encode it.
    """
    return _encode_with_opencv("PNG", ".png", image_bgr)


def _encode_with_opencv(kind: str, suffix: str, image_bgr: Image8, *parameters: int) -> bytes:
    import cv2

    done, encoded = cv2.imencode(suffix, image_bgr, parameters)
    if not done:
        raise InvalidImage(f"pixels of shape {image_bgr.shape} cannot be encoded as {kind}")
    return encoded.tobytes()


def _convert(image: Image8, conversion: str) -> Image8:
    import cv2

    return _read_only(cv2.cvtColor(image, getattr(cv2, conversion)))


def _read_only(pixels: Any) -> Image8:
    pixels.flags.writeable = False
    return pixels  # type: ignore[no-any-return]  # cv2 says MatLike, numpy knows better
