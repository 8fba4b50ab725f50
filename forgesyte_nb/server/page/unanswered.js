/**
 * Frames between the call that sends them and their answer, over as many connections as it takes. Sends nothing.
 */

import { randomHex } from "./wire.js";

const REMEMBERED_ANSWERS = 4096;

/** One picture between `sendFrame` and its answer. */
export class Frame {
  bytes = null; // null while it is being encoded
  onWire = false; // sent on the connection there is now
  attempts = 0; // times sent
  wireId = null; // its name on the wire, where it was sent last
  jobs = new Map(); // by each of its names on the wire: the job it became, null if it is not known
  jobId = null; // the job it became where it was sent last
  abandoned = false; // nobody waits for its answer
  sentAt = 0;

  constructor(header, chosen) {
    this.header = header;
    this.frameId = header.frame_id;
    this.chosen = chosen; // by the caller, so that another client may have chosen the same
    ({ promise: this.left, resolve: this.leave, reject: this.stay } = Promise.withResolvers());
    ({ promise: this.done, resolve: this.finish } = Promise.withResolvers());
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
export class Unanswered {
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
