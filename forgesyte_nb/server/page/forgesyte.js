/**
 * The ForgeSyte client for browsers and Node ≥ 22: ES modules without dependencies, of which this is the one to import.
 *
 * Every frame handed over is answered exactly once, by a `frame_result` or an `error`, whatever the connection
 * does meanwhile: at most `window` frames are under way, the others wait here in the order they came; a lost
 * connection is made again with growing pauses, subscriptions are restored and what was not answered is sent
 * again. It offers the subprotocol `forgesyte.v2` (pictures as binary messages) and speaks the plain protocol
 * (pictures as base64 text) where the server does not know it.
 *
 *     import { ForgeSyteClient } from "./forgesyte.js";
 *     const client = new ForgeSyteClient("ws://localhost:8000");
 *     await client.connect();
 *     const { result } = await client.analyze(bytes, "ocr", { threshold: 0.8 });
 */

import { FeedWatches } from "./feed_watch.js";
import { FrameQueue } from "./frame_queue.js";
import { Resumption } from "./resumption.js";
import { Flow } from "./stream.js";
import { Transport, noServer } from "./transport.js";
import { ForgeSyteError, checkToken, randomHex } from "./wire.js";

export { ForgeSyteError, toBase64 } from "./wire.js";

/**
 * @typedef {Uint8Array | ArrayBuffer | Blob | string | CanvasImageSource} Picture An image file's bytes, a file,
 *   base64 text or a `data:` URL, or something drawn on the page, which is sent as JPEG. What is drawn is taken at
 *   the moment of the call.
 * @typedef {object} Outcome What became of one picture of a stream or batch.
 * @property {number} index Its position in the source.
 * @property {Picture} image The picture itself.
 * @property {object | null} message The server's `frame_result` or `error`; null if it never got that far.
 * @property {ForgeSyteError | null} error Why there is no result; null if there is one.
 * @property {number} latencyMs From sending it to its answer.
 */

export class ForgeSyteClient {
  #transport;
  #frames;
  #feeds = new FeedWatches((message) => this.#say(message));
  #topics = new Set();
  #acknowledged = new Set(); // topics that the session at the server has
  #resumption = new Resumption();
  #listeners = { frame_result: new Set(), error: new Set(), job_update: new Set(), state: new Set(), "": new Set() };

  /**
   * @param {string} [url] Where the server is, `ws:` or `http:`, path prefixes kept. By default the server that the
   *   page came from, or `ws://localhost:8000`.
   * @param {object} [settings]
   * @param {string} [settings.clientId] Who this is; a server gives back what is owed to the same id.
   * @param {string} [settings.token] Secret of a server that asks for one; a TypeError if it cannot be presented.
   * @param {number} [settings.window] Frames that may be unanswered at a time.
   * @param {boolean} [settings.reconnect] Whether a lost connection is made again.
   * @param {boolean} [settings.binary] Whether pictures may go as binary messages.
   * @param {number} [settings.jpegQuality] Of pictures that are encoded here, 0–1.
   * @param {number} [settings.backoffMs] First pause before connecting again; it doubles, with jitter.
   * @param {number} [settings.maxBackoffMs] Longest pause.
   * @param {number} [settings.silenceMs] Under `forgesyte.v2`: after so long without a word the server is asked for one,
   *   and given up after as long again.
   * @param {(url: string, protocols: string[]) => WebSocket} [settings.socket] Makes what is spoken through; by default
   *   a WebSocket. Anything with its `readyState`, `protocol`, `bufferedAmount`, `send`, `close` and `on…` will do.
   */
  constructor(url = defaultUrl(), settings = {}) {
    const { clientId, token, window = 16, reconnect = true, binary = true } = settings;
    const { jpegQuality = 0.85, backoffMs = 250, maxBackoffMs = 15_000, silenceMs = 20_000 } = settings;
    const { socket = webSocket } = settings;
    if (token) checkToken(token);
    this.url = String(url).replace(/^http/, "ws").replace(/\/+$/, "");
    this.clientId = clientId ?? `js_${randomHex(8)}`;
    this.window = window;
    this.settings = Object.freeze({ token, reconnect, binary, jpegQuality, backoffMs, maxBackoffMs, silenceMs });
    const path = `/ws/${encodeURIComponent(this.clientId)}`;
    this.#transport = new Transport(this.url, { ...this.settings, path, socket }, {
      opened: (hello) => this.#opened(hello),
      received: (message, payload) => this.#receive(message, payload),
      lost: (event) => this.#frames.lost(event),
      gaveUp: (error) => this.#frames.end(error.code, error.message),
      changed: (change) => this.#stateChanged(change),
    });
    const queueing = { window: () => this.window, binary, jpegQuality };
    this.#frames = new FrameQueue(this.#transport, queueing, (message) => this.#tell("error", message));
  }

  /** @returns {State} */
  get state() {
    return this.#transport.state;
  }

  /** The server's first message under `forgesyte.v2` (its id, limits, plugins); null under the plain protocol. */
  get hello() {
    return this.#transport.hello;
  }

  /** What became of all frames so far: `sent` = `results` + `errors` + `skipped` + `pending`, at every moment. */
  get ledger() {
    return this.#frames.ledger;
  }

  /**
   * Connect; at once if it is waiting to reconnect.
   *
   * @returns {Promise<void>} Rejected with `CONNECTION_LOST` if no server answers this time.
   */
  connect() {
    return this.#transport.connect();
  }

  /** Close for good: frames without an answer fail with `CLOSED`. Resolves when the connection has ended. */
  async close() {
    const ended = this.#transport.close();
    this.#frames.end("CLOSED", "the client was closed before it was answered");
    await ended;
  }

  /**
   * Receive what is published to `topic`: a `job_id`, `plugin_<name>` or `all`. Kept over reconnections.
   */
  subscribe(topic) {
    this.#frames.overhear();
    this.#topics.add(topic);
    this.#say({ type: "subscribe", topic });
  }

  /** Receive it no longer. */
  unsubscribe(topic) {
    this.#topics.delete(topic);
    this.#say({ type: "unsubscribe", topic });
  }

  /**
   * Send a picture. Calls need not wait for one another: frames leave in the order of the calls, and awaiting each
   * keeps the sender at the pace of the server.
   *
   * @param {Picture} image
   * @param {string} plugin
   * @param {object} [options] The plugin's options.
   * @param {{frameId?: string, streamId?: string}} [names] A `frameId` of one's own must differ from all that are
   *   unanswered. Once this client has subscribed to anything, others see `~` and a unique text behind it: answers to
   *   their frames of that id are told apart so. `streamId` tells a stateful plugin which frames belong together.
   * @returns {Promise<string>} The frame's id, once it has left. Nobody need wait for it: a frame that cannot be
   *   sent is an `error` to `onError` listeners like any other.
   */
  sendFrame(image, plugin, options = {}, names = {}) {
    try {
      return this.#frames.submit(image, plugin, options, names).left;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Send a picture and wait for what the plugin says.
   *
   * @param {Picture} image
   * @param {string} plugin
   * @param {object} [options]
   * @param {{timeoutMs?: number, signal?: AbortSignal, frameId?: string, streamId?: string}} [how] `frameId` and
   *   `streamId` as for `sendFrame`.
   * @returns {Promise<object>} The `frame_result` message; what the plugin said is its `result`.
   * @throws {ForgeSyteError} The server's error, or `CLIENT_TIMEOUT`; an aborted call throws the signal's reason.
   */
  async analyze(image, plugin, options = {}, { timeoutMs = 0, signal, ...names } = {}) {
    signal?.throwIfAborted();
    const frame = this.#frames.submit(image, plugin, options, names);
    const outcome = await this.#answerWithin(frame, timeoutMs, signal);
    if (outcome.error !== null) throw outcome.error;
    return outcome.message;
  }

  /**
   * Analyse pictures one after the other as they come.
   *
   * @param {AsyncIterable<Picture> | Iterable<Picture>} source
   * @param {string} plugin
   * @param {object | (() => object)} [options] A function is asked for each picture.
   * @param {object} [how]
   * @param {"every_frame" | "freshest"} [how.intent] Whether the source waits until there is room, or is followed
   *   live: then only the newest picture waits, and those it replaced count as `skipped`.
   * @param {number} [how.window] Pictures under way at a time.
   * @param {string} [how.streamId]
   * @param {AbortSignal} [how.signal] Ends the stream; what is under way is still answered in the ledger.
   * @returns {AsyncGenerator<Outcome>} In the order of the source. A picture that failed does not end the stream.
   */
  async *stream(source, plugin, options = {}, how = {}) {
    const { intent = "every_frame", window = intent === "freshest" ? 2 : this.window, signal } = how;
    signal?.throwIfAborted();
    const { streamId = `stream_${randomHex(4)}` } = how;
    const send = (picture) => this.#follow(picture, plugin, options, streamId);
    yield* new Flow(source, window, intent === "freshest", send, () => this.#frames.skip()).outcomes(signal);
  }

  /**
   * Analyse many pictures.
   *
   * @param {AsyncIterable<Picture> | Iterable<Picture>} images
   * @param {string} plugin
   * @param {object} [options]
   * @param {{window?: number, signal?: AbortSignal, onProgress?: (outcome: Outcome) => void}} [how]
   * @returns {Promise<Outcome[]>} One for each, in their order.
   */
  async batch(images, plugin, options = {}, { onProgress, ...how } = {}) {
    const outcomes = [];
    for await (const outcome of this.stream(images, plugin, options, how)) {
      outcomes.push(outcome);
      onProgress?.(outcome);
    }
    how.signal?.throwIfAborted();
    return outcomes;
  }

  /**
   * Watch a feed, a live picture of something in the kernel; kept over reconnections. `hello.feeds` lists those there
   * are; a server without `forgesyte.v2` has none.
   *
   * @param {string} feedId
   * @param {object} [how]
   * @param {(header: object, bytes: Uint8Array) => any} [how.onFrame] A picture: its header (`seq`, `content_type`, …) and
   *   the bytes of its file. What it returns is awaited, then the server may send the next; newest wins.
   * @param {(state: object) => any} [how.onState]
   * @param {(reason: string) => any} [how.onEnd] Nothing more will come.
   * @param {number} [how.maxWidth] Widest picture wanted, in pixels.
   * @param {number} [how.quality] JPEG quality, 1–95, of pictures that are scaled down to it.
   * @param {number} [how.paceMs] One picture in so many milliseconds at most, without acknowledgements.
   * @returns {FeedWatch} With `control(action, value)`, `pause()`, `resume()`, `retune(wishes)`, `close()`.
   */
  watch(feedId, how = {}) {
    return this.#feeds.watch(feedId, how);
  }

  /** What `GET /v1/plugins` says: `{plugins: [{name, options, …}], failed: [{name, reason, from_cell}]}`. */
  async plugins() {
    const url = `${this.url.replace(/^ws/, "http")}/v1/plugins`;
    const headers = this.settings.token ? { Authorization: `Bearer ${this.settings.token}` } : {};
    const response = await fetch(url, { headers }).catch((cause) => {
      throw new ForgeSyteError("CONNECTION_LOST", noServer(url), null, { cause });
    });
    if (response.ok) return response.json();
    const reason = (await response.text()).trim() || response.statusText;
    const error = new ForgeSyteError("HTTP_ERROR", `${url} answered ${response.status}: ${reason}`);
    throw Object.assign(error, { status: response.status });
  }

  /** Call `listener(message)` for every `frame_result`. @returns {() => void} Ends it. */
  onFrameResult(listener) {
    return this.#listen("frame_result", listener);
  }

  /** Call `listener(message)` for every `error`. @returns {() => void} Ends it. */
  onError(listener) {
    return this.#listen("error", listener);
  }

  /** Call `listener(message)` for every `job_update`. @returns {() => void} Ends it. */
  onJobUpdate(listener) {
    return this.#listen("job_update", listener);
  }

  /** Call `listener({state, reason, retryMs})` when the connection's state changes. @returns {() => void} Ends it. */
  onState(listener) {
    return this.#listen("state", listener);
  }

  /** Call `listener(message)` for every message, `hello` and `broadcast` included. @returns {() => void} Ends it. */
  onMessage(listener) {
    return this.#listen("", listener);
  }

  #opened(hello) {
    const resume = this.#resumption.greeted(hello, this.#frames.underWay || this.#topics.size > 0);
    this.#frames.hold();
    if (resume === null) this.#settled();
    else this.#transport.send(JSON.stringify(resume));
  }

  /** What the server has of this client is known: say the rest. */
  #settled() {
    const { recovered } = this.#resumption;
    if (!recovered) this.#acknowledged.clear();
    const say = (type, topic) => this.#transport.send(JSON.stringify({ type, topic }));
    for (const topic of this.#acknowledged) if (!this.#topics.has(topic)) say("unsubscribe", topic);
    for (const topic of this.#topics) if (!this.#acknowledged.has(topic)) say("subscribe", topic);
    this.#frames.resume(recovered);
  }

  #follow({ image, index }, plugin, options, streamId) {
    const current = typeof options === "function" ? options() : options;
    const frame = this.#frames.submit(image, plugin, current, { streamId });
    return frame.done.then((answer) => ({ outcome: { index, image, ...answer } }));
  }

  async #answerWithin(frame, timeoutMs, signal) {
    const { promise, resolve } = Promise.withResolvers();
    const giveUp = (code, error) => {
      resolve({ error });
      this.#frames.abandon(frame, code, error.message);
    };
    const late = new ForgeSyteError("CLIENT_TIMEOUT", `no answer within ${timeoutMs} ms`, frame.frameId);
    const timer = timeoutMs > 0 ? setTimeout(() => giveUp(late.code, late), timeoutMs) : null;
    const onAbort = () => giveUp("ABORTED", signal.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      return await Promise.race([promise, frame.done]);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  #stateChanged(change) {
    if (change.state === "open") this.#feeds.restore();
    else this.#feeds.lost();
    this.#tell("state", change);
  }

  #receive(message, payload) {
    if (message.type === "subscribed") this.#acknowledged.add(message.topic);
    else if (message.type === "unsubscribed") this.#acknowledged.delete(message.topic);
    const settles = payload === null && this.#resumption.received(message); // pictures of feeds count by themselves
    this.#pass(message, payload);
    if (settles) this.#settled();
  }

  #pass(message, payload) {
    if (message.feed !== undefined) this.#feeds.receive(message, payload);
    if (payload !== null || !this.#frames.receive(message)) return;
    this.#tell(message.type, message);
    this.#tell("", message);
  }

  /** @returns {boolean} Whether there is a connection. */
  #say(message) {
    const can = this.#transport.canSend;
    if (can) this.#transport.send(JSON.stringify(message));
    return can;
  }

  #listen(type, listener) {
    this.#listeners[type].add(listener);
    return () => this.#listeners[type].delete(listener);
  }

  #tell(type, message) {
    for (const listener of this.#listeners[type] ?? []) {
      try {
        listener(message);
      } catch (error) {
        queueMicrotask(() => { throw error; }); // reported as uncaught, without harm to frames or other listeners
      }
    }
  }
}

const webSocket = (url, protocols) => new WebSocket(url, protocols);

function defaultUrl() {
  if (!globalThis.location?.host) return "ws://localhost:8000";
  return new URL(".", globalThis.location.href).href;
}
