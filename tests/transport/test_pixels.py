"""A plugin in this kernel's server sees exactly the pixels of the source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import Registry
from tests.conftest import run_cell

HASHES = """
import hashlib

@fs.plugin
def hashes(frame) -> dict:
    return {
        "rgb": hashlib.sha256(frame.rgb.tobytes()).hexdigest(),
        "gray": hashlib.sha256(frame.gray.tobytes()).hexdigest(),
        "shape": list(frame.rgb.shape),
    }
"""
ENGINES = pytest.mark.parametrize("engine", ["processes", "threads", "inline"])


def hash_of(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def noisy() -> list[np.ndarray]:
    """Pictures that no lossy format leaves as they are; of odd sizes, so that rows are not aligned."""
    random = np.random.default_rng(1)
    return [random.integers(0, 256, (47, 61, 3), np.uint8) for _ in range(12)]


@pytest.fixture(scope="module")
def ffv1(tmp_path_factory: pytest.TempPathFactory, noisy: list[np.ndarray]) -> Path:
    """A lossless clip of them."""
    path = tmp_path_factory.mktemp("ffv1") / "noisy.mkv"
    with av.open(str(path), "w") as clip:
        stream = clip.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 61, 47, "bgr0"
        for pixels in noisy:
            clip.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        clip.mux(stream.encode(None))
    return path


@ENGINES
def test_of_a_lossless_clip(
    serve_on: Callable[..., fs.Server], ffv1: Path, noisy: list[np.ndarray], engine: str
) -> None:
    assert seen_of(serve_on, ffv1, engine) == [hash_of(pixels) for pixels in noisy]


@ENGINES
def test_of_arrays(serve_on: Callable[..., fs.Server], noisy: list[np.ndarray], engine: str) -> None:
    assert seen_of(serve_on, noisy, engine) == [hash_of(pixels) for pixels in noisy]


@ENGINES
def test_of_gray_arrays(serve_on: Callable[..., fs.Server], noisy: list[np.ndarray], engine: str) -> None:
    gray = [pixels[:, :, 1] for pixels in noisy]
    assert seen_of(serve_on, gray, engine, "gray") == [hash_of(pixels) for pixels in gray]
    assert seen_of(serve_on, gray, engine) == [hash_of(np.dstack([pixels] * 3)) for pixels in gray]


def seen_of(serve_on: Callable[..., fs.Server], source: Any, engine: str, view: str = "rgb") -> list[str]:
    """The hashes of a view that the plugin saw, in the order of the source."""
    registry = Registry()
    run_cell(HASHES, registry)
    server = serve_on(registry, engine=engine)
    stream = fs.stream(source, "hashes", server=server).wait(60)
    try:
        assert not stream.failures
        return [result[view] for result in stream.results]
    finally:
        stream.close()
