/**
 * Coming back to the session that a broken connection left, without a hole and without doing anything twice.
 *
 * Under `forgesyte.v2` the server numbers what it says. On a new connection the client says which session it left and
 * what it has of it; the server says again what was missed, or that it cannot. Only then is it known what has to be sent
 * again. A server that knows no sessions of this kind is asked for nothing. Sends nothing itself.
 */

export class Resumption {
  /** Whether the connection of the moment goes on where the last one broke, with nothing missed. */
  recovered = false;
  /** Whether that is known, and all that was missed has come. */
  settled = true;
  #epoch = "";
  #secret = "";
  #lastSeq = 0;
  #offered = {};
  #missingUntil = 0;

  /**
   * A connection stands.
   *
   * @param {object | null} hello Null under the plain protocol. Its secret is taken out of it.
   * @param {boolean} needed Whether there is anything to go on with.
   * @returns {object | null} What to say first.
   */
  greeted(hello, needed) {
    const { epoch = "", secret = "", seq = 0 } = hello ?? {};
    if (hello !== null) delete hello.secret;
    this.recovered = false;
    this.settled = !(needed && this.#epoch && epoch);
    this.#missingUntil = 0;
    this.#offered = { epoch, secret };
    if (!this.settled) return { type: "resume", epoch: this.#epoch, seq: this.#lastSeq, secret: this.#secret };
    [this.#epoch, this.#secret, this.#lastSeq] = [epoch, secret, seq];
    return null;
  }

  /** Look at a message. @returns {boolean} Whether it settles what has to be sent again. */
  received({ type, seq, recovered, epoch, missed = 0 }) {
    if (type === "hello" || typeof seq !== "number") return false;
    if (type === "resumed") {
      this.recovered = recovered === true;
      if (epoch !== this.#epoch) [this.#epoch, this.#secret] = [this.#offered.epoch, this.#offered.secret];
      this.#missingUntil = seq + missed;
    } else if (!this.settled && this.#missingUntil === 0) {
      return false; // not yet by the numbers of the session that is resumed
    }
    this.#lastSeq = seq;
    const settles = !this.settled && seq >= this.#missingUntil;
    this.settled ||= settles;
    return settles;
  }
}
