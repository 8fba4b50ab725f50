"""What the demo sends to which plugin, and what came of it: plain lists, no sending."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from forgesyte_nb.client.results import Result
from forgesyte_nb.demo.media import Media
from forgesyte_nb.image.frame import Frame

_BLOCKS_ACROSS = 64


@dataclass
class Round:
    """What goes to one plugin: streams, each with pictures and options; and what came of it.

    Attributes:
        results: In the order of the pictures; one that did not come is missing.
        took_s: From the first picture sent to the last result.
    """

    plugin: str
    streams: list[tuple[list[Frame], dict[str, Any]]]
    results: list[Result] = field(default_factory=list)
    took_s: float = 0.0

    def __len__(self) -> int:
        return sum(len(frames) for frames, _ in self.streams)


def make_rounds(media: Media, *, quick: bool) -> list[Round]:
    """What goes to which plugin."""
    photos = [photo.frame for photo in media.photos]
    faces = [(photos, {})] if quick else [(photos, {}), (media.clip, {"max_size": 320})]
    return [
        Round("motion_detector", [(media.clip, {})]),
        Round("face_detector", faces),
        Round("image_stats", [(photos, {"colors": 8, "bins": 32})]),
        Round("block_mapper", [([photo], _grid(photo)) for photo in photos]),
        Round("ocr", [([page.frame], page.options) for page in media.pages]),
    ]


def _grid(photo: Frame) -> dict[str, Any]:
    """Square blocks: as many down as the picture's shape asks for."""
    width, height = photo.size_wh
    return {"width": _BLOCKS_ACROSS, "height": round(_BLOCKS_ACROSS * height / width)}
