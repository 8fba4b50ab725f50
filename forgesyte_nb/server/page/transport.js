/**
 * One connection after the other, as long as there is one to be had. What it is used for it does not know.
 *
 * It offers `forgesyte.v2` and, as `forgesyte.v1`, the plain protocol, and asks again without where neither is selected; a
 * connection that broke is made again with growing pauses. It is open once messages can be sent: under `forgesyte.v2`,
 * when `hello` has come. Then a line that has been silent for long is asked for a sign of life, and given up if none
 * comes: a browser does not tell of a peer that is gone without a word.
 */

import { ForgeSyteError, SEED_SUBPROTOCOL, SUBPROTOCOL, decodeMessage } from "./wire.js";

const TOKEN_SUBPROTOCOL = "forgesyte.token."; // browsers can set no headers
const OPEN = 1; // WebSocket.OPEN; an injected socket may live where there is no WebSocket
const CLOSED = 3;
const NO_ANSWER = 4001; // so that the server, if it hears of it, does not take it for a goodbye
const SIGN_OF_LIFE = JSON.stringify({ type: "unsubscribe", topic: "job_none" }); // changes nothing, and is answered
const MOST_DOUBLINGS = 30;

/**
 * @typedef {"idle" | "connecting" | "open" | "reconnecting" | "closed"} State
 * @typedef {object} Uses What a connection is used for.
 * @property {(hello: object | null) => void} opened A connection stands; `hello` is null under the plain protocol.
 * @property {(message: object, payload: Uint8Array | null) => void} received
 * @property {(event: {code: number, reason: string}) => void} lost The connection broke.
 * @property {(error: ForgeSyteError) => void} gaveUp There will be no other.
 * @property {(change: {state: State, reason: string, retryMs: number}) => void} changed
 */

export class Transport {
  /** @type {State} */
  state = "idle";
  /** The server's first message under `forgesyte.v2`; null under the plain protocol. */
  hello = null;
  /** Whether the server selected `forgesyte.v2`; null until it is known. */
  knowsV2 = null;
  #url;
  #settings;
  #uses;
  #socket = null;
  #attempt = null; // the promise of the connection being made
  #ended = Promise.resolve(); // the last socket's `close`
  #everOpen = false;
  #offers = true; // whether to offer subprotocols
  #failures = 0;
  #retryTimer = null;
  #silenceTimer = null;

  /**
   * @param {string} url Where the server is.
   * @param {object} settings
   * @param {string} settings.path Of the WebSocket at the server.
   * @param {(url: string, protocols: string[]) => WebSocket} settings.socket Makes a socket, or what behaves like one.
   * @param {string} [settings.token]
   * @param {boolean} settings.reconnect
   * @param {number} settings.backoffMs
   * @param {number} settings.maxBackoffMs
   * @param {number} settings.silenceMs
   * @param {Uses} uses
   */
  constructor(url, settings, uses) {
    this.#url = url;
    this.#settings = settings;
    this.#uses = uses;
  }

  connect() {
    if (this.state === "open") return Promise.resolve();
    clearTimeout(this.#retryTimer);
    this.#attempt ??= this.#open().finally(() => (this.#attempt = null));
    return this.#attempt;
  }

  /** Close for good; resolves when the connection has ended. */
  async close() {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#silenceTimer);
    const socket = this.#socket;
    this.#socket = null;
    this.#everOpen = false;
    if (this.state !== "idle") this.#setState("closed");
    if (socket === null || socket.readyState === CLOSED) return;
    socket.close(1000);
    await this.#ended;
    await this.#attempt?.catch(() => {}); // a connection that was just being made
  }

  /** A connection that is closing still counts as open until its `close` event, but takes nothing any more. */
  get canSend() {
    return this.state === "open" && this.#socket.readyState === OPEN;
  }

  /** Bytes that were given to the socket and have not left. */
  get bufferedAmount() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  /**
   * What a connection that is closing takes no more is said again on the next one, once its `close` event has come.
   *
   * @param {string | Uint8Array} message
   */
  send(message) {
    if (this.#socket.readyState === OPEN) this.#socket.send(message);
  }

  async #open() {
    this.#setState(this.#everOpen ? "reconnecting" : "connecting");
    try {
      await this.#dial(this.#offers).catch((error) => {
        // A browser refuses a connection of whose subprotocols the server selected none: ask again without.
        if (this.knowsV2 !== null || this.#settings.token || this.state === "closed") throw error;
        return this.#dial(false);
      });
    } catch (error) {
      if (this.state === "closed") throw new ForgeSyteError("CLOSED", "the client was closed");
      if (this.#everOpen && this.#settings.reconnect) this.#retry(error.message);
      else this.#giveUp(error);
      throw error;
    }
  }

  /** One attempt: resolves when messages can be sent, rejects if that moment never comes. */
  #dial(offers) {
    const { token, path, socket: makeSocket } = this.#settings;
    const offered = [SUBPROTOCOL, SEED_SUBPROTOCOL, ...(token ? [TOKEN_SUBPROTOCOL + token] : [])];
    const protocols = offers ? offered : [];
    const ended = Promise.withResolvers();
    return new Promise((resolve, reject) => {
      const socket = makeSocket(this.#url + path, protocols);
      socket.binaryType = "arraybuffer";
      this.#socket = socket;
      this.#ended = ended.promise;
      let open = false;
      const ready = (hello) => {
        open = true;
        this.#offers = offers;
        this.#opened(socket.protocol === SUBPROTOCOL, hello);
        this.#heard(socket);
        resolve();
      };
      socket.onopen = () => socket.protocol === SUBPROTOCOL || ready(null);
      socket.onmessage = (event) => {
        if (open) this.#heard(socket);
        const decoded = decodeMessage(event.data);
        if (this.#socket !== socket || decoded === null) return;
        if (decoded.message.type === "hello" && !open) ready(decoded.message);
        this.#uses.received(decoded.message, decoded.payload);
      };
      socket.onerror = () => {}; // `close` follows and says more
      socket.onclose = (event) => {
        const current = this.#socket === socket;
        if (current) this.#socket = null;
        clearTimeout(current ? this.#silenceTimer : null);
        if (current && open) this.#lost(event);
        reject(new ForgeSyteError("CONNECTION_LOST", noServer(this.#url)));
        ended.resolve();
      };
    });
  }

  #opened(v2, hello) {
    this.knowsV2 = v2;
    this.hello = hello;
    this.#everOpen = true;
    this.#failures = 0;
    this.#uses.opened(hello);
    this.#setState("open");
  }

  /** Something came; from now on there may be silence for so long. Where answers may wait, silence says nothing. */
  #heard(socket) {
    clearTimeout(this.#silenceTimer);
    if (!this.knowsV2 || socket.answersMayWait) return;
    const { silenceMs } = this.#settings;
    this.#silenceTimer = setTimeout(() => {
      if (this.#socket !== socket) return;
      if (socket.readyState === OPEN) socket.send(SIGN_OF_LIFE);
      this.#silenceTimer = setTimeout(() => this.#silent(socket), silenceMs);
    }, silenceMs);
  }

  #silent(socket) {
    if (this.#socket !== socket) return;
    this.#socket = null;
    socket.close(NO_ANSWER); // its own `close` event may come much later
    this.#lost({ code: 1006, reason: `${this.#url} has not answered for ${(2 * this.#settings.silenceMs) / 1000} s` });
  }

  #lost(event) {
    this.#uses.lost(event);
    const reason = event.reason || `the connection to ${this.#url} was lost (code ${event.code})`;
    if (this.#settings.reconnect) this.#retry(reason);
    else this.#giveUp(new ForgeSyteError("CONNECTION_LOST", `${reason}; call connect() again`));
  }

  #retry(reason) {
    const { backoffMs, maxBackoffMs } = this.#settings;
    const ceiling = Math.min(backoffMs * 2 ** this.#failures, maxBackoffMs);
    const retryMs = ceiling * (0.5 + Math.random() / 2);
    this.#failures = Math.min(this.#failures + 1, MOST_DOUBLINGS);
    this.#retryTimer = setTimeout(() => this.connect().catch(() => {}), retryMs); // a failure plans the next
    this.#setState("reconnecting", { reason, retryMs });
  }

  #giveUp(error) {
    this.#everOpen = false;
    this.#setState("closed", { reason: error.message });
    this.#uses.gaveUp(error);
  }

  #setState(state, detail = {}) {
    this.state = state;
    this.#uses.changed({ state, reason: "", retryMs: 0, ...detail });
  }
}

/** What to say where nobody answers. */
export const noServer = (url) =>
  `no server answers at ${url}, or it refused this page: is fs.serve() running, and is this its port (server.url)?`;
