/** A source of pictures, sent one after the other as there is room. Knows only functions that send and skip. */

/** The pictures of a stream: one awaited from the source, at most `window` sent; in a live stream the newest waits. */
export class Flow {
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

  /** Outcomes in the order of the source; ends at its end or when the signal aborts, and closes the source. */
  async *outcomes(signal) {
    const { promise: aborted, resolve: onAbort } = Promise.withResolvers();
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      while (!this.ended) {
        const { step, outcome } = await Promise.race([aborted, ...this.awaited()]);
        if (signal?.aborted) return;
        if (step) this.take(step);
        if (outcome) {
          this.answered();
          yield outcome;
        }
      }
    } finally {
      signal?.removeEventListener("abort", onAbort);
      this.close();
    }
  }

  close() {
    if (this.held !== null) this.skip();
    Promise.resolve(this.iterator.return?.()).catch(() => {});
  }
}
