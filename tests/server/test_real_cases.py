"""Public pictures that decoders misread have their right colours, from `fs.Frame` and from a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import forgesyte_nb as fs
from tests.conftest import Connect
from tests.server.conftest import Start

PLUGIN = """
@fs.plugin
def pixels(frame):
    return {"rgb": frame.rgb.tolist()}
"""

CASES: dict[str, dict[str, Any]] = {
    "hopper_orientation_6.webp": {"size": [128, 128], "corner": [52.0, 48.9, 83.6]},
    "photoshop-200dpi-broken.jpg": {"size": [200, 200], "mean": [92.1] * 3},
    "rgb16-565.bmp": {"size": [127, 64], "max": [255] * 3},
    "seq-4c-8b-rgba-unassoc-50969cda.tiff": {"size": [16, 16], "mean": [126, 127, 128]},
    "BigTIFFMotorola.tif": {"size": [64, 64], "corner": [255.0, 13.9, 13.9]},
}
"""By file name: its right size and colours, to within a tenth."""


@pytest.fixture(scope="module")
def server(start_for_module: Start) -> fs.Server:
    return start_for_module(PLUGIN, engine="processes")


@pytest.fixture
def picture(shared_cases: Path) -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        if not (shared_cases / name).exists():
            pytest.skip(f"no shared case {name}")
        return (shared_cases / name).read_bytes()

    return read


@pytest.mark.parametrize("name", CASES)
async def test_colours(name: str, server: fs.Server, client: Connect, picture: Callable[[str], bytes]) -> None:
    data = picture(name)
    rgb = fs.Frame(data).rgb
    found = {
        "size": [rgb.shape[1], rgb.shape[0]],
        "mean": rgb.mean((0, 1)),
        "max": rgb.max((0, 1)),
        "corner": rgb[:32, :32].mean((0, 1)),
    }
    for key, expected in CASES[name].items():
        assert np.allclose(found[key], expected, atol=0.1), (key, found)
    answer = await (await client(server)).analyze(name, data, "pixels")
    assert answer["result"]["rgb"] == rgb.tolist()


def test_a_big_endian_bigtiff_has_the_pixels_that_tifffile_reads(shared_cases: Path) -> None:
    path = shared_cases / "BigTIFFMotorola.tif"
    assert np.array_equal(fs.Frame(path.read_bytes()).rgb, tifffile.imread(path))
