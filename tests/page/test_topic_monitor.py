"""The rows of `fs.TopicMonitor` in Chromium: those that stay are not touched when others come and go."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from forgesyte_nb.widgets.bundle import FOLDERS, bundle
from tests.page.conftest import Watched

pytestmark = pytest.mark.asyncio(loop_scope="module")

USE = """async (source) => {
  const { topicMonitor } = await import(`data:text/javascript;base64,${source}`);
  let show;
  const link = {
    way: "direct",
    onChange() {},
    watch(_feed, { onState }) {
      show = onState;
      return { control: async () => [], retune() {}, pause() {}, resume() {} };
    },
  };
  const root = document.body.appendChild(document.createElement("div"));
  const view = { model: { get: () => "feed" }, root, link, state: { drawn: 0 } };
  topicMonitor({ ...view, badge: document.createElement("span"), signal: new AbortController().signal });
  const row = (number) => ({ number, at: 0, type: "frame_result", rest: "" });
  const state = (...numbers) => ({ topics: ["all"], counts: {}, messages: numbers.map(row) });
  const numbers = () => [...root.querySelectorAll("tbody tr")].map((made) => Number(made.dataset.number));
  show(state(4, 3, 2, 1));
  const touched = [];
  const observer = new MutationObserver((changes) => {
    for (const { addedNodes, removedNodes } of changes) {
      for (const node of [...addedNodes, ...removedNodes]) touched.push(Number(node.dataset.number));
    }
  });
  observer.observe(root.querySelector("tbody"), { childList: true });
  const seen = [numbers()];
  for (const next of [[6, 5, 4, 3], [6, 4], [9, 6, 5, 4], []]) {
    show(state(...next));
    seen.push(numbers());
  }
  await Promise.resolve();
  return { seen, touched: touched.sort() };
}"""


async def test_rows_that_stay_are_not_touched(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "entry.js").write_text('export { topicMonitor } from "./topic_monitor.js";\n')
    source = base64.b64encode(bundle("entry.js", (tmp_path, *FOLDERS)).encode()).decode()
    await watched.page.goto("about:blank")
    found = await watched.page.evaluate(USE, source)
    assert found["seen"] == [[4, 3, 2, 1], [6, 5, 4, 3], [6, 4], [9, 6, 5, 4], []]
    # 1, 2, 3 go, 5 comes, goes and comes again, 6 and 9 come; at the end all go.
    assert found["touched"] == sorted([1, 2, 3, 5, 5, 5, 5, 6, 6, 9, 9, 4])
