"""Streams of the kernel's own server, held against the loop that a user would write instead."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import av

from tests.benchmarks.bench import Bench, Skipped
from tests.benchmarks.child import ROOT, Child
from tests.benchmarks.table import Row, Scale, median_row

_CLIP = "data/video/car-detection.mp4"
_LARGE_WH = (1920, 1080)
_LARGE_FRAMES = 120
_CASES = (
    ("processes", "gray_mean", 0.90),
    ("threads", "gray_mean", 0.90),
    ("inline", "gray_mean", 0.90),
    ("processes", "image_stats", 1.6),
    ("processes", "motion_detector", 1.5),
)
_CPU_TARGET_MS = 0.6


def clips_in_the_kernel(bench: Bench, _scale: Scale) -> list[Row]:
    """A real H.264 clip of 768×432, and the same at 1920×1080, in turns with the loop."""
    clip = Path(os.environ.get("FORGESYTE_SHARED", ROOT.parent / "shared")) / _CLIP
    if not clip.is_file():
        raise Skipped(f"the clip {_CLIP} is absent; set FORGESYTE_SHARED")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        large = _enlarged(clip, Path(folder) / "large.mp4")
        for engine, plugin, target in _CASES:
            with Child("in_kernel", engine, plugin) as child:
                rows += _rows(bench, child, clip, f"{plugin}, {engine}, 768×432", target)
                rows += _rows(bench, child, large, f"{plugin}, {engine}, 1920×1080", target)[:1]
    return rows


def _rows(bench: Bench, child: Child, clip: Path, name: str, target: float) -> list[Row]:
    child.ask(f"loop {clip}")
    child.ask(f"stream {clip}")
    ratios, added_ms, fps = [], [], []
    for number in range(2 if bench.quick else 6):
        first, second = ("loop", "stream") if number % 2 else ("stream", "loop")
        answers = {first: child.ask(f"{first} {clip}"), second: child.ask(f"{second} {clip}")}
        ratios.append(answers["stream"]["fps"] / answers["loop"]["fps"])
        added_ms.append(answers["stream"]["cpu_ms"] - answers["loop"]["cpu_ms"])
        fps.append(answers["stream"]["fps"])
    detail = f"{sorted(fps)[len(fps) // 2]:.0f} pictures/s"
    return [
        median_row(f"in the kernel / loop: {name}", ratios, target=target, detail=detail),
        median_row(f"in the kernel, CPU added: {name}", added_ms, unit="ms", target=_CPU_TARGET_MS, at_least=False),
    ]


def _enlarged(clip: Path, path: Path) -> Path:
    """The first pictures of a clip at 1920×1080, H.264."""
    with av.open(str(clip)) as source, av.open(str(path), "w") as made:
        stream = made.add_stream("libx264", rate=25, options={"preset": "fast"})
        stream.width, stream.height = _LARGE_WH
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(source.decode(video=0)):
            if number == _LARGE_FRAMES:
                break
            enlarged = picture.reformat(*_LARGE_WH, format="yuv420p")
            enlarged.pts = None
            made.mux(stream.encode(enlarged))
        made.mux(stream.encode(None))
    return path
