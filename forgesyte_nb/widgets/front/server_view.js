/** A server at a glance: where it is, what it can do, who is there, and the end of its log. */

import { element, setText } from "./dom.js";
import { whileSeen } from "./seen.js";

/** @param {import("./main.js").View} view */
export function serverView({ model, root, link, state, badge, signal }) {
  const url = element("code", { class: "fs-title" });
  const page = element("a", { target: "_blank", rel: "noopener", title: "The page that every server offers" }, "open its page");
  const counts = element("span", { class: "fs-ledger" });
  const plugins = element("tbody");
  const clients = element("tbody");
  const clientsRoot = element("details", {}, element("summary", {}, "clients"), element("table", { class: "fs-names" }, clients));
  const failures = element("p", { class: "fs-problem" });
  const log = element("pre", { class: "fs-log", tabindex: "0" });
  const note = element("p", { class: "fs-note", role: "status" });
  root.append(
    element("div", { class: "fs-top" }, url, page, badge), counts,
    element("details", {}, element("summary", {}, "plugins"), element("table", { class: "fs-names" }, plugins)), clientsRoot, failures,
    element("details", {}, element("summary", {}, "log"), log), note,
  );
  log.parentElement.addEventListener("toggle", () => (log.scrollTop = log.scrollHeight));
  const feed = link.watch(model.get("_feed"), {
    onState(told) {
      setText(url, told.url);
      page.href = told.page_url;
      drawCounts(counts, told);
      plugins.replaceChildren(...told.plugins.map(({ name, revision, about }) =>
        element("tr", {}, element("th", { scope: "row" }, `${name} r${revision}`), element("td", {}, about))));
      clients.replaceChildren(...told.clients.map(({ client_id: id, frames }) =>
        element("tr", {}, element("th", { scope: "row" }, id), element("td", {}, `${frames} frames`))));
      clientsRoot.hidden = told.clients.length === 0;
      const failed = Object.entries(told.failures).map(([name, reason]) => `${name}: ${reason}`);
      setText(failures, failed.join("\n"));
      const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
      setText(log, told.log);
      if (atEnd) log.scrollTop = log.scrollHeight;
      setText(note, told.running ? "" : "The server is closed; fs.serve() starts one.");
      state.told = told;
      state.drawn += 1;
    },
    onEnd: (reason) => setText(note, reason),
  });
  whileSeen(root, signal, feed, link);
}

function drawCounts(root, { stats, rate_fps: rate, engine, plugins, displays }) {
  const part = (number, word) => element("span", { class: "fs-part" }, element("b", {}, String(number)), ` ${word}`);
  const some = (number, word) => part(number, number === 1 ? word : `${word}s`);
  if (stats === null) root.replaceChildren("closed");
  else {
    root.replaceChildren(
      some(plugins.length, "plugin"), some(stats.connections - displays, "client"), some(stats.results, "result"),
      some(stats.errors, "error"), part(stats.active, "under way"), part(rate.toFixed(1), "results/s"), some(displays, "widget"),
      `engine ${engine}`,
    );
  }
}
