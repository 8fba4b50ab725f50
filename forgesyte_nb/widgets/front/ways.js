/**
 * The three ways from this page to the kernel's server, and a socket that takes the first that answers.
 *
 * A way is believed only after a `hello` with the feeds of this widget's kernel: behind `ssh -L` a port may be
 * another kernel's.
 */

import { CommSocket } from "./comm_socket.js";
import { randomHex } from "./dom.js";
import { OPEN, CLOSED, SocketLike } from "./socket_like.js";

const LIMIT_MS = 1500;
const LOOPBACK = /^(localhost|127\.0\.0\.1|\[::1\])$/;
const PROTOCOLS = ["forgesyte.v2"];

/**
 * @typedef {object} Page What has to be known of the page.
 * @property {string} hostname As in `location`.
 * @property {string} href As in `location`.
 * @property {string | null} baseUrl Path of the Jupyter Server; null if the page is none of Jupyter's.
 * @property {new (url: string, protocols: string[]) => WebSocket} WebSocket
 *
 * @typedef {object} Way
 * @property {"direct" | "relay" | "comm"} name
 * @property {(() => WebSocket) | null} open Null if it cannot be taken from here.
 * @property {string} note Where it leads, or why it cannot be taken.
 */

/** @returns {Page} */
export function thisPage() {
  const { hostname, href } = globalThis.location;
  return { hostname, href, baseUrl: baseUrl(), WebSocket: globalThis.WebSocket };
}

function baseUrl() {
  const config = document.getElementById("jupyter-config-data")?.textContent;
  try {
    const named = config ? JSON.parse(config).baseUrl : document.body.dataset.baseUrl;
    return named ?? null;
  } catch {
    return null;
  }
}

/**
 * The ways, best first.
 *
 * @param {object} model The widget's model.
 * @param {string} clientId
 * @param {Page} page
 * @returns {Way[]}
 */
export function waysOf(model, clientId, page) {
  const { direct, kernel_id: kernelId } = model.get("_where");
  const path = `/ws/${encodeURIComponent(clientId)}`;
  const socket = (name, url) => ({ name, open: () => new page.WebSocket(url, PROTOCOLS), note: url });
  const not = (name, note) => ({ name, open: null, note });
  const ways = [];
  if (!LOOPBACK.test(page.hostname)) ways.push(not("direct", "this page does not come from the kernel's machine"));
  else if (!direct) ways.push(not("direct", "no server that pages may reach without a token"));
  else ways.push(socket("direct", direct + path));
  if (page.baseUrl === null) ways.push(not("relay", "this page is not served by a Jupyter Server"));
  else if (!kernelId) ways.push(not("relay", "the kernel was not started by a Jupyter Server"));
  else ways.push(socket("relay", relayUrl(page, kernelId) + path));
  const viewId = `${clientId}_${randomHex(3)}`;
  ways.push({ name: "comm", open: () => new CommSocket(model, viewId), note: "messages of the notebook" });
  return ways;
}

function relayUrl({ baseUrl, href }, kernelId) {
  const url = new URL(`${baseUrl.replace(/\/*$/, "/")}forgesyte_nb/${kernelId}`, href);
  url.search = "";
  url.hash = "";
  return url.href.replace(/^http/, "ws");
}

/** A socket over the first way that answers; it opens with that way's `hello`. */
export class WaySocket extends SocketLike {
  way = null;
  tried = [];
  #socket = null;

  /**
   * @param {Way[]} ways
   * @param {string} feedsId What the right server's `hello` says.
   * @param {number} [limitMs] How long one way may take to answer.
   */
  constructor(ways, feedsId, limitMs = LIMIT_MS) {
    super();
    queueMicrotask(() => this.#begin(ways, feedsId, limitMs));
  }

  async #begin(ways, feedsId, limitMs) {
    for (const way of ways) {
      if (this.readyState === CLOSED) return;
      const said = way.open === null ? way.note : await this.#attempt(way, feedsId, limitMs);
      if (said === null) return;
      this.tried.push({ way: way.name, said });
    }
    this.ended(4000, this.tried.map(({ way, said }) => `${way}: ${said}`).join("; "));
  }

  /** Null if this way is taken; otherwise why it is not. */
  #attempt(way, feedsId, limitMs) {
    return new Promise((resolve) => {
      let socket;
      try {
        socket = way.open();
      } catch (error) {
        resolve(String(error.message ?? error));
        return;
      }
      socket.binaryType = "arraybuffer";
      this.#socket = socket;
      const giveUp = (said) => {
        clearTimeout(timer);
        socket.onmessage = socket.onclose = socket.onerror = null;
        this.#socket = null;
        socket.close();
        resolve(said);
      };
      const timer = setTimeout(() => giveUp(`no answer within ${limitMs / 1000} s`), limitMs);
      socket.onerror = () => {}; // `close` follows
      socket.onclose = ({ reason, code }) => giveUp(reason || (code === 1006 ? "refused" : `closed with code ${code}`));
      socket.onmessage = ({ data }) => {
        const hello = helloOf(data);
        if (hello?.feeds_id !== feedsId) {
          giveUp(hello === null ? "no ForgeSyte server" : "the server of another kernel");
          return;
        }
        clearTimeout(timer);
        this.#adopt(way, socket);
        resolve(null);
        this.opened(PROTOCOLS[0]);
        this.emit("message", { data });
      };
    });
  }

  #adopt(way, socket) {
    this.way = way.name;
    this.tried.push({ way: way.name, said: `answered (${way.note})` });
    socket.onmessage = ({ data }) => this.emit("message", { data });
    socket.onclose = ({ code, reason }) => this.ended(code, reason);
  }

  get answersMayWait() {
    return this.#socket?.answersMayWait ?? false;
  }

  get bufferedAmount() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  send(message) {
    // A browser discards what is sent while a WebSocket closes, and writes an error to the console.
    if (this.readyState === OPEN && this.#socket.readyState === OPEN) this.#socket.send(message);
  }

  close(code = 1000, reason = "") {
    if (this.readyState === CLOSED) return;
    const socket = this.#socket;
    this.#socket = null;
    if (socket !== null) {
      socket.onmessage = socket.onclose = null;
      socket.close(code, reason);
    }
    this.ended(code, reason);
  }
}

function helloOf(data) {
  try {
    const message = JSON.parse(data);
    return message?.type === "hello" ? message : null;
  } catch {
    return null;
  }
}
