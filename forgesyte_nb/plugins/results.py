"""Results of plugins: typed shapes for what is drawn, and JSON that says what it means or refuses.

A plugin returns a dict. Its values may be plain JSON, NumPy numbers and arrays, or the typed `Box`, `Text`,
`Mask`, `Keypoint` and `Label`. On the wire each is an object known by its fields, so a front end draws a list
of plain dicts of the same shape just as well:

    Box       {"bbox": {"x", "y", "width", "height"}, "label"?, "confidence"?}
    Text      {"text", "bbox"?, "confidence"?}
    Mask      {"mask": base64 PNG, "width", "height", "label"?}
    Keypoint  {"x", "y", "label"?, "confidence"?}
    Label     {"label", "confidence"?}

Coordinates are pixels of the upright image from its top left corner. NaN and infinities are refused: JSON has no
words for them, and a number that silently became null would be a lie. A table (a DataFrame) becomes a list with one
object for each row, as `tables.py` says. What any other object's `to_json()` returns is taken as its value; where that
is text, as of `ultralytics` results, it is JSON, and the value is what it says.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import enum
import math
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from forgesyte_nb.errors import InvalidImage, PluginError
from forgesyte_nb.image.frame import Frame
from forgesyte_nb.plugins.tables import rows_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


_MIN_INT, _MAX_INT = -(1 << 63), (1 << 64) - 1  # what orjson writes
_FLOAT64_BYTES = 8
_SUSPICIOUS = (b"null", b"1970-01-01T00:00:00")  # as orjson writes NaN, and NaT in an array


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle: `x`, `y` of its top left corner, `width` and `height`, in pixels."""

    x: float
    y: float
    width: float
    height: float
    label: str | None = None
    confidence: float | None = None

    @classmethod
    def from_xyxy(
        cls, x0: float, y0: float, x1: float, y1: float, label: str | None = None, confidence: float | None = None
    ) -> Box:
        """A box from two corners, as most detectors give it."""
        return cls(x0, y0, x1 - x0, y1 - y0, label, confidence)

    def to_json(self) -> dict[str, Any]:
        """The box as it stands on the wire."""
        bbox = {"x": self.x, "y": self.y, "width": self.width, "height": self.height}
        return {"bbox": bbox, **_present(label=self.label, confidence=self.confidence)}


@dataclass(frozen=True, slots=True)
class Text:
    """Words, and where they stand if that is known."""

    text: str
    box: Box | None = None
    confidence: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The text as it stands on the wire."""
        bbox = self.box.to_json()["bbox"] if self.box is not None else None
        return {"text": self.text, **_present(bbox=bbox, confidence=self.confidence)}


@dataclass(frozen=True, slots=True)
class Mask:
    """A region: `pixels` is `(H, W)`, zero outside and non-zero inside."""

    pixels: Any
    label: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The mask as it stands on the wire: a PNG of 0 and 255."""
        import cv2
        import numpy as np

        inside = (np.asarray(self.pixels) != 0).astype(np.uint8) * 255
        if inside.ndim != 2 or inside.size == 0:
            raise PluginError(f"Mask of shape {inside.shape}: expected (H, W)")
        _, png = cv2.imencode(".png", inside)
        return {
            "mask": base64.b64encode(png.tobytes()).decode(),
            "width": inside.shape[1],
            "height": inside.shape[0],
            **_present(label=self.label),
        }

    @staticmethod
    def decode(found: dict[str, Any]) -> NDArray[np.bool_]:
        """The way back: the pixels of a mask as it stands in a result.

        Example:
            inside = fs.Mask.decode(result["edges"])
            pixels = frame.rgb[inside]

        Args:
            found: The object in the result, with `mask` (a PNG in base64).

        Returns:
            bool `(H, W)`, True inside.

        Raises:
            InvalidImage: If it is no mask, or its PNG is damaged.
        """
        png = found.get("mask") if isinstance(found, dict) else None
        if not isinstance(png, str):
            raise InvalidImage(
                f"{_type_name(found)} is no mask: give the object that stands in the result, with `mask` (a PNG in "
                "base64), `width` and `height`"
            )
        try:
            encoded = base64.b64decode(png, validate=True)
        except ValueError as error:
            raise InvalidImage(f"`mask` is no base64 ({error}): give it as it stands in the result") from error
        inside: NDArray[np.bool_] = Frame(encoded).gray != 0
        return inside


@dataclass(frozen=True, slots=True)
class Keypoint:
    """A point in pixels."""

    x: float
    y: float
    label: str | None = None
    confidence: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The point as it stands on the wire."""
        return {"x": self.x, "y": self.y, **_present(label=self.label, confidence=self.confidence)}


@dataclass(frozen=True, slots=True)
class Label:
    """A class of the whole picture."""

    label: str
    confidence: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The label as it stands on the wire."""
        return {"label": self.label, **_present(confidence=self.confidence)}


def encode_result(result: object, *, max_bytes: int) -> bytes:
    """The JSON of a plugin's result.

    Raises:
        PluginError: If it is no dict, holds what JSON cannot say (named by its place), or is too large.
    """
    if not isinstance(result, dict):
        raise PluginError(
            f"returned {_type_name(result)}, not a dict: return {{'value': …}}, or {{}} where there is nothing to say"
        )
    try:
        encoded = _encode(result)
        clean = not any(text in encoded for text in _SUSPICIOUS) or _is_finite(result)
    except (TypeError, ValueError, OverflowError, RecursionError, PluginError):
        clean = False
    if not clean:
        encoded = _encode_slowly(result)
    if len(encoded) > max_bytes:
        raise PluginError(
            f"returned {len(encoded) / 1048576:.1f} MiB of JSON, the limit is {max_bytes / 1048576:.1f}: "
            "return less, or send pictures as PNG"
        )
    return encoded


def _encode_slowly(result: object) -> bytes:
    """Encode a result that orjson refuses, or raise an error that names the place of the value at fault."""
    try:
        return _encode(_plain(result, "result"))
    except RecursionError:
        raise PluginError("returned a result that contains itself or is nested too deeply") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise PluginError(f"returned what JSON cannot say: {error}") from None


def _numpy_or_typed(thing: Any) -> Any:
    """What orjson does not know: typed results, NumPy values; anything else is refused."""
    return _one_step(thing, "result")


def _one_step(thing: Any, where: str) -> Any:
    """A value that is nearer to plain JSON; its parts may need a further step.

    Raises:
        PluginError: If JSON has no value for it.
    """
    import numpy as np

    if (rows := rows_of(thing)) is not None:
        return rows
    if hasattr(type(thing), "to_json"):
        return _value_of_json(thing.to_json(), thing, where)
    if isinstance(thing, (np.generic, np.ndarray)):
        return _one_numpy_step(thing, where)
    if isinstance(thing, (datetime.datetime, datetime.date, datetime.time)):  # a subclass, such as pandas' Timestamp
        if thing != thing:
            raise PluginError(f"{where} is {thing}: JSON has no such time; return None or leave it out")
        return thing.isoformat()
    if isinstance(thing, datetime.timedelta):
        raise PluginError(f"{where} is {_type_name(thing)}, which JSON cannot say; return its seconds as a number")
    raise PluginError(f"{where} is {_type_name(thing)}, which JSON cannot say; make it a list, a number or text")


def _one_numpy_step(thing: Any, where: str) -> Any:
    import numpy as np

    kind = thing.dtype.kind
    if kind == "M":
        if np.isnat(thing).any():
            raise PluginError(f"{where} has a NaT: JSON has no such time; return None or leave it out")
        return thing.astype("datetime64[us]").tolist()
    if kind not in "biufUS":
        raise PluginError(f"{where} is a NumPy {thing.dtype}, which JSON cannot say")
    if kind == "f" and thing.dtype.itemsize > _FLOAT64_BYTES:
        thing = thing.astype(np.float64)  # `tolist` of a longdouble gives longdoubles again
    return thing.tolist()


def _value_of_json(value: Any, thing: Any, where: str) -> Any:
    """What an object's `to_json()` says: a value, or JSON text, which is parsed."""
    if not isinstance(value, (str, bytes)):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        kind = _type_name(thing)
        raise PluginError(f"{where} is {kind}, whose to_json() returned {value!r:.60}, which is no JSON") from None


def _encode(result: object) -> bytes:
    """orjson, unlike msgspec, refuses sets and bytes and writes NumPy arrays without a detour."""
    return orjson.dumps(
        result,
        default=_numpy_or_typed,
        option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS,
    )


def _plain(thing: Any, where: str) -> Any:
    """The slow walk, for a result that did not encode: plain JSON values, or an error that names the place."""
    if isinstance(thing, float):
        if not math.isfinite(thing):
            raise PluginError(f"{where} is {thing}: JSON has no such number; return None or leave it out")
        return float(thing)
    if isinstance(thing, enum.Enum):
        return _plain(thing.value, where)
    if isinstance(thing, int):
        if not _MIN_INT <= thing <= _MAX_INT:
            raise PluginError(f"{where} is {_number(thing)}: whole numbers have 64 bits; return it as a float or text")
        return thing
    if isinstance(thing, str):
        if not thing.isascii() and any("\ud800" <= char <= "\udfff" for char in thing):
            raise PluginError(
                f"{where} is text with surrogates, which UTF-8 cannot say; decode it with errors='replace'"
            )
        return thing
    if (
        thing is None
        or type(thing) in (datetime.datetime, datetime.date, datetime.time)
        or isinstance(thing, uuid.UUID)
    ):
        return thing
    if isinstance(thing, dict):
        for key in thing:
            # NumPy's integers have __index__ as Python's do.
            if isinstance(key, bool) or not (isinstance(key, (str, int)) or hasattr(key, "__index__")):
                raise PluginError(f"{where} has the key {key!r} ({_type_name(key)}); keys are text")
        return {str(key): _plain(value, f"{where}[{key!r}]") for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [_plain(value, f"{where}[{index}]") for index, value in enumerate(thing)]
    if isinstance(thing, (set, frozenset, bytes, bytearray)):
        raise PluginError(f"{where} is {_type_name(thing)}, which JSON cannot say; make it a list or text")
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type) and not hasattr(type(thing), "to_json"):
        return {f.name: _plain(getattr(thing, f.name), f"{where}.{f.name}") for f in dataclasses.fields(thing)}
    return _plain(_one_step(thing, where), where)


def _is_finite(thing: Any) -> bool:
    """True if it holds no NaN and no NaT."""
    if isinstance(thing, float):
        return math.isfinite(thing)
    if isinstance(thing, dict):
        return all(_is_finite(value) for value in thing.values())
    if isinstance(thing, (list, tuple)):
        return all(_is_finite(value) for value in thing)
    return thing is None or isinstance(thing, (str, int))  # typed and NumPy values take the slow walk


def _number(number: int) -> str:
    """A whole number as text; of one that is too long for that its length."""
    return str(number) if number.bit_length() < 256 else f"a whole number of {number.bit_length()} bits"


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _type_name(thing: object) -> str:
    name = type(thing).__qualname__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
