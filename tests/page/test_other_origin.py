"""A page of another loopback origin uses `forgesyte.js` of the server: frames, the list of plugins, and no feeds."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import forgesyte_nb as fs
from tests.page.conftest import HERE, Watched

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "correct-horse-battery"  # noqa: S105 -- of this test alone
USE = """async ([url, token]) => {
  const { ForgeSyteClient } = await import(`${url}/forgesyte.js`);
  const client = new ForgeSyteClient(url, { token, backoffMs: 20 });
  await client.connect();
  const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 48 });
  canvas.getContext("2d").fillRect(0, 0, 64, 48);
  const first = await client.analyze(canvas, "boxes");
  const plugins = (await client.plugins()).plugins.map(({ name }) => name);
  const ended = await new Promise((resolve) => {
    setTimeout(() => resolve("nothing was said of the feed"), 200);
    client.watch("any", { onFrame: resolve, onState: resolve });
  });
  await client.close();
  return { type: first.type, plugins, hello: client.hello, ended };
}"""


class Blank(http.server.BaseHTTPRequestHandler):
    """A server of empty pages."""

    def do_GET(self) -> None:
        """Answer with a page without an icon to look for."""
        body = b"<!doctype html><link rel=icon href=data:,>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The URL of a page of another origin."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Blank) as blank:
        thread = threading.Thread(target=blank.serve_forever)
        thread.start()
        yield f"http://localhost:{blank.server_port}/"
        blank.shutdown()
        thread.join()


@pytest.mark.parametrize("token", [None, TOKEN])
async def test_a_page_of_another_origin(watched: Watched, elsewhere: str, tmp_path: Path, token: str | None) -> None:
    settings = fs.Settings(engine="threads", workers=1, token=token)
    registry = fs.plugins.registry.Registry()
    with fs.Server(
        port=0, plugins=[HERE / "plugins"], settings=settings, plugin_registry=registry, log=tmp_path / "log"
    ) as server:
        await watched.page.goto(elsewhere)
        found = await watched.page.evaluate(USE, [f"http://localhost:{server.port}", token])
    assert found["type"] == "frame_result"
    assert "boxes" in found["plugins"]
    assert found["hello"] is None, "it got the seed's protocol"
    assert found["ended"] == "nothing was said of the feed"


REFUSED = """async ([url, tokens]) => {
  const { ForgeSyteClient } = await import(`${url}/forgesyte.js`);
  return tokens.map((token) => {
    try {
      new ForgeSyteClient(url, { token });
      return "accepted";
    } catch (error) {
      return `${error.name}: ${error.message}`;
    }
  });
}"""


async def test_a_token_that_cannot_be_presented_is_refused_as_in_python(
    watched: Watched, elsewhere: str, server: fs.Server
) -> None:
    tokens = ["a b", "ab,c", "ab\n", "\rab", "a\tb", "gr\u00fcn", "a\U0001f512b", "a\x7f"]
    in_python = []
    for token in tokens:
        with pytest.raises(ValueError, match="token=<hidden>") as caught:
            fs.Client(server.url, token=token)
        in_python.append(f"TypeError: {caught.value}")
    await watched.page.goto(elsewhere)
    url = f"http://localhost:{server.port}"
    assert await watched.page.evaluate(REFUSED, [url, tokens]) == in_python
    # What a header carries and a subprotocol does not: no server has such a token.
    (slash,) = await watched.page.evaluate(REFUSED, [url, ["a/b"]])
    assert slash.startswith("TypeError: token=<hidden>: its character 2 is a sign, which cannot be presented")
    assert await watched.page.evaluate(REFUSED, [url, ["!#$%&'*+-.^_`|~aZ0"]]) == ["accepted"]
