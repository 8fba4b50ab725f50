/**
 * The ForgeSyte client for browsers and Node ≥ 22: one ES module without dependencies, so that it can be copied.
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

const SUBPROTOCOL = "forgesyte.v2";
const TOKEN_SUBPROTOCOL = "forgesyte.token.";
const BUFFERED_BYTES = 4 * 2 ** 20; // more than this in the socket only makes frames old
const BUFFER_POLL_MS = 20; // WebSocket has no event for a buffer that has drained
const ATTEMPTS = 5; // a frame that was under way each time the connection broke may be what breaks it
const REMEMBERED_ANSWERS = 4096;
const TOO_BIG = 1009;

/**
 * A frame that failed, or a connection that cannot be had.
 *
 * `code` is the wire's `error_code` (`INVALID_IMAGE`, `PLUGIN_NOT_FOUND`, `PLUGIN_ERROR`, `PROCESSING_TIMEOUT`,
 * `INVALID_OPTIONS`, `INVALID_MESSAGE`, `QUEUE_FULL`), or one of this side: `NOT_CONNECTED`, `CONNECTION_LOST`,
 * `CLOSED`, `CLIENT_TIMEOUT`, `ABORTED`, `DUPLICATE_FRAME_ID`, `HTTP_ERROR`.
 */
export class ForgeSyteError extends Error {
  /**
   * @param {string} code
   * @param {string} message What is wrong and what to do.
   * @param {string | null} [frameId] The frame it is about.
   * @param {ErrorOptions} [options]
   */
  constructor(code, message, frameId = null, options = undefined) {
    super(message, options);
    this.name = "ForgeSyteError";
    this.code = code;
    this.frameId = frameId;
  }
}

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
 * @typedef {"idle" | "connecting" | "open" | "reconnecting" | "closed"} State
 */

export class ForgeSyteClient {
  #socket = null;
  #state = "idle";
  #attempt = null; // the promise of the connection being made
  #everOpen = false;
  #knowsV2 = null; // whether the server selected forgesyte.v2; null until it is known
  #failures = 0;
  #retryTimer = null;
  #drainTimer = null;
  #limits = null; // the server's `hello`
  #session = null;
  #frames = new Unanswered();
  #underWay = 0;
  #topics = new Set();
  #counts = { sent: 0, results: 0, errors: 0, skipped: 0 };
  #numbers = 0;
  #listeners = { frame_result: new Set(), error: new Set(), job_update: new Set(), state: new Set(), "": new Set() };

  /**
   * @param {string} [url] Where the server is, `ws:` or `http:`, path prefixes kept. By default the server that the
   *   page came from, or `ws://localhost:8000`.
   * @param {object} [settings]
   * @param {string} [settings.clientId] Who this is; a server gives back what is owed to the same id.
   * @param {string} [settings.token] Secret of a server that asks for one.
   * @param {number} [settings.window] Frames that may be unanswered at a time.
   * @param {boolean} [settings.reconnect] Whether a lost connection is made again.
   * @param {boolean} [settings.binary] Whether pictures may go as binary messages.
   * @param {number} [settings.jpegQuality] Of pictures that are encoded here, 0–1.
   * @param {number} [settings.backoffMs] First pause before connecting again; it doubles, with jitter.
   * @param {number} [settings.maxBackoffMs] Longest pause.
   * @param {(url: string, protocols: string[]) => WebSocket} [settings.socket] Makes the connection; by default a
   *   WebSocket. What it returns need only be like one.
   */
  constructor(url = defaultUrl(), settings = {}) {
    const { clientId, token, window = 16, reconnect = true, binary = true } = settings;
    const { jpegQuality = 0.85, backoffMs = 250, maxBackoffMs = 15_000 } = settings;
    const { socket = (address, protocols) => new WebSocket(address, protocols) } = settings;
    this.url = String(url).replace(/^http/, "ws").replace(/\/+$/, "");
    this.clientId = clientId ?? `js_${randomHex(8)}`;
    this.window = window;
    this.settings = Object.freeze({ token, reconnect, binary, jpegQuality, backoffMs, maxBackoffMs, socket });
    this.idPrefix = `frame_${randomHex(4)}_`;
  }

  /** @returns {State} */
  get state() {
    return this.#state;
  }

  /** The server's first message under `forgesyte.v2` (its id, limits, plugins); null under the plain protocol. */
  get hello() {
    return this.#limits;
  }

  /** What became of all frames so far: `sent` = `results` + `errors` + `skipped` + `pending`, at every moment. */
  get ledger() {
    return { ...this.#counts, pending: this.#frames.size };
  }

  /**
   * Connect; at once if it is waiting to reconnect.
   *
   * @returns {Promise<void>} Rejected with `CONNECTION_LOST` if no server answers this time.
   */
  connect() {
    if (this.#state === "open") return Promise.resolve();
    clearTimeout(this.#retryTimer);
    this.#attempt ??= this.#open().finally(() => (this.#attempt = null));
    return this.#attempt;
  }

  /** Close for good: frames without an answer fail with `CLOSED`. Resolves when the connection has ended. */
  async close() {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#drainTimer);
    this.#drainTimer = null;
    const socket = this.#socket;
    this.#socket = null;
    this.#everOpen = false;
    this.#session = null;
    if (this.#state !== "idle") this.#setState("closed");
    for (const frame of this.#frames) {
      this.#fail(frame, "CLOSED", "the client was closed before it was answered");
    }
    if (socket === null || socket.readyState === WebSocket.CLOSED) return;
    await new Promise((resolve) => {
      socket.addEventListener("close", resolve, { once: true });
      socket.close(1000);
    });
    await this.#attempt?.catch(() => {}); // a connection that was just being made
  }

  /**
   * Receive what is published to `topic`: a `job_id`, `plugin_<name>` or `all`. Kept over reconnections.
   */
  subscribe(topic) {
    this.#frames.overhears = true;
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
      return this.#submit(image, plugin, options, names).left;
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
    const frame = this.#submit(image, plugin, options, names);
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
    const { promise: aborted, resolve: onAbort } = deferred();
    signal?.addEventListener("abort", onAbort, { once: true });
    const send = (picture) => this.#follow(picture, plugin, options, streamId);
    const flow = new Flow(source, window, intent === "freshest", send, () => this.#skip());
    try {
      while (!flow.ended) {
        const { step, outcome } = await Promise.race([aborted, ...flow.awaited()]);
        if (signal?.aborted) return;
        if (step) flow.take(step);
        if (outcome) {
          flow.answered();
          yield outcome;
        }
      }
    } finally {
      signal?.removeEventListener("abort", onAbort);
      flow.close();
    }
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

  /** What `GET /v1/plugins` says: `{plugins: [{name, options, …}], failed: [{name, reason}]}`. */
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

  // The connection

  async #open() {
    this.#setState(this.#everOpen ? "reconnecting" : "connecting");
    try {
      await this.#dial(this.#knowsV2 !== false).catch((error) => {
        // A browser refuses a connection whose subprotocol the server did not select: ask again without.
        if (this.#knowsV2 !== null || this.settings.token || this.#state === "closed") throw error;
        return this.#dial(false);
      });
    } catch (error) {
      if (this.#state === "closed") throw new ForgeSyteError("CLOSED", "the client was closed");
      if (this.#everOpen && this.settings.reconnect) this.#retry(error.message);
      else this.#giveUp(error);
      throw error;
    }
  }

  /** One attempt: resolves when frames can be sent, rejects if that moment never comes. */
  #dial(offerV2) {
    const { token } = this.settings;
    const protocols = offerV2 ? [SUBPROTOCOL, ...(token ? [TOKEN_SUBPROTOCOL + token] : [])] : [];
    return new Promise((resolve, reject) => {
      const socket = this.settings.socket(`${this.url}/ws/${encodeURIComponent(this.clientId)}`, protocols);
      socket.binaryType = "arraybuffer";
      this.#socket = socket;
      let open = false;
      const ready = (hello) => {
        open = true;
        this.#opened(socket.protocol === SUBPROTOCOL, hello);
        resolve();
      };
      socket.onopen = () => socket.protocol === SUBPROTOCOL || ready(null);
      socket.onmessage = (event) => {
        const message = parse(event.data);
        if (this.#socket !== socket || message === null) return;
        if (message.type === "hello" && !open) ready(message);
        this.#receive(message);
      };
      socket.onerror = () => {}; // `close` follows and says more
      socket.onclose = (event) => {
        const current = this.#socket === socket;
        if (current) this.#socket = null;
        if (current && open) this.#lost(event);
        reject(new ForgeSyteError("CONNECTION_LOST", noServer(this.url)));
      };
    });
  }

  #opened(v2, hello) {
    const resumed = hello !== null && hello.session === this.#session;
    this.#knowsV2 = v2;
    this.#limits = hello;
    this.#session = hello?.session ?? null;
    this.#everOpen = true;
    this.#failures = 0;
    this.#underWay = 0;
    for (const topic of this.#topics) this.#post(JSON.stringify({ type: "subscribe", topic }));
    for (const frame of this.#frames) this.#putBack(frame, resumed);
    this.#setState("open");
    this.#flush();
  }

  /**
   * After a reconnection. A frame that the same session has made a job of is not sent again; its answer may have
   * been lost on the way, and whoever subscribes to a job that has ended is told how.
   */
  #putBack(frame, resumed) {
    frame.onWire = frame.onWire && resumed && frame.jobId !== null;
    if (frame.onWire) {
      this.#underWay += 1;
      frame.asked = true;
      this.#post(JSON.stringify({ type: "subscribe", topic: frame.jobId }));
    } else if (frame.abandoned || frame.attempts >= ATTEMPTS) {
      this.#fail(frame, "CONNECTION_LOST", `the connection broke while it was under way (${frame.attempts} times)`);
    }
  }

  #lost(event) {
    if (event.code === TOO_BIG) this.#failLargest(event.reason);
    const reason = event.reason || `the connection to ${this.url} was lost (code ${event.code})`;
    if (this.settings.reconnect) this.#retry(reason);
    else this.#giveUp(new ForgeSyteError("CONNECTION_LOST", `${reason}; call connect() again`));
  }

  /** The server closed because a message was too large: without this it would be sent again for ever. */
  #failLargest(reason) {
    const sent = [...this.#frames].filter((frame) => frame.onWire);
    const largest = sent.reduce((a, b) => (b.bytes.length > (a?.bytes.length ?? -1) ? b : a), null);
    if (largest === null) return;
    const text = `the server refused a message of this size (${reason || TOO_BIG}): send a smaller picture`;
    this.#fail(largest, "INVALID_MESSAGE", text);
  }

  #retry(reason) {
    const { backoffMs, maxBackoffMs } = this.settings;
    const ceiling = Math.min(backoffMs * 2 ** this.#failures, maxBackoffMs);
    const retryMs = ceiling * (0.5 + Math.random() / 2);
    this.#failures = Math.min(this.#failures + 1, 30);
    this.#retryTimer = setTimeout(() => this.connect().catch(() => {}), retryMs); // a failure plans the next
    this.#setState("reconnecting", { reason, retryMs });
  }

  #giveUp(error) {
    this.#everOpen = false;
    this.#setState("closed", { reason: error.message });
    for (const frame of this.#frames) this.#fail(frame, error.code, error.message);
  }

  // Frames

  #submit(image, plugin, options, { frameId: chosen, streamId = "" }) {
    const frameId = chosen ?? `${this.idPrefix}${++this.#numbers}`;
    if (this.#state === "idle" || this.#state === "closed") {
      throw new ForgeSyteError("NOT_CONNECTED", "not connected: call connect() first", frameId);
    }
    if (this.#frames.has(frameId)) {
      const text = `frame_id ${frameId} is not answered yet: leave frameId out, and each frame gets its own`;
      throw new ForgeSyteError("DUPLICATE_FRAME_ID", text, frameId);
    }
    if (options === null || typeof options !== "object" || Array.isArray(options)) {
      throw new ForgeSyteError("INVALID_OPTIONS", "options must be an object such as {threshold: 0.8}", frameId);
    }
    const header = { type: "send_frame", frame_id: frameId, plugin, options: structuredClone(options) };
    if (streamId) header.stream_id = streamId;
    const frame = new Frame(header, chosen !== undefined);
    this.#frames.add(frame);
    this.#counts.sent += 1;
    bytesOf(image, this.settings.jpegQuality).then(
      (bytes) => {
        frame.bytes = bytes;
        this.#flush();
      },
      (error) => this.#fail(frame, "INVALID_IMAGE", error.message),
    );
    return frame;
  }

  #follow({ image, index }, plugin, options, streamId) {
    const current = typeof options === "function" ? options() : options;
    const frame = this.#submit(image, plugin, current, { streamId });
    return frame.done.then((answer) => ({ outcome: { index, image, ...answer } }));
  }

  #skip() {
    this.#counts.sent += 1;
    this.#counts.skipped += 1;
  }

  /** Send what may be sent; a frame that is still being encoded holds up those behind it, to keep the order. */
  #flush() {
    if (!this.#canSend()) return;
    for (const frame of this.#frames) {
      if (this.#underWay >= this.window) return;
      if (frame.onWire) continue;
      if (frame.bytes === null) return;
      if (this.#socket.bufferedAmount > BUFFERED_BYTES) {
        this.#drainTimer ??= setTimeout(() => {
          this.#drainTimer = null;
          this.#flush();
        }, BUFFER_POLL_MS);
        return;
      }
      this.#transmit(frame);
    }
  }

  #transmit(frame) {
    const header = { ...frame.header, frame_id: this.#frames.name(frame) };
    const binary = this.#knowsV2 && this.settings.binary;
    const message = binary
      ? binaryMessage(header, frame.bytes)
      : JSON.stringify({ ...header, image_data: toBase64(frame.bytes) });
    const limit = this.#limits?.max_message_bytes ?? Infinity;
    if (message.length > limit) {
      const sizes = `${mib(message.length)} MiB, the server takes ${mib(limit)}`;
      this.#fail(frame, "INVALID_MESSAGE", `the picture makes a message of ${sizes}: send a smaller one`);
      return;
    }
    frame.onWire = true;
    frame.attempts += 1;
    frame.sentAt ||= performance.now();
    this.#underWay += 1;
    this.#post(message);
    frame.leave(frame.frameId);
  }

  /** The one place where a frame gets its answer. */
  #settle(frame, message, error) {
    if (!this.#frames.remove(frame, message?.job_id)) return;
    if (frame.onWire) this.#underWay -= 1;
    this.#counts[error === null ? "results" : "errors"] += 1;
    if (frame.asked) this.#say({ type: "unsubscribe", topic: frame.jobId });
    if (frame.attempts === 0) frame.stay(error);
    frame.finish({ message, error, latencyMs: frame.sentAt ? performance.now() - frame.sentAt : 0 });
    queueMicrotask(() => this.#flush());
  }

  /** A frame that the server will not answer is answered here, in the same form. */
  #fail(frame, code, text) {
    if (!this.#frames.has(frame.frameId)) return;
    this.#settle(frame, null, new ForgeSyteError(code, text, frame.frameId));
    const message = { type: "error", frame_id: frame.frameId, plugin: frame.header.plugin, error_code: code };
    this.#tell("error", { ...message, message: text, timestamp: new Date().toISOString() });
  }

  async #answerWithin(frame, timeoutMs, signal) {
    const { promise, resolve } = deferred();
    const giveUp = (code, error) => {
      resolve({ error });
      this.#abandon(frame, code, error.message);
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

  /** Nobody waits for it any longer; one that has left stays in the ledger until the server has answered it. */
  #abandon(frame, code, text) {
    frame.abandoned = true;
    if (frame.attempts === 0) this.#fail(frame, code, text);
    else if (frame.jobId !== null && this.#knowsV2) this.#say({ type: "cancel", job_id: frame.jobId });
  }

  // Messages

  #receive(message) {
    const ends = message.type === "frame_result" || message.type === "error";
    if (ends && this.#frames.isRepeat(message)) return;
    const frame = ends || message.type === "job_update" ? this.#frames.find(message) : undefined;
    this.#frames.restoreName(message);
    if (ends && frame !== undefined) this.#settle(frame, message, errorOf(message));
    this.#tell(message.type, message);
    this.#tell("", message);
  }

  /** A connection that is closing still counts as open until its `close` event, but takes nothing any more. */
  #canSend() {
    return this.#state === "open" && this.#socket.readyState === WebSocket.OPEN;
  }

  #say(message) {
    if (this.#canSend()) this.#post(JSON.stringify(message));
  }

  #post(message) {
    this.#socket.send(message);
  }

  #setState(state, detail = {}) {
    this.#state = state;
    this.#tell("state", { state, reason: "", retryMs: 0, ...detail });
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

/** One picture between `sendFrame` and its answer. */
class Frame {
  bytes = null; // null while it is being encoded
  onWire = false; // sent on the connection there is now
  attempts = 0; // times sent
  wireId = null; // its name on the wire, where it was sent last
  jobs = new Map(); // by each of its names on the wire: the job it became, null if it is not known
  jobId = null; // the job it became where it was sent last
  asked = false; // its job was subscribed to after a reconnection
  abandoned = false; // nobody waits for its answer
  sentAt = 0;

  constructor(header, chosen) {
    this.header = header;
    this.frameId = header.frame_id;
    this.chosen = chosen; // by the caller, so that another client may have chosen the same
    ({ promise: this.left, resolve: this.leave, reject: this.stay } = deferred());
    ({ promise: this.done, resolve: this.finish } = deferred());
    this.left.catch(() => {}); // whoever awaits it is told; nobody needs to
  }
}

/**
 * The frames that have not been answered, in the order they are to be sent, and the memory of those that have.
 *
 * A frame is answered once; a second answer, after it was sent twice, is known by `frame_id` or `job_id`. From the
 * first subscription on, messages about other clients' frames come too: a frame whose id the caller chose then travels
 * under a name that nobody else can have chosen, and the messages about it get the chosen one back.
 */
class Unanswered {
  #waiting = new Map(); // by frameId
  #byWireId = new Map();
  #answered = new Map(); // ids of frames and jobs of late; whether others may have chosen the same
  #mark = `~${randomHex(4)}.`;
  #numbers = 0;
  /** Whether messages about other clients' frames may come. */
  overhears = false;

  get size() {
    return this.#waiting.size;
  }

  [Symbol.iterator]() {
    return [...this.#waiting.values()].values();
  }

  has(frameId) {
    return this.#waiting.has(frameId);
  }

  add(frame) {
    this.#waiting.set(frame.frameId, frame);
    this.#answered.delete(frame.frameId);
  }

  /** The name under which a frame is sent now. Answers to those it was sent under before are still known. */
  name(frame) {
    const { frameId, wireId, jobs } = frame;
    if (this.overhears && frame.chosen && (wireId ?? frameId) === frameId) {
      // Without its job nothing would tell an answer to the chosen name from another client's.
      if (!jobs.get(frameId)) this.#byWireId.delete(frameId);
      frame.wireId = `${frameId}${this.#mark}${++this.#numbers}`;
    }
    frame.wireId ??= frameId;
    frame.jobId = null;
    if (!jobs.has(frame.wireId)) jobs.set(frame.wireId, null);
    this.#byWireId.set(frame.wireId, frame);
    return frame.wireId;
  }

  /** The unanswered frame that a message is about; undefined if there is none. */
  find({ frame_id: wireId, job_id: jobId = null }) {
    const frame = this.#byWireId.get(wireId);
    if (frame === undefined) return undefined;
    // Sent before the first subscription: what the server said of it came before what it says of others.
    const known = this.overhears && frame.chosen && wireId === frame.frameId ? frame.jobs.get(wireId) : null;
    if (known !== null && jobId !== null && jobId !== known) return undefined;
    frame.jobId ??= jobId;
    if (frame.jobs.get(wireId) === null) frame.jobs.set(wireId, jobId);
    return frame;
  }

  /** Whether a terminal message is about a frame that has been answered. */
  isRepeat({ frame_id: wireId, job_id: jobId = null }) {
    if (jobId !== null && this.#answered.has(jobId)) return true;
    return this.#answered.has(wireId) && !(this.#answered.get(wireId) && this.overhears);
  }

  /** Give a message about a frame of this client, answered or not, the `frame_id` that the caller chose. */
  restoreName(message) {
    const end = typeof message.frame_id === "string" ? message.frame_id.lastIndexOf(this.#mark) : -1;
    if (end >= 0) message.frame_id = message.frame_id.slice(0, end);
  }

  /** It is answered (by that job), or nobody waits for it any more. @returns {boolean} Whether it was waiting. */
  remove(frame, jobId) {
    if (!this.#waiting.delete(frame.frameId)) return false;
    for (const [wireId, job] of frame.jobs) {
      if (this.#byWireId.get(wireId) === frame) this.#byWireId.delete(wireId);
      if (job !== null) this.#answered.set(job, false);
    }
    if (jobId) this.#answered.set(jobId, false);
    if (frame.wireId !== null) this.#answered.set(frame.wireId, frame.chosen && frame.wireId === frame.frameId);
    while (this.#answered.size > REMEMBERED_ANSWERS) this.#answered.delete(this.#answered.keys().next().value);
    return true;
  }
}

/** The pictures of a stream: one awaited from the source, at most `window` sent; in a live stream the newest waits. */
class Flow {
  sent = []; // promises of their outcomes, in the order of the source
  held = null; // the newest, while there is no room for it
  index = 0;

  constructor(source, window, live, send, skip) {
    Object.assign(this, { window, live, send, skip });
    this.iterator = (source[Symbol.asyncIterator] ?? source[Symbol.iterator]).call(source);
    this.pull();
  }

  get ended() {
    return this.next === null && this.sent.length === 0;
  }

  pull() {
    this.next = Promise.resolve(this.iterator.next()).then((step) => ({ step }));
    this.next.catch(() => {}); // a source may fail while nobody waits for it: `awaited` tells, or it concerns nobody
  }

  /** What can come next: `{outcome}` of the oldest sent, `{step}` of the source if there is room for a picture. */
  awaited() {
    const waits = this.sent.slice(0, 1);
    if (this.next !== null && (this.live || this.sent.length < this.window)) waits.push(this.next);
    return waits;
  }

  take({ done, value }) {
    if (done) {
      this.next = null;
      return;
    }
    const picture = { image: value, index: this.index++ };
    this.pull();
    if (this.sent.length < this.window) this.sent.push(this.send(picture));
    else {
      if (this.held !== null) this.skip();
      this.held = picture;
    }
  }

  /** The oldest has its outcome: there is room for what was held. */
  answered() {
    this.sent.shift();
    if (this.held !== null) this.sent.push(this.send(this.held));
    this.held = null;
  }

  close() {
    if (this.held !== null) this.skip();
    Promise.resolve(this.iterator.return?.()).catch(() => {});
  }
}

function errorOf(message) {
  if (message.type === "frame_result" && message.status !== "error") return null;
  const code = message.error_code ?? "PLUGIN_ERROR";
  return new ForgeSyteError(code, message.message ?? "the plugin reported an error", message.frame_id);
}

/** A server message, or null for what this client does not know: pictures of other streams, or no JSON. */
function parse(data) {
  if (typeof data !== "string") return null;
  try {
    const message = JSON.parse(data);
    return message !== null && typeof message === "object" ? message : null;
  } catch {
    return null;
  }
}

function binaryMessage(header, bytes) {
  const json = new TextEncoder().encode(JSON.stringify(header));
  const message = new Uint8Array(4 + json.length + bytes.length);
  new DataView(message.buffer).setUint32(0, json.length, true);
  message.set(json, 4);
  message.set(bytes, 4 + json.length);
  return message;
}

/** The bytes of an image file. Everything that can change later is taken before the first `await`. */
async function bytesOf(image, jpegQuality) {
  if (ArrayBuffer.isView(image)) return new Uint8Array(image.buffer, image.byteOffset, image.byteLength).slice();
  if (image instanceof ArrayBuffer) return new Uint8Array(image.slice(0));
  if (typeof image === "string") return fromBase64(image);
  const file = image instanceof Blob ? image : await encodeJpeg(image, jpegQuality);
  return new Uint8Array(await file.arrayBuffer());
}

function encodeJpeg(picture, quality) {
  const isCanvas = typeof picture?.getContext === "function";
  const canvas = isCanvas ? picture : drawn(picture);
  if (canvas.convertToBlob) return canvas.convertToBlob({ type: "image/jpeg", quality });
  return new Promise((resolve, reject) => {
    const failed = new Error("the canvas could not be encoded: it is empty or too large");
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(failed)), "image/jpeg", quality);
  });
}

function drawn(picture) {
  const width = picture?.videoWidth || picture?.naturalWidth || picture?.displayWidth || picture?.width;
  const height = picture?.videoHeight || picture?.naturalHeight || picture?.displayHeight || picture?.height;
  if (!(width > 0 && height > 0) || typeof OffscreenCanvas === "undefined") {
    throw new TypeError(
      "no picture: pass a Uint8Array, ArrayBuffer, Blob, base64 text, canvas, video or image that has loaded",
    );
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").drawImage(picture, 0, 0);
  return canvas;
}

/** Standard base64, in pieces: `String.fromCharCode(...bytes)` overflows the stack on a large picture. */
export function toBase64(bytes) {
  if (bytes.toBase64) return bytes.toBase64();
  const piece = 3 * 8192; // a multiple of three, so that pieces join without padding between them
  let text = "";
  for (let start = 0; start < bytes.length; start += piece) {
    text += btoa(String.fromCharCode.apply(null, bytes.subarray(start, start + piece)));
  }
  return text;
}

function fromBase64(text) {
  const base64 = text.startsWith("data:") ? text.slice(text.indexOf(",") + 1) : text;
  try {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  } catch (cause) {
    throw new TypeError("the text is not base64: pass the bytes of an image file, or its base64", { cause });
  }
}

function defaultUrl() {
  if (!globalThis.location?.host) return "ws://localhost:8000";
  return new URL(".", globalThis.location.href).href;
}

function randomHex(bytes) {
  const random = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function deferred() {
  let resolve, reject;
  const promise = new Promise((yes, no) => ([resolve, reject] = [yes, no]));
  return { promise, resolve, reject };
}

const mib = (bytes) => (bytes / 2 ** 20).toFixed(1);

const noServer = (url) =>
  `no server answers at ${url}, or it refused this page: is fs.serve() running, and is this its port (server.url)?`;
