/**
 * The page: a picture, a video or a camera goes to a plugin, and what it says is drawn over the picture.
 *
 * This module holds what is looked at and what runs, and ties the others together: a source (`picture_sources.js`)
 * yields pictures, `client.stream` sends them with the options of the chosen plugin (`page_plugins.js`), and each answer
 * is drawn over the very picture it is about (`page_picture.js`). Options and rate are read for each frame and a new
 * intent starts the stream anew, so that turning a control acts at once. All text of servers, plugins and files goes
 * through `textContent`.
 */

import { ForgeSyteClient } from "./forgesyte.js";
import { loadMasks } from "./overlay.js";
import { at } from "./page_elements.js";
import { forgetArrivals, noteArrival, showLedger } from "./page_ledger.js";
import { clearNotice, notice } from "./page_notices.js";
import { draw, paint, showRaw } from "./page_picture.js";
import { PluginChoice } from "./page_plugins.js";
import { Camera, Demo, cameraRemedy, openFile } from "./picture_sources.js";
import { shapesOf } from "./shapes.js";
import { neededToken } from "./token.js";

const NOTICE_STAYS_MS = 4000;
const LEDGER_EVERY_MS = 200;
const FIRST_RETRY_MS = 2000;

const client = new ForgeSyteClient(undefined, { token: await neededToken(at("notices")) });
const plugins = new PluginChoice(client, { loaded: goOn, changed: () => source?.again() });

let source = null; // what is looked at
let openings = 0; // sources that were asked for; a camera may open after something else was chosen
let wanted = false; // whether pictures should flow, as soon as they can
let run = null; // AbortController of the stream under way

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
  forgetArrivals();
  const plugin = plugins.name;
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

/** The plugins have come: what waits for one starts. */
function goOn() {
  if (wanted && run === null) start();
  else showRun();
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
  for await (const outcome of client.stream(frames, plugin, () => plugins.optionsOf(plugin), how)) {
    await arrived(outcome, looked);
    if (mine.signal.aborted) return;
  }
}

async function arrived({ image, message, error, latencyMs }, looked) {
  noteArrival(latencyMs);
  showLedger(client.ledger);
  if (error !== null) {
    notice("plugin", `${error.code} — ${message?.plugin ?? plugins.name}`, error.message);
    draw(looked.drawable(image), null, null);
    if (error.code === "INVALID_OPTIONS" || error.code === "PLUGIN_NOT_FOUND") plugins.refresh();
    return;
  }
  clearNotice("plugin", looked.still ? 0 : NOTICE_STAYS_MS);
  const shapes = await loadMasks(shapesOf(message.result));
  if (source === looked) draw(looked.drawable(image), shapes, message);
  plugins.seen(message);
}

function showRun() {
  at("run").hidden = at("sending-card").hidden = source?.still === true; // a picture is sent when something changes
  at("run").disabled = source === null || !plugins.name;
  at("run").textContent = run === null ? "Start" : "Stop";
}

// The connection

const STATE_WORDS = { connecting: "Connecting…", open: "Connected", reconnecting: "Reconnecting…", closed: "Not connected" };

function showState({ state, reason, retryMs }) {
  at("connection").dataset.state = state;
  at("connection-text").textContent = STATE_WORDS[state];
  if (state === "open") {
    clearNotice("server");
    plugins.load();
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
  plugins.show();
  if (run === null) start();
  else restart();
};
at("reset").onclick = () => plugins.reset();
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
window.addEventListener("focus", () => client.state === "open" && plugins.load()); // at once, not at the next look
window.addEventListener("pagehide", () => client.close());
window.addEventListener("pageshow", ({ persisted }) => persisted && keepConnecting());
new ResizeObserver(paint).observe(at("view"));
setInterval(() => showLedger(client.ledger), LEDGER_EVERY_MS);
client.onState(showState);
showIntent();
plugins.keepLooking();
keepConnecting();
