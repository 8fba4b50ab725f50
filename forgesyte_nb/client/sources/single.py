"""Calls that take one picture: recognise collections, and take the first picture of a file that holds several."""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from forgesyte_nb.client.sources.base import Source
from forgesyte_nb.client.sources.content import (
    HEAD_BYTES,
    JPEG_START,
    first_jpeg,
    is_picture_file,
    kind_of,
    kind_of_file,
    pictures_in,
)
from forgesyte_nb.client.sources.urls import is_stream_url
from forgesyte_nb.image.frame import Frame


def collection_kind(image: Any) -> str:
    """What a user's image is, if it is a collection of pictures: "a video"; else an empty text."""
    if isinstance(image, (str, os.PathLike)):
        path = os.path.expanduser(image)  # `os.path` takes any text, such as a picture in base64; `Path` raises
        if os.path.isdir(path):
            return "a folder"
        if os.path.isfile(path):
            return "" if is_picture_file(Path(path)) or kind_of_file(Path(path)) != "video" else "a video"
        return "a glob" if not is_stream_url(os.fspath(image)) and glob.has_magic(path) else ""
    if isinstance(image, (bytes, bytearray)):
        return "a video" if kind_of(bytes(image[:HEAD_BYTES])) == "video" else ""
    if isinstance(image, (list, tuple, Iterator)) and not hasattr(image, "read"):  # what a file yields are lines
        return f"a {type(image).__name__}"
    return "a source" if isinstance(image, Source) else "a stack" if getattr(image, "ndim", 0) == 4 else ""


def first_and_count(image: Any) -> tuple[Any, int]:
    """The first picture of an image file, and the number of pictures in it.

    Args:
        image: A path, bytes, or an image that Pillow has opened; anything else is one picture.

    Returns:
        The image itself, or the first picture cut out of an MJPEG file; and the number.
    """
    if isinstance(image, (bytes, bytearray)):
        count = pictures_in(io.BytesIO(image))
        return (first_jpeg(bytes(image)) if count > 1 and image[:3] == JPEG_START else image), count
    if isinstance(image, (str, os.PathLike)):
        path = os.path.expanduser(os.fspath(image))
        if not os.path.isfile(path):
            return image, 1
        with open(path, "rb") as file:
            if (count := pictures_in(file)) <= 1:
                return image, 1
            file.seek(0)
            if file.read(3) != JPEG_START:
                return image, count
            file.seek(0)
            return Frame(first_jpeg(file.read()), frame_id=os.fspath(image)), count
    if hasattr(image, "getbands") and image.tell() == 0:
        return image, getattr(image, "n_frames", 1)
    return image, 1
