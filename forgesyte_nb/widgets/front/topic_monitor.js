/** The messages of the server as they come: topics by hand, filter, pause, and each message whole. */

import { element, setText, showJob } from "./dom.js";
import { whileSeen } from "./seen.js";

const COLUMNS = ["at", "type", "status", "plugin", "client_id", "frame_id", "job_id", "rest"];
const HEADS = { at: "time", client_id: "client", frame_id: "frame", job_id: "job", rest: "more" };

/** @param {import("./main.js").View} view */
export function topicMonitor({ model, root, link, state, badge, signal }) {
  let told = { topics: [], messages: [], counts: {} };
  let paused = false;
  const title = element("span", { class: "fs-title" }, "Messages");
  const topics = element("span", { class: "fs-chips" });
  const topic = element("input", { type: "text", placeholder: "all, plugin_ocr, job_…", "aria-label": "Topic", size: "18" });
  const add = element("button", { type: "submit" }, "Subscribe");
  const form = element("form", { class: "fs-controls" }, topics, topic, add);
  const filter = element("input", { type: "search", placeholder: "filter: type, plugin, client, job, …", "aria-label": "Filter", size: "30" });
  const pause = element("button", { type: "button", "aria-pressed": "false" }, "Pause");
  const clear = element("button", { type: "button" }, "Clear");
  const counts = element("span", { class: "fs-ledger" });
  const rows = element("tbody");
  const head = element("tr", {}, ...COLUMNS.map((name) => element("th", { scope: "col", class: `fs-${name}` }, HEADS[name] ?? name)));
  const table = element("div", { class: "fs-scroll" }, element("table", {}, element("thead", {}, head), rows));
  const whole = element("pre", { class: "fs-whole", hidden: true, tabindex: "0" });
  let looked = null; // number of the message that is shown whole
  const note = element("p", { class: "fs-note", role: "status" });
  root.append(
    element("div", { class: "fs-top" }, title, badge), form,
    element("div", { class: "fs-controls" }, filter, pause, clear), counts, table, whole, note,
  );
  const act = (action, value) => feed.control(action, value).then(
    (answer) => (setText(note, ""), answer),
    (error) => setText(note, error.message),
  );
  const feed = link.watch(model.get("_feed"), {
    onState(newest) {
      state.told = newest;
      state.drawn += 1;
      const { messages } = told;
      told = paused ? { ...newest, messages } : newest;
      draw();
    },
    onEnd: (reason) => setText(note, reason),
  });
  const draw = () => {
    drawTopics(topics, told.topics, (one) => act("unsubscribe", one));
    drawCounts(counts, told);
    const wanted = filter.value.trim().toLowerCase();
    const shown = told.messages.filter((row) => wanted === "" || JSON.stringify(row).toLowerCase().includes(wanted));
    keep(rows, shown, (row) => rowElement(row, look));
    if (shown.length === 0) setText(note, wanted ? "No message matches the filter." : "No message yet.");
    else if (/^No message/.test(note.textContent)) setText(note, "");
  };
  const look = async (number) => {
    looked = looked === number ? null : number;
    const message = looked === null ? null : await act("message", number);
    whole.hidden = message === null || message === undefined;
    if (!whole.hidden) setText(whole, JSON.stringify(message, null, 2));
    for (const row of rows.children) row.classList.toggle("fs-chosen", !whole.hidden && row.dataset.number === String(looked));
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (topic.value.trim()) act("subscribe", topic.value.trim()).then((done) => done && (topic.value = ""));
  });
  filter.addEventListener("input", draw);
  clear.addEventListener("click", () => {
    told = { ...told, messages: [] };
    act("clear").then(draw);
  });
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    setText(pause, paused ? "Go on" : "Pause");
    if (!paused && state.told) {
      told = state.told;
      draw();
    }
  });
  whileSeen(root, signal, feed, link);
}

function drawTopics(root, topics, drop) {
  if (root.dataset.topics === topics.join()) return;
  root.dataset.topics = topics.join();
  root.replaceChildren(...topics.map((one) => {
    const button = element("button", { type: "button", "aria-label": `Unsubscribe from ${one}`, title: "Unsubscribe" }, "×");
    button.addEventListener("click", () => drop(one));
    return element("span", { class: "fs-chip" }, one, button);
  }));
  if (topics.length === 0) root.append("no topic subscribed");
}

function drawCounts(root, { counts, total = 0, rate_per_s: rate = 0, forgotten = 0 }) {
  const parts = Object.entries(counts).map(([name, count]) => element("span", { class: "fs-part" }, element("b", {}, String(count)), ` ${name}`));
  const all = element("span", { class: "fs-part" }, element("b", {}, String(total)), " messages");
  const pace = element("span", { class: "fs-rate" }, `${rate}/s`);
  root.replaceChildren(all, ...parts, pace, forgotten ? `${forgotten} kept no longer` : "");
}

/**
 * Rows by number, which falls from row to row: those that stay are not touched, so a click or a selection is not lost and
 * only the new ones are laid out.
 */
function keep(body, rows, make) {
  const wanted = new Set(rows.map((row) => String(row.number)));
  for (const row of [...body.children]) if (!wanted.has(row.dataset.number)) row.remove();
  let next = body.firstElementChild;
  for (const row of rows) {
    if (next?.dataset.number === String(row.number)) next = next.nextElementSibling;
    else body.insertBefore(make(row), next);
  }
}

function rowElement(row, look) {
  const time = new Date(row.at * 1000);
  const texts = { ...row, at: `${time.toLocaleTimeString([], { hour12: false })}.${String(time.getMilliseconds()).padStart(3, "0")}` };
  const opens = element("button", { type: "button", class: "fs-plain", "aria-label": `Show message ${row.number} whole` }, texts.at);
  const cells = COLUMNS.slice(1).map((name) => element("td", { class: `fs-${name}` }, String(texts[name] ?? "")));
  if (row.job_id) showJob(cells[COLUMNS.indexOf("job_id") - 1], row.job_id);
  const made = element("tr", { "data-number": row.number, "data-type": row.type }, element("td", {}, opens), ...cells);
  made.addEventListener("click", () => getSelection().isCollapsed && look(row.number)); // else a text was selected
  return made;
}
