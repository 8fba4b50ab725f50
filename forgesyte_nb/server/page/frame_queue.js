/**
 * The frames of one client on their way: each is answered exactly once, by the server or here.
 *
 * At most `window` are under way, the others wait in the order they came. After a reconnection what was not answered
 * is sent again, but not to a session that goes on and has made a job of it.
 */

import { bytesOf } from "./picture_bytes.js";
import { Frame, Unanswered } from "./unanswered.js";
import { ForgeSyteError, binaryMessage, errorOf, randomHex, toBase64 } from "./wire.js";

const BUFFERED_BYTES = 4 * 2 ** 20; // more than this in the socket only makes frames old
const BUFFER_POLL_MS = 20; // WebSocket has no event for a buffer that has drained
const ATTEMPTS = 5; // a frame that was under way each time the connection broke may be what breaks it
const TOO_BIG = 1009;

export class FrameQueue {
  #transport;
  #settings;
  #failed;
  #frames = new Unanswered();
  #underWay = 0;
  #drainTimer = null;
  #held = false; // it is not known yet what has to be sent again
  #counts = { sent: 0, results: 0, errors: 0, skipped: 0 };
  #idPrefix = `frame_${randomHex(4)}_`;
  #numbers = 0;

  /**
   * @param {Transport} transport
   * @param {{window: () => number, binary: boolean, jpegQuality: number}} settings
   * @param {(message: object) => void} failed Called with an `error` message for each frame that fails here.
   */
  constructor(transport, settings, failed) {
    this.#transport = transport;
    this.#settings = settings;
    this.#failed = failed;
  }

  /** `sent` = `results` + `errors` + `skipped` + `pending`, at every moment. */
  get ledger() {
    return { ...this.#counts, pending: this.#frames.size };
  }

  /** From now on messages about other clients' frames may come. */
  overhear() {
    this.#frames.overhears = true;
  }

  submit(image, plugin, options, { frameId: chosen, streamId = "" }) {
    const frameId = chosen ?? `${this.#idPrefix}${++this.#numbers}`;
    this.#check(frameId, options);
    const header = { type: "send_frame", frame_id: frameId, plugin, options: structuredClone(options) };
    if (streamId) header.stream_id = streamId;
    const frame = new Frame(header, chosen !== undefined);
    this.#frames.add(frame);
    this.#counts.sent += 1;
    bytesOf(image, this.#settings.jpegQuality).then(
      (bytes) => {
        frame.bytes = bytes;
        this.flush();
      },
      (error) => this.#fail(frame, "INVALID_IMAGE", error.message),
    );
    return frame;
  }

  #check(frameId, options) {
    const { state } = this.#transport;
    if (state === "idle" || state === "closed") {
      throw new ForgeSyteError("NOT_CONNECTED", "not connected: call connect() first", frameId);
    }
    if (this.#frames.has(frameId)) {
      const text = `frame_id ${frameId} is not answered yet: leave frameId out, and each frame gets its own`;
      throw new ForgeSyteError("DUPLICATE_FRAME_ID", text, frameId);
    }
    if (options === null || typeof options !== "object" || Array.isArray(options)) {
      throw new ForgeSyteError("INVALID_OPTIONS", "options must be an object such as {threshold: 0.8}", frameId);
    }
  }

  /** A picture that was passed over for a newer one. */
  skip() {
    this.#counts.sent += 1;
    this.#counts.skipped += 1;
  }

  /** Send what may be sent; a frame that is still being encoded holds up those behind it, to keep the order. */
  flush() {
    if (this.#held || !this.#transport.canSend) return;
    for (const frame of this.#frames) {
      if (this.#underWay >= this.#settings.window()) return;
      if (frame.onWire) continue;
      if (frame.bytes === null) return;
      if (this.#transport.bufferedAmount > BUFFERED_BYTES) {
        this.#drainTimer ??= setTimeout(() => {
          this.#drainTimer = null;
          this.flush();
        }, BUFFER_POLL_MS);
        return;
      }
      this.#transmit(frame);
    }
  }

  #transmit(frame) {
    const header = { ...frame.header, frame_id: this.#frames.name(frame) };
    const binary = this.#transport.knowsV2 && this.#settings.binary;
    const message = binary
      ? binaryMessage(header, frame.bytes)
      : JSON.stringify({ ...header, image_data: toBase64(frame.bytes) });
    const limit = this.#transport.hello?.max_message_bytes ?? Infinity;
    if (message.length > limit) {
      const sizes = `${mib(message.length)} MiB, the server takes ${mib(limit)}`;
      this.#fail(frame, "INVALID_MESSAGE", `the picture makes a message of ${sizes}: send a smaller one`);
      return;
    }
    frame.onWire = true;
    frame.attempts += 1;
    frame.sentAt ||= performance.now();
    this.#underWay += 1;
    this.#transport.send(message);
    frame.leave(frame.frameId);
  }

  /** Nobody waits for it any longer; one that has left stays in the ledger until the server has answered it. */
  abandon(frame, code, text) {
    frame.abandoned = true;
    if (frame.attempts === 0) this.#fail(frame, code, text);
    else if (frame.jobId !== null && this.#transport.knowsV2) this.#say({ type: "cancel", job_id: frame.jobId });
  }

  // What comes back

  /** Take a message. @returns {boolean} Whether it is news: false for an answer that comes a second time. */
  receive(message) {
    const ends = message.type === "frame_result" || message.type === "error";
    if (ends && this.#frames.isRepeat(message)) return false;
    const frame = ends || message.type === "job_update" ? this.#frames.find(message) : undefined;
    this.#frames.restoreName(message);
    if (ends && frame !== undefined) this.#settle(frame, message, errorOf(message));
    return true;
  }

  /** The one place where a frame gets its answer. */
  #settle(frame, message, error) {
    if (!this.#frames.remove(frame, message?.job_id)) return;
    if (frame.onWire) this.#underWay -= 1;
    this.#counts[error === null ? "results" : "errors"] += 1;
    if (frame.attempts === 0) frame.stay(error);
    frame.finish({ message, error, latencyMs: frame.sentAt ? performance.now() - frame.sentAt : 0 });
    queueMicrotask(() => this.flush());
  }

  /** A frame that the server will not answer is answered here, in the same form. */
  #fail(frame, code, text) {
    if (!this.#frames.has(frame.frameId)) return;
    this.#settle(frame, null, new ForgeSyteError(code, text, frame.frameId));
    const message = { type: "error", frame_id: frame.frameId, plugin: frame.header.plugin, error_code: code };
    this.#failed({ ...message, message: text, timestamp: new Date().toISOString() });
  }

  // Connections

  /** Whether frames have been sent and not answered. */
  get underWay() {
    return this.#underWay > 0;
  }

  /** A connection stands, but it is not known yet what has to be sent again. */
  hold() {
    this.#held = true;
  }

  /** @param {boolean} recovered Whether the session goes on, and nothing it said was missed. */
  resume(recovered) {
    this.#held = false;
    this.#underWay = 0;
    for (const frame of this.#frames) this.#putBack(frame, recovered);
    queueMicrotask(() => this.flush());
  }

  /** After a reconnection. A frame that the session has made a job of is not sent again. */
  #putBack(frame, recovered) {
    frame.onWire = frame.onWire && recovered && frame.jobId !== null;
    if (frame.onWire) {
      this.#underWay += 1;
    } else if (frame.abandoned || frame.attempts >= ATTEMPTS) {
      this.#fail(frame, "CONNECTION_LOST", `the connection broke while it was under way (${frame.attempts} times)`);
    }
  }

  /** The connection broke. One that closed over a message too large would do so for ever: the largest fails. */
  lost({ code, reason }) {
    const sent = [...this.#frames].filter((frame) => frame.onWire);
    if (code !== TOO_BIG || sent.length === 0) return;
    const largest = sent.reduce((a, b) => (b.bytes.length > a.bytes.length ? b : a));
    const text = `the server refused a message of this size (${reason || TOO_BIG}): send a smaller picture`;
    this.#fail(largest, "INVALID_MESSAGE", text);
  }

  /** There will be no other connection: everything fails. */
  end(code, text) {
    clearTimeout(this.#drainTimer);
    this.#drainTimer = null;
    for (const frame of this.#frames) this.#fail(frame, code, text);
  }

  #say(message) {
    if (this.#transport.canSend) this.#transport.send(JSON.stringify(message));
  }
}

const mib = (bytes) => (bytes / 2 ** 20).toFixed(1);
