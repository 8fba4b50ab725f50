/** Feeds, which are live pictures of things in the kernel, as views see them: newest picture and state, and controls. */

import { ForgeSyteError } from "./wire.js";

let requests = 0;

/** All that one client watches. */
export class FeedWatches {
  #say;
  #byFeed = new Map(); // by feed id, a set of watches each

  /** @param {(message: object) => boolean} say Sends a message; false if there is no connection. */
  constructor(say) {
    this.#say = say;
  }

  /** @param {string} feedId @param {object} how The handlers and wishes of a `FeedWatch`. */
  watch(feedId, { maxWidth, quality, paceMs, ...handlers }) {
    const group = this.#byFeed.get(feedId) ?? new Set();
    let watch = null;
    const others = () => [...group].some((one) => one !== watch && one.wanted);
    const say = (message) => {
      if (message.type === "unwatch" && others()) return true;
      // The server gives a connection each picture and state once: begun anew, it gives them to a second view too.
      if (message.type === "watch" && others()) this.#say({ type: "unwatch", feed: feedId });
      return this.#say(message);
    };
    const gone = () => {
      group.delete(watch);
      if (group.size === 0 && this.#byFeed.get(feedId) === group) this.#byFeed.delete(feedId);
    };
    watch = new FeedWatch(feedId, say, handlers, { maxWidth, quality, paceMs }, gone);
    this.#byFeed.set(feedId, group.add(watch));
    return watch;
  }

  #all() {
    return [...this.#byFeed.values()].flatMap((group) => [...group]);
  }

  /** A connection stands. */
  restore() {
    for (const watch of this.#all()) watch.watch();
  }

  /** There is none. */
  lost() {
    for (const watch of this.#all()) watch.lost();
  }

  /** Take a message; a picture has a payload. @param {Uint8Array | null} payload */
  receive(message, payload) {
    for (const watch of [...(this.#byFeed.get(message.feed) ?? [])]) {
      if (payload === null) watch.receive(message);
      else if (message.type === "frame") watch.take(message, payload);
    }
  }
}

export class FeedWatch {
  #say;
  #handlers;
  #wishes;
  #wanted = true; // false while hidden
  #ended = false;
  #newest = null; // arrived while another was being drawn
  #drawing = false;
  #asked = new Map(); // controls without an answer, by request id
  #gone;

  /**
   * @param {string} feedId
   * @param {(message: object) => boolean} say Sends a message; false if there is no connection.
   * @param {object} handlers
   * @param {(header: object, bytes: Uint8Array) => any} [handlers.onFrame] A picture; what it returns is awaited, then
   *   the picture counts as drawn. Of those that come meanwhile the newest is next.
   * @param {(state: object) => any} [handlers.onState]
   * @param {(reason: string) => any} [handlers.onEnd] Nothing more will come.
   * @param {{maxWidth?: number, quality?: number, paceMs?: number}} [wishes] Widest picture in pixels, JPEG quality 1–95
   *   of pictures that are scaled down to it; with `paceMs`, at most one in so many milliseconds, none acknowledged.
   * @param {() => void} [gone] Called when it is closed.
   */
  constructor(feedId, say, handlers, wishes = {}, gone = () => {}) {
    this.#gone = gone;
    this.feedId = feedId;
    this.#say = say;
    this.#handlers = handlers;
    this.#wishes = wishes;
    this.watch();
  }

  /** Whether pictures are wanted. */
  get wanted() {
    return this.#wanted && !this.#ended;
  }

  /** Say what is wanted; again after each reconnection. */
  watch() {
    if (!this.#wanted || this.#ended) return;
    const { maxWidth, quality, paceMs } = this.#wishes;
    this.#say({ type: "watch", feed: this.feedId, max_width: maxWidth, quality, pace_ms: paceMs });
  }

  /** Want pictures otherwise from now on. */
  retune(wishes) {
    const next = { ...this.#wishes, ...wishes };
    if (Object.keys(next).every((name) => next[name] === this.#wishes[name])) return;
    this.#wishes = next;
    this.watch();
  }

  /** Nobody looks. */
  pause() {
    if (!this.#wanted) return;
    this.#wanted = false;
    this.#newest = null;
    this.#say({ type: "unwatch", feed: this.feedId });
  }

  /** Somebody looks again. */
  resume() {
    if (this.#wanted) return;
    this.#wanted = true;
    this.watch();
  }

  /**
   * Steer what stands behind the feed.
   *
   * @returns {Promise<any>} What came of it; rejected with the reason why nothing did.
   */
  control(action, value = null) {
    const request = `c${++requests}`;
    return new Promise((resolve, reject) => {
      this.#asked.set(request, { resolve, reject });
      const said = this.#say({ type: "control", feed: this.feedId, action, value, request_id: request });
      if (!said) this.#answer(request, false, null, "there is no connection to the kernel at the moment");
    });
  }

  #answer(request, ok, value, message) {
    const waiting = this.#asked.get(request);
    this.#asked.delete(request);
    if (ok) waiting?.resolve(value);
    else waiting?.reject(new ForgeSyteError("CONTROL_FAILED", message));
  }

  /** Take a text message about this feed. */
  receive(message) {
    if (message.type === "feed_state") this.#handlers.onState?.(message.state);
    else if (message.type === "controlled") {
      this.#answer(message.request_id, message.ok, message.value, message.message);
    } else if (message.type === "feed_ended" && !this.#ended) {
      this.#ended = true;
      this.#handlers.onEnd?.(message.reason);
    }
  }

  /** Take a picture. */
  async take(header, bytes) {
    if (!this.wanted) return;
    this.#newest = { header, bytes };
    if (this.#drawing) return;
    this.#drawing = true;
    while (this.#newest !== null) {
      const { header: next, bytes: picture } = this.#newest;
      this.#newest = null;
      try {
        await this.#handlers.onFrame?.(next, picture);
      } catch (error) {
        console.warn("[forgesyte] a picture could not be drawn", error);
      }
      this.#say({ type: "ack", feed: this.feedId, seq: next.seq });
    }
    this.#drawing = false;
  }

  /** The connection is lost: nobody will answer what was asked on it. */
  lost() {
    for (const request of [...this.#asked.keys()]) {
      this.#answer(request, false, null, "the connection to the kernel was lost before it answered");
    }
  }

  /** Watch no longer. */
  close() {
    this.pause();
    this.lost();
    this.#ended = true;
    this.#gone();
  }
}
