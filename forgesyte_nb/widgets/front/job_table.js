/** The jobs of the server: one row each, newest first. */

import { element, setText, showJob } from "./dom.js";
import { whileSeen } from "./seen.js";

const HEADS = ["job", "plugin", "client", "frame", "status", "ms", "error"];

/** @param {import("./main.js").View} view */
export function jobTable({ model, root, link, state, badge, signal }) {
  const counts = element("span", { class: "fs-ledger" });
  const clear = element("button", { type: "button", title: "Take the ended jobs from the table" }, "Clear ended");
  const rows = element("tbody");
  const head = element("tr", {}, ...HEADS.map((name) => element("th", { scope: "col" }, name)));
  const table = element("div", { class: "fs-scroll" }, element("table", {}, element("thead", {}, head), rows));
  const note = element("p", { class: "fs-note", role: "status" }, "No job yet.");
  root.append(
    element("div", { class: "fs-top" }, element("span", { class: "fs-title" }, "Jobs"), badge),
    element("div", { class: "fs-controls" }, counts, clear), table, note,
  );
  const known = new Map();
  const feed = link.watch(model.get("_feed"), {
    onState(told) {
      counts.replaceChildren(...Object.entries(told.counts).map(([name, count]) =>
        element("span", { class: "fs-part" }, element("b", { class: name === "failed" && count ? "fs-errors fs-some" : null }, String(count)), ` ${name}`)));
      rows.replaceChildren(...told.jobs.map((job) => rowOf(job, known)));
      for (const [jobId, row] of known) if (!row.isConnected) known.delete(jobId);
      setText(note, told.jobs.length ? "" : "No job yet.");
      state.told = told;
      state.drawn += 1;
    },
    onEnd: (reason) => setText(note, reason),
  });
  clear.addEventListener("click", () => feed.control("clear").catch((error) => setText(note, error.message)));
  whileSeen(root, signal, feed, link);
}

function rowOf(job, known) {
  let row = known.get(job.job_id);
  if (row === undefined) {
    row = element("tr", {}, ...HEADS.map(() => element("td")));
    row.children[4].append(element("span"), element("progress", { max: "100", value: "0", "aria-label": "progress" }));
    known.set(job.job_id, row);
  }
  const [id, plugin, client, frame, status, ms, error] = row.children;
  const [word, progress] = status.children;
  showJob(id, job.job_id);
  setText(plugin, job.plugin ?? "");
  setText(client, job.client_id ?? "");
  setText(frame, job.frame_id ?? "");
  setText(word, job.status);
  row.dataset.status = job.status;
  progress.hidden = job.status !== "processing";
  progress.value = job.progress_percent ?? 0;
  setText(ms, job.processing_time_ms === null ? "" : job.processing_time_ms.toFixed(1));
  setText(error, job.error ?? "");
  return row;
}
