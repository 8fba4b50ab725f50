"""The seed's clients and snippets that are kept here are the seed's, to the letter."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SEED = HERE.parents[2] / "shared" / "SEED.md"

KEPT = {
    "client.js": "### JavaScript/Node.js Client",
    "client.py": "### Python Client",
    "snippets/connect_with_retry.js": "### Transient Connection Errors",
    "snippets/connection_recovery.js": "### Connection Recovery",
    "snippets/frame_errors.js": "### Frame Processing Errors",
    "snippets/video_stream.js": "### Video Stream Processing",
    "snippets/process_batch.js": "### Batch Image Processing",
}
"""Each kept file, and the heading in the seed whose first code block it is."""


@pytest.mark.skipif(not SEED.is_file(), reason="no ../shared/SEED.md beside this checkout to compare with")
@pytest.mark.parametrize("name", KEPT)
def test_kept_as_it_stands_in_the_seed(name: str) -> None:
    section = SEED.read_text().split(f"\n{KEPT[name]}\n")[1]
    block = re.search(r"^```\w+\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert block is not None
    forgotten = "import time\n" if name == "client.py" else ""
    assert (HERE / name).read_text() == forgotten + block[1]


def test_every_kept_file_is_compared() -> None:
    kept = {"client.js", "client.py"} | {f"snippets/{path.name}" for path in (HERE / "snippets").iterdir()}
    assert kept == set(KEPT)
