"""Decoding under a limit of memory, in a process of its own, as workers do it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import PATIENCE_S

SCRIPT = """
import resource
import sys
import cv2
import numpy as np
from forgesyte_nb.image import memory as decode_memory
from forgesyte_nb.image import decode as decoders
from forgesyte_nb.errors import InvalidImage
from forgesyte_nb.image.frame import Frame
from tests.conftest import PATIENCE_S, encoded

decode_memory.limit_in_this_process()
before = resource.getrlimit(resource.RLIMIT_AS)
pixels = np.random.default_rng(1).integers(0, 255, (1300, 1600, 3), np.uint8)
for kind in ("JPEG", "PNG", "TIFF", "BMP"):
    assert Frame(encoded(pixels, kind)).rgb.shape == pixels.shape, kind
for kind in ("WEBP", "GIF"):
    assert Frame(encoded(pixels[:300, :400], kind)).size_wh == (400, 300), kind
assert Frame(encoded((pixels[..., 0].astype(np.uint16) * 257), "PNG")).rgb.shape == pixels.shape

def greedy(*_, **__):
    return bytearray(2_000_000_000)

import concurrent.futures
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    bodies = [encoded(pixels[:200, :300], "PNG")] * 40
    assert {frame.size_wh for frame in pool.map(Frame, bodies)} == {(300, 200)}
assert resource.getrlimit(resource.RLIMIT_AS) == before, "a plugin's own threads are not limited"

decoders._with_opencv = greedy
try:
    Frame(encoded(pixels[:100, :100], "PNG")).rgb
except InvalidImage as error:
    print(error)
assert resource.getrlimit(resource.RLIMIT_AS) == before
bytearray(2_000_000_000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much address space a process has")
def test_a_decoder_that_wants_far_more_than_the_picture_needs_is_refused_and_nobody_else() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PNG of 100×100 takes more memory to decode than a picture of its size should")


TAGS = """
import resource
import numpy as np
from forgesyte_nb.image.frame import Frame
from tests.chaos.bombs import tiff_of_tags
from tests.conftest import encoded

def decode(data):
    frame = Frame(data)
    return frame.rgb.shape, frame.pil.size

decode(encoded(np.zeros((8, 8, 3), np.uint8), "TIFF"))
data = tiff_of_tags(100, 10_000_000, tag=40_000, kind=7, unit=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(decode(data))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the unit of ru_maxrss differs")
def test_a_hundred_tags_in_the_same_ten_megabytes_take_the_memory_of_the_file() -> None:
    """Pillow before 13 would copy the bytes of each: 1 GB."""
    done = subprocess.run([sys.executable, "-c", TAGS], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    decoded, more_mib = done.stdout.splitlines()
    assert decoded == "((8, 8, 3), (8, 8))"
    assert int(more_mib) < 40
