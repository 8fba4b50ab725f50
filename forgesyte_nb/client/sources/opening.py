"""`open_source`: a `Source` for a path, URL, array, image or iterable; files are recognised by their content."""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from forgesyte_nb.checks import check_number
from forgesyte_nb.client.caller import warn_caller
from forgesyte_nb.client.sources.base import Source
from forgesyte_nb.client.sources.camera import open_camera
from forgesyte_nb.client.sources.content import (
    HEAD_BYTES,
    IMAGE_SUFFIXES,
    JPEG_START,
    is_picture_file,
    kind_of,
    kind_of_file,
    pictures_in,
)
from forgesyte_nb.client.sources.files import find_pictures, natural_key
from forgesyte_nb.client.sources.live import RECONNECT_S
from forgesyte_nb.client.sources.network import open_url
from forgesyte_nb.client.sources.pages import PagesSource
from forgesyte_nb.client.sources.sequence import PictureSource
from forgesyte_nb.client.sources.urls import is_stream_url
from forgesyte_nb.client.sources.video import VideoFile
from forgesyte_nb.errors import SourceError
from forgesyte_nb.image.pictures import advice_on_base64, as_picture
from forgesyte_nb.keywords import known_keywords

_MOST_CHANNELS = 4  # of one picture; an array of three dimensions whose last is longer is a stack of gray ones


@known_keywords()
def open_source(
    source: Any, *, every: int = 1, loop: bool = False, fps: float | None = None, reconnect_s: float = RECONNECT_S
) -> Source:
    """Open a source of pictures.

    Args:
        source: A uint8 array (one picture `(H, W, 3)` in RGB order or `(H, W)`, or a stack `(N, H, W, 3)`), a
            Pillow image, a `Frame`, bytes of an image or video file; the path of an image (all pages of a TIFF, all
            frames of an animation), a folder with all pictures in it and in its subfolders, a glob such as
            "scans/*.png", a video file; a stream's URL; a camera (`0`, "camera:0", "/dev/video0");
            "synthetic" for drawn moving shapes; or a list or generator of pictures and paths.
        every: Take every n-th picture.
        loop: Begin again at the end.
        fps: Yield no faster than this many pictures per second; by default as fast as they are wanted.
        reconnect_s: For a camera or network stream that goes away: longest time without a connection, in seconds,
            before the source ends with an error. 0 ends it at once.

    Returns:
        A `Source`; use it in a `with`, or close it.

    Raises:
        SourceError: If there is nothing that can be read.
        ValueError: If `every`, `fps` or `reconnect_s` makes no sense.
    """
    check_number("reconnect_s", reconnect_s, least=0)
    pace: dict[str, Any] = {"every": every, "loop": loop, "fps": fps}
    if isinstance(source, Source):
        return source
    if isinstance(source, int) and not isinstance(source, bool):
        return open_camera(str(source), reconnect_s=reconnect_s, **pace)
    if _is_path(source):
        return _open_path(os.fspath(source), reconnect_s, pace)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _open_bytes(bytes(source), pace)
    if hasattr(source, "ndim"):
        stacked = source.ndim == 4 or (source.ndim == 3 and source.shape[2] > _MOST_CHANNELS)
        return _open_list(source, "pictures", pace) if stacked else _open_picture(source, pace)
    if hasattr(source, "getbands"):
        return _open_pillow(source, pace)
    if isinstance(source, Iterable):
        return _open_list(source, _name_of(source), pace)
    as_picture(source)  # raises if it is no picture
    return _open_picture(source, pace)


def _open_list(elements: Iterable[Any], name: str, pace: dict[str, Any]) -> Source:
    return PictureSource(elements, name=name, open_inner=_open_inner, **pace)


def _open_picture(source: Any, pace: dict[str, Any], name: str = "picture") -> Source:
    return PictureSource([source], name=name, names=[name], open_inner=_open_inner, **pace)


def _open_pillow(image: Any, pace: dict[str, Any]) -> Source:
    name = os.path.basename(getattr(image, "filename", "")) or "picture"  # Pillow knows the file
    if (count := getattr(image, "n_frames", 1)) > 1:
        return PagesSource(image, name=name, count=count, **pace)
    return _open_picture(image, pace, name)


def _open_bytes(content: bytes, pace: dict[str, Any]) -> Source:
    kind = kind_of(content[:HEAD_BYTES])
    if kind == "video":
        return VideoFile(content, name="video", **pace)
    count = pictures_in(io.BytesIO(content)) if kind == "image" else 1
    if count > 1 and content.startswith(JPEG_START):
        return VideoFile(content, name="video", open_options={"format": "mjpeg"}, **pace)
    return PagesSource(content, name="picture", count=count, **pace) if count > 1 else _open_picture(content, pace)


def _name_of(elements: Iterable[Any]) -> str:
    """A generator has the name of its function."""
    name = str(getattr(elements, "__name__", ""))
    return name if name.isidentifier() else "pictures"


def _open_path(text: str, reconnect_s: float, pace: dict[str, Any]) -> Source:
    path = Path(os.path.expanduser(text))  # unlike `Path.expanduser`, it leaves a user who is unknown
    if text == "synthetic":
        from forgesyte_nb.client.sources.synthetic import synthetic

        return synthetic(**pace)
    if text.startswith(("camera:", "/dev/video")):
        return open_camera(text.removeprefix("camera:"), reconnect_s=reconnect_s, **pace)
    if advice := advice_on_base64(text):
        raise SourceError(advice)
    if os.path.isdir(path):  # `Path.is_dir` raises for a text that is too long
        return _open_folder(path, text, pace)
    if os.path.isfile(path):
        return _open_file(path, path.name, pace)
    if is_stream_url(text):
        return open_url(text, reconnect_s=reconnect_s, **pace)
    if glob.has_magic(text) and "\0" not in text:
        return _open_glob(path, text, pace)
    raise SourceError(f"No file {text!r} in {Path.cwd()}: give a path, a folder, a glob, 'camera:0' or a URL")


def _open_file(path: Path, name: str, pace: dict[str, Any]) -> Source:
    if is_picture_file(path):
        return _open_pages(path, name, pace) or PictureSource([path], name=name, open_inner=_no_inner, **pace)
    kind = kind_of_file(path)
    if kind == "text":
        raise SourceError(
            f"{name} cannot be read as video or image: it is a text file; give an image, a video, a folder or a "
            "list of paths"
        )
    if kind == "heic":
        raise SourceError(f"{name} is a HEIC picture, which is not read here: save it as JPEG or PNG")
    return VideoFile(path, name=name, **pace)


def _open_pages(path: Path, name: str, pace: dict[str, Any]) -> Source | None:
    """An image file that holds several pictures; None if it holds one, or cannot be read."""
    try:
        with path.open("rb") as file:
            count = pictures_in(file)
            file.seek(0)
            is_jpeg = file.read(3) == JPEG_START
    except OSError:
        return None  # reported when its turn comes
    if count <= 1:
        return None
    if is_jpeg:
        return VideoFile(path, name=name, open_options={"format": "mjpeg"}, **pace)
    return PagesSource(path, name=name, count=count, **pace)


def _open_folder(folder: Path, text: str, pace: dict[str, Any]) -> Source:
    found = find_pictures(folder)
    if not found.files:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        but = f", but {found.left_out}; give those as a list of paths" if found.left_out else ""
        raise SourceError(f"No images in {text}: there is none by its content or suffix ({suffixes}){but}")
    if found.left_out:
        warn_caller(f"{text}: {found.left_out} left out; to read videos, give their paths as a list")
    names = [file.relative_to(folder).as_posix() for file in found.files]
    return PictureSource(found.files, name=text, names=names, open_inner=_open_inner, **pace)


def _open_glob(path: Path, text: str, pace: dict[str, Any]) -> Source:
    found = [Path(match) for match in glob.glob(str(path), recursive=True)]
    files = sorted((file for file in found if file.is_file()), key=natural_key)
    if not files:
        folders = f" ({len(found)} folders do: give a folder, or add /*)" if found else ""
        raise SourceError(f"No file matches {text!r} in {Path.cwd()}{folders}")
    parent = Path(os.path.commonpath([file.parent for file in files]))
    names = [file.relative_to(parent).as_posix() for file in files]
    return PictureSource(files, name=text, names=names, open_inner=_open_inner, **pace)


def _no_inner(_element: Any, _name: str) -> None:
    return None


def _open_inner(element: Any, name: str) -> Source | None:
    """An element of a list that holds several pictures: a source, a folder, a video, a TIFF of many pages."""
    if isinstance(element, Source):
        return element
    if isinstance(element, (bytes, bytearray, memoryview)):
        inner = _open_bytes(bytes(element), {})
        return None if isinstance(inner, PictureSource) else inner
    if not _is_path(element):
        return None
    text = os.path.expanduser(os.fspath(element))
    if os.path.isdir(text):
        return open_source(element)
    if not os.path.isfile(text):
        return None  # reported when its turn comes
    path = Path(text)
    inner = _open_file(path, name or path.name, {})
    return None if isinstance(inner, PictureSource) else inner


def _is_path(source: Any) -> bool:
    return isinstance(source, (str, os.PathLike))
