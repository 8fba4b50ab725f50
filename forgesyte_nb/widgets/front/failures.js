/** Frames that failed: what was raised, in which line of which cell, and the traceback for whoever opens it. */

import { element, setText } from "./dom.js";

const HINT = "To look into it, in a cell: .failures[-1].rerun() of the stream or panel, then %debug";

/**
 * @param {(key: string) => Promise<string>} traceback Asks the kernel for the traceback of one.
 * @returns {{root: HTMLElement, show: (failures: object[], revision: number | null) => void}} `revision` is the one in
 *   force: what failed before is marked as older.
 */
export function failuresView(traceback) {
  const root = element("div", { class: "fs-failures", role: "group", "aria-label": "Failures", hidden: true });
  const known = new Map();
  return {
    root,
    show(failures, revision) {
      const rows = failures.map((failure) => {
        const name = JSON.stringify([failure.code, failure.message, failure.place, failure.revision]);
        const row = known.get(name) ?? rowOf(traceback);
        known.set(name, row);
        row.show(failure, revision);
        return row.root;
      });
      if (rows.some((row, index) => root.children[index] !== row) || rows.length !== root.children.length) root.replaceChildren(...rows);
      for (const [name, row] of known) if (!row.root.isConnected && !rows.includes(row.root)) known.delete(name);
      root.hidden = rows.length === 0;
    },
  };
}

function rowOf(traceback) {
  const message = element("b", { class: "fs-errors fs-some" });
  const about = element("span", { class: "fs-note" });
  const place = element("span", { class: "fs-place" });
  const source = element("code", { class: "fs-code" });
  const text = element("pre", { class: "fs-whole", tabindex: "0" });
  const summary = element("summary", {}, message, " ", about, element("span", { class: "fs-line" }, place, source));
  const root = element("details", { class: "fs-failure" }, summary, text, element("p", { class: "fs-note" }, HINT));
  let key = null;
  let shownKey = null;
  root.addEventListener("toggle", async () => {
    if (!root.open || key === shownKey) return;
    const asked = key;
    await traceback(asked).then((answer) => setText(text, answer), (error) => setText(text, error.message));
    shownKey = asked;
  });
  return {
    root,
    show(failure, revision) {
      key = failure.key;
      setText(message, failure.code === "PLUGIN_ERROR" ? failure.message : `${failure.code}: ${failure.message}`);
      setText(about, aboutOf(failure, revision));
      root.classList.toggle("fs-older", failure.revision !== null && revision !== null && failure.revision < revision);
      setText(place, failure.place ?? "");
      setText(source, failure.source);
      source.hidden = failure.source === "";
    },
  };
}

function aboutOf({ count, name, at, revision: failed }, revision) {
  const time = new Date(at * 1000).toLocaleTimeString([], { hour12: false });
  const times = count > 1 ? `${count} times, last ` : "";
  const code = failed === null ? "" : failed === revision ? `, revision ${failed}` : `, revision ${failed}, which is no longer in force`;
  return `${times}${time} on ${name}${code}`;
}
