/**
 * A widget's connection to its kernel: `forgesyte.js` over the first of three ways that answers (`ways.js`).
 *
 * It is made again from the top whenever it is lost, for as long as the view lives, with growing pauses.
 *
 *     const link = reach(model, signal);
 *     link.watch(model.get("_feed"), { onFrame, onState, onEnd });
 *     await link.client.analyze(bytes, "ocr");
 */

import { randomHex } from "./dom.js";
import { ForgeSyteClient } from "./forgesyte.js";
import { SocketLike } from "./socket_like.js";
import { WaySocket, thisPage, waysOf } from "./ways.js";

const FIRST_PAUSE_MS = 300;
const LONGEST_PAUSE_MS = 5000;

/**
 * @param {object} model The widget's model, as anywidget gives it.
 * @param {AbortSignal} signal Ends it.
 * @param {object} [how] For tests.
 * @returns {Reach}
 */
export function reach(model, signal, how = {}) {
  return new Reach(model, signal, how);
}

class Reach {
  /** The name of the way it is connected by: "direct", "relay", "comm"; "none" while there is none. */
  way = "none";
  /** What the last attempt tried, best way first: `{way, said}`. */
  tried = [];

  #model;
  #signal;
  #page;
  #limitMs;
  #socket = null;
  #listeners = new Set();

  constructor(model, signal, { page = thisPage(), limitMs, pauseMs = FIRST_PAUSE_MS } = {}) {
    this.#model = model;
    this.#signal = signal;
    this.#page = page;
    this.#limitMs = limitMs;
    this.client = new ForgeSyteClient("ws://kernel", {
      clientId: `view_${randomHex(6)}`,
      socket: (_, protocols) => this.#dial(protocols),
      backoffMs: pauseMs,
      maxBackoffMs: LONGEST_PAUSE_MS,
    });
    this.client.onState(({ state }) => this.#stateChanged(state));
    const moved = () => this.client.connect().catch(() => {}); // at once, instead of after the pause
    model.on("change:_where", moved);
    signal.addEventListener("abort", () => {
      model.off("change:_where", moved);
      this.client.close();
    });
    this.#begin(pauseMs);
  }

  /** Until it has been connected once; from then on the client reconnects by itself. */
  async #begin(pauseMs) {
    for (let pause = pauseMs; !this.#signal.aborted; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
      const connected = await this.client.connect().then(() => true, () => false);
      if (connected || this.#signal.aborted) return;
      await sleep(pause, this.#signal);
    }
  }

  #dial(protocols) {
    if (protocols.length === 0) return new NoSocket(); // the seed's protocol knows no feeds
    const ways = waysOf(this.#model, this.client.clientId, this.#page);
    const socket = new WaySocket(ways, this.#model.get("_where").feeds_id, this.#limitMs);
    this.#socket = socket;
    socket.addEventListener("close", () => this.#noticed(socket));
    return socket;
  }

  #noticed(socket) {
    const lost = { way: socket.way, said: "the connection was lost" };
    this.tried = socket.way === null ? socket.tried : [lost];
    if (this.#socket === socket) this.#socket = null;
    this.#tell();
  }

  #stateChanged(state) {
    const way = state === "open" ? this.#socket.way : "none";
    if (state === "open") this.tried = this.#socket.tried;
    const changed = way !== this.way;
    this.way = way;
    if (changed) this.#tell();
  }

  /** Call `listener()` when the way, or what was tried, has changed. */
  onChange(listener) {
    this.#listeners.add(listener);
  }

  #tell() {
    for (const listener of this.#listeners) listener();
  }

  /**
   * Watch a feed; see `ForgeSyteClient.watch`.
   *
   * @returns {FeedWatch}
   */
  watch(feedId, how) {
    return this.client.watch(feedId, how);
  }
}

/** Ends early if the signal fires. */
function sleep(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}

/** Refuses at once. */
class NoSocket extends SocketLike {
  constructor() {
    super();
    queueMicrotask(() => this.ended(1006, ""));
  }

  close() {}
}
