/**
 * The third way: a WebSocket's likeness over the widget's own messages (see `comm_views.py` for the other end).
 *
 * What goes to the kernel may wait until a cell has ended, so pictures are asked for at a timed pace and are not
 * acknowledged.
 */

import { OPEN, CLOSED, SocketLike } from "./socket_like.js";

const PACE_MS = 60;
const SIGN_OF_LIFE_MS = 20_000;

export class CommSocket extends SocketLike {
  bufferedAmount = 0;
  answersMayWait = true; // until a cell has ended
  #model;
  #viewId;
  #receive = (content, buffers) => this.#received(content, buffers ?? []);
  #leave = () => this.close();
  #cut = () => this.#end(1006, "the kernel was restarted, or the notebook lost it");
  #timer;

  /**
   * @param {object} model The widget's model, as anywidget gives it.
   * @param {string} viewId Unique: each has a session of its own in the kernel.
   */
  constructor(model, viewId) {
    super();
    this.#model = model;
    this.#viewId = viewId;
    model.on("msg:custom", this.#receive);
    model.on("comm_live_update", this.#cut);
    globalThis.addEventListener?.("pagehide", this.#leave);
    this.#timer = setInterval(() => this.#post("here"), SIGN_OF_LIFE_MS);
    queueMicrotask(() => this.readyState === CLOSED || this.#post("open"));
  }

  #post(kind, fields = {}, buffers = []) {
    try {
      this.#model.send({ view: this.#viewId, kind, ...fields }, undefined, buffers);
    } catch (error) {
      this.#end(1006, `the notebook has no connection to the kernel (${error.message ?? error})`);
    }
  }

  #received(content, buffers) {
    if (content?.to !== this.#viewId || this.readyState === CLOSED) return;
    if (typeof content.closed === "string") {
      this.#end(1001, content.closed);
      return;
    }
    if (this.readyState !== OPEN) this.opened("forgesyte.v2");
    for (const text of content.texts ?? []) this.emit("message", { data: text });
    for (const { buffer, byteOffset, byteLength } of buffers) {
      this.emit("message", { data: buffer.slice(byteOffset, byteOffset + byteLength) });
    }
  }

  send(message) {
    if (this.readyState !== OPEN) return;
    if (typeof message !== "string") {
      this.#post("say", {}, [message]);
      return;
    }
    const said = JSON.parse(message);
    if (said.type === "ack") return;
    const paced = said.type === "watch" ? JSON.stringify({ pace_ms: PACE_MS, ...said }) : message;
    this.#post("say", { text: paced });
  }

  close(code = 1000, reason = "") {
    if (this.readyState !== CLOSED) this.#post("gone");
    this.#end(code, reason);
  }

  #end(code, reason) {
    clearInterval(this.#timer);
    this.#model.off("msg:custom", this.#receive);
    this.#model.off("comm_live_update", this.#cut);
    globalThis.removeEventListener?.("pagehide", this.#leave);
    this.ended(code, reason);
  }
}
