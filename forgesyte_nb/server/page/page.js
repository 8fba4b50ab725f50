/**
 * The page: a picture, a video or a camera goes to a plugin, and what it says is drawn over the picture.
 *
 * This module holds the page's state and ties the others together: a source (`picture_sources.js`) yields pictures,
 * `client.stream` sends them with the options that the controls (`controls.js`) told, and each answer is drawn
 * (`overlay.js`) over the very picture it is about. They know nothing of one another or of the page. Options and rate
 * are read for each frame and a new intent starts the stream anew, so that turning a control acts at once. All text
 * of servers, plugins and files goes through `textContent`. `canvas.dataset` tells how many results were drawn and
 * what was in the last (for tests).
 */

import { element, optionControls } from "./controls.js";
import { ForgeSyteClient } from "./forgesyte.js";
import { drawOverlay, loadMasks, rowsOf, shapesOf } from "./overlay.js";
import { Camera, Demo, cameraRemedy, openFile } from "./picture_sources.js";
import { neededToken } from "./token.js";

const TABLE_EVERY_MS = 200;
const NOTICE_STAYS_MS = 4000;
const PACE_WINDOW_MS = 3000;
const LATENCIES = 300;
const REFRESH_MS = 300;
const FIRST_RETRY_MS = 2000;
const SVG = "http://www.w3.org/2000/svg";

const at = (id) => document.getElementById(id);
const canvas = at("canvas");
const client = new ForgeSyteClient(undefined, { token: await neededToken(at("notices")) });

let plugins = [];
let refreshTimer = null;
let source = null; // what is looked at
let openings = 0; // sources that were asked for; a camera may open after something else was chosen
let wanted = false; // whether pictures should flow, as soon as they can
let run = null; // AbortController of the stream under way
let shown = null; // {picture, shapes, message} on the canvas
let optionValues = new Map(); // by plugin: values that differ from the defaults
const latencies = [];
const arrivals = [];

// Notices

/** Say what is wrong and what helps; one notice for each key. */
function notice(key, title, text, { tone = "bad", action = null } = {}) {
  const box = element("div", { className: `notice ${tone}`, id: `notice-${key}` }, element("strong", { textContent: title }));
  box.append(element("p", { textContent: text }));
  if (action) box.append(element("button", { type: "button", textContent: action.name, onclick: action.run }));
  box.dataset.at = String(performance.now());
  const old = at(`notice-${key}`);
  if (old) old.replaceWith(box);
  else at("notices").append(box);
}

function clearNotice(key, olderThanMs = 0) {
  const box = at(`notice-${key}`);
  if (box && performance.now() - Number(box.dataset.at) >= olderThanMs) box.remove();
}

// What is looked at

function cameraFailed(error) {
  const [title, text] = cameraRemedy(error);
  notice("source", title, text, { tone: "warn" });
}

async function lookAt(opening, failed) {
  clearNotice("source");
  const turn = ++openings;
  let opened;
  try {
    opened = await opening;
  } catch (error) {
    failed(error);
    return;
  }
  if (turn !== openings) {
    opened.close();
    return;
  }
  stop();
  source?.close();
  source = opened;
  for (const [id, kind] of [["camera", Camera], ["demo", Demo]]) {
    at(id).setAttribute("aria-pressed", String(source instanceof kind));
  }
  at("caption").textContent = source.name;
  if (source.still) draw(source.drawable(), null, null);
  start();
}

function lookAtFile(file) {
  return lookAt(openFile(file), (error) => {
    const text = `${file.name}: ${error.message}. Convert it to PNG, JPEG, WebP, MP4 or WebM.`;
    notice("source", "This browser cannot show that file", text, { tone: "warn" });
  });
}

// The stream

const everyFrame = () => document.querySelector("input[name=intent]:checked").value === "every_frame";

function start() {
  wanted = true;
  latencies.length = arrivals.length = 0;
  const plugin = at("plugin").value;
  if (source === null || !plugin || client.state === "closed" || client.state === "idle") return showRun();
  const mine = (run = new AbortController());
  showRun();
  clearNotice("plugin");
  follow(source, plugin, mine)
    .catch((error) => notice("plugin", "The stream has ended", error.message))
    .finally(() => run === mine && stop());
}

function stop() {
  wanted = false;
  run?.abort();
  run = null;
  showRun();
}

function restart() {
  if (run === null) return;
  stop();
  start();
}

async function follow(looked, plugin, mine) {
  const intent = everyFrame() && !looked.still ? "every_frame" : "freshest";
  const how = { intent, window: looked.still ? 1 : intent === "freshest" ? 2 : 8, signal: mine.signal };
  const frames = looked.frames(mine.signal, { rate: () => Number(at("rate").value), everyFrame: everyFrame() });
  for await (const outcome of client.stream(frames, plugin, () => optionsOf(plugin), how)) {
    await arrived(outcome, looked);
    if (mine.signal.aborted) return;
  }
}

async function arrived({ image, message, error, latencyMs }, looked) {
  latencies.push(latencyMs);
  if (latencies.length > LATENCIES) latencies.shift();
  arrivals.push(performance.now());
  showLedger();
  if (error !== null) {
    notice("plugin", `${error.code} — ${message?.plugin ?? at("plugin").value}`, error.message);
    draw(looked.drawable(image), null, null);
    if (error.code === "INVALID_OPTIONS" || error.code === "PLUGIN_NOT_FOUND") refreshPlugins();
    return;
  }
  clearNotice("plugin", looked.still ? 0 : NOTICE_STAYS_MS);
  const shapes = await loadMasks(shapesOf(message.result));
  if (source === looked) draw(looked.drawable(image), shapes, message);
  const known = plugins.find(({ name }) => name === message.plugin);
  if (known && message.plugin_revision !== undefined && known.revision !== message.plugin_revision) refreshPlugins();
}

function showRun() {
  at("run").hidden = at("sending-card").hidden = source?.still === true; // a picture is sent when something changes
  at("run").disabled = source === null || !at("plugin").value;
  at("run").textContent = run === null ? "Start" : "Stop";
}

// Drawing

function draw(picture, shapes, message) {
  shown = { picture, shapes, message };
  paint();
  if (message === null) return;
  const counts = Object.entries(shapes).map(([kind, list]) => [kind, list.length]);
  Object.assign(canvas.dataset, Object.fromEntries(counts), {
    drawn: Number(canvas.dataset.drawn ?? 0) + 1,
    plugin: message.plugin,
  });
  tabulate();
}

function paint() {
  if (shown === null) return;
  const { picture, shapes } = shown;
  at("empty").hidden = true;
  canvas.hidden = false;
  const room = Math.max(260, window.innerHeight * 0.72);
  const scale = Math.min(at("view").clientWidth / picture.width, room / picture.height, 3);
  const [width, height] = [picture.width * scale, picture.height * scale];
  const dense = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * dense);
  canvas.height = Math.round(height * dense);
  canvas.style.width = `${width}px`;
  const context = canvas.getContext("2d");
  context.scale(dense, dense);
  context.drawImage(picture, 0, 0, width, height);
  if (shapes) drawOverlay(context, shapes, { scale, width, height });
}

let tableTimer = null;

/** The table follows a few times a second: nobody reads faster, and it costs more than the picture. */
function tabulate() {
  tableTimer ??= setTimeout(() => {
    tableTimer = null;
    if (!shown?.message) return;
    at("result-card").hidden = false;
    at("result").replaceChildren(...rowsOf(shown.message.result).map(tableRow));
    if (at("raw").open) showRaw();
  }, TABLE_EVERY_MS);
}

function tableRow(row) {
  if (row.kind === "text") {
    const cell = element("td", { className: "text", colSpan: 2 });
    cell.append(element("span", { className: "quiet", textContent: row.name }), element("div", { textContent: row.text }));
    return element("tr", {}, cell);
  }
  const cell = element("td");
  if (row.kind === "bars") cell.append(bars(row.numbers));
  else if (row.kind === "color") {
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = `rgb(${row.rgb.map(Number).join(" ")})`;
    cell.append(swatch, row.text);
  } else cell.textContent = row.text;
  return element("tr", {}, element("th", { textContent: row.name, scope: "row" }), cell);
}

function bars(numbers) {
  const picture = document.createElementNS(SVG, "svg");
  const most = Math.max(...numbers, 0) || 1;
  picture.setAttribute("class", "bars");
  picture.setAttribute("viewBox", `0 0 ${numbers.length} 1`);
  picture.setAttribute("preserveAspectRatio", "none");
  numbers.forEach((number, index) => {
    const bar = document.createElementNS(SVG, "rect");
    const height = Math.max(0, number / most);
    for (const [name, value] of Object.entries({ x: index, y: 1 - height, width: 0.8, height })) bar.setAttribute(name, value);
    picture.append(bar);
  });
  return picture;
}

function showRaw() {
  const text = shown?.message ? JSON.stringify(shown.message, null, 2) : "";
  at("raw").querySelector("pre").textContent = text.length > 20_000 ? `${text.slice(0, 20_000)}\n…` : text;
}

// Plugins and their options

/** A cell may have changed a plugin: ask again, but not for every frame. */
function refreshPlugins() {
  refreshTimer ??= setTimeout(() => {
    refreshTimer = null;
    loadPlugins();
  }, REFRESH_MS);
}

async function loadPlugins() {
  let answer;
  try {
    answer = await client.plugins();
  } catch (error) {
    notice("plugins", "The list of plugins cannot be read", error.message);
    return;
  }
  clearNotice("plugins");
  const chosen = at("plugin").value;
  const before = plugins.find(({ name }) => name === chosen);
  plugins = answer.plugins;
  at("plugin").replaceChildren(...plugins.map(({ name }) => element("option", { value: name, textContent: name })));
  if (plugins.some(({ name }) => name === chosen)) at("plugin").value = chosen;
  const failed = at("failed");
  failed.hidden = answer.failed.length === 0;
  failed.querySelector("summary").textContent = `Could not be loaded: ${answer.failed.length}`;
  const reasons = answer.failed.map(({ name, reason }) => element("li", { textContent: `${name}: ${reason}` }));
  failed.querySelector("ul").replaceChildren(...reasons);
  const now = plugins.find(({ name }) => name === at("plugin").value);
  if (now?.name !== before?.name || now?.revision !== before?.revision) showPlugin();
  if (wanted && run === null) start();
  else showRun();
}

function showPlugin() {
  const plugin = plugins.find(({ name }) => name === at("plugin").value);
  at("description").textContent = plugin?.description.split("\n\n")[0] ?? "";
  const properties = plugin?.options.properties ?? {};
  at("options-card").hidden = Object.keys(properties).length === 0;
  const known = Object.entries(optionsOf(plugin?.name)).filter(([name]) => name in properties);
  const values = Object.fromEntries(known); // an option may be gone since
  optionValues.set(plugin?.name, values);
  source?.again();
  const set = (name, value) => setOption(plugin.name, name, value);
  at("options").replaceChildren(...optionControls(plugin?.options ?? {}, values, set));
  if (plugin?.health.state === "failed") notice("health", `${plugin.name} is not well`, plugin.health.message, { tone: "warn" });
  else clearNotice("health");
}

function optionsOf(plugin) {
  return optionValues.get(plugin) ?? {};
}

function setOption(plugin, name, value) {
  const values = { ...optionsOf(plugin) };
  if (value === undefined) delete values[name];
  else values[name] = value;
  optionValues.set(plugin, values);
  source?.again();
}

// Ledger and connection

function quantile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

function showLedger() {
  const ledger = client.ledger; // one moment: the numbers add up whenever they are read
  for (const [name, count] of Object.entries(ledger)) at(name).textContent = String(count);
  at("errors").classList.toggle("some", ledger.errors > 0);
  const now = performance.now();
  while (arrivals.length > 0 && now - arrivals[0] > PACE_WINDOW_MS) arrivals.shift();
  const span = arrivals.length > 1 ? (now - arrivals[0]) / 1000 : 0;
  at("fps").textContent = span > 0 ? (arrivals.length / span).toFixed(1) : "–";
  if (latencies.length === 0) return;
  const sorted = [...latencies].sort((a, b) => a - b);
  at("p50").textContent = `${Math.round(quantile(sorted, 0.5))} ms`;
  at("p95").textContent = `${Math.round(quantile(sorted, 0.95))} ms`;
}

const STATE_WORDS = { connecting: "Connecting…", open: "Connected", reconnecting: "Reconnecting…", closed: "Not connected" };

function showState({ state, reason, retryMs }) {
  at("connection").dataset.state = state;
  at("connection-text").textContent = STATE_WORDS[state];
  if (state === "open") {
    clearNotice("server");
    loadPlugins();
  } else if (reason) {
    const plan = retryMs > 0 ? `Next try in ${Math.ceil(retryMs / 1000)} s; frames that wait are sent then.` : "";
    const remedy = "If it does not come back: run fs.serve() again in the notebook, on the same port.";
    notice("server", "The server does not answer", [plan, remedy].filter(Boolean).join(" "), {
      action: { name: "Try now", run: () => client.connect().catch(() => {}) },
    });
  }
}

/** Until the first connection stands; afterwards the client sees to it. */
function keepConnecting() {
  client.connect().catch(() => setTimeout(keepConnecting, FIRST_RETRY_MS)); // the reason is shown by showState
}

const INTENT_WORDS = {
  freshest: "Live: the newest frame goes when there is room; what is passed over counts as skipped.",
  every_frame: "Nothing is skipped: the camera or video waits until there is room.",
};

function showIntent() {
  at("intent-text").textContent = INTENT_WORDS[everyFrame() ? "every_frame" : "freshest"];
}

// Wiring

at("camera").onclick = () => lookAt(Camera.start(cameraFailed), cameraFailed);
at("demo").onclick = () => lookAt(new Demo(), cameraFailed);
at("choose").onclick = () => at("file").click();
at("file").onchange = ({ target }) => {
  if (target.files.length > 0) lookAtFile(target.files[0]);
  target.value = ""; // the same file can be chosen again
};
at("run").onclick = () => (run === null ? start() : stop());
at("plugin").onchange = () => {
  showPlugin();
  if (run === null) start();
  else restart();
};
at("reset").onclick = () => {
  optionValues.delete(at("plugin").value);
  showPlugin();
};
at("options").onsubmit = (event) => event.preventDefault();
at("rate").oninput = () => (at("rate-value").textContent = at("rate").value);
for (const radio of document.querySelectorAll("input[name=intent]")) {
  radio.onchange = () => {
    showIntent();
    restart();
  };
}
at("raw").ontoggle = showRaw;
window.addEventListener("dragover", (event) => {
  event.preventDefault();
  at("view").classList.add("dropping");
});
window.addEventListener("dragleave", () => at("view").classList.remove("dropping"));
window.addEventListener("drop", (event) => {
  event.preventDefault();
  at("view").classList.remove("dropping");
  if (event.dataTransfer.files.length > 0) lookAtFile(event.dataTransfer.files[0]);
});
window.addEventListener("paste", ({ clipboardData }) => clipboardData.files.length > 0 && lookAtFile(clipboardData.files[0]));
window.addEventListener("focus", () => client.state === "open" && loadPlugins()); // a cell may have defined one
window.addEventListener("pagehide", () => client.close());
window.addEventListener("pageshow", ({ persisted }) => persisted && keepConnecting());
new ResizeObserver(paint).observe(at("view"));
setInterval(showLedger, 200);
client.onState(showState);
showIntent();
keepConnecting();
