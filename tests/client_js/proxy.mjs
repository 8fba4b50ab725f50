/**
 * A TCP proxy on loopback that tests can cut, point elsewhere, or make forget the subprotocol that was offered.
 */
import net from "node:net";

export class Proxy {
  #server;
  #pairs = new Set();
  /** New connections are closed at once while this is true. */
  refusing = false;
  /** Whether the handshake's offer of subprotocols is removed, as by a server that knows none. */
  strips = false;
  /** Connections made so far. */
  made = 0;

  /** @param {string | URL} target Whose host and port connections go to; may be changed at any time. */
  constructor(target) {
    this.target = target;
  }

  async listen() {
    this.#server = net.createServer((near) => this.#serve(near));
    await new Promise((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    this.url = `ws://127.0.0.1:${this.#server.address().port}`;
    return this;
  }

  #serve(near) {
    if (this.refusing) {
      near.destroy();
      return;
    }
    this.made += 1;
    const { hostname, port } = new URL(this.target);
    const far = net.connect({ host: hostname, port: Number(port) });
    const pair = { near, far };
    this.#pairs.add(pair);
    const end = () => {
      near.destroy();
      far.destroy();
      this.#pairs.delete(pair);
    };
    for (const socket of [near, far]) socket.on("error", end).on("close", end);
    near.once("data", (head) => {
      const text = head.toString("latin1");
      far.write(this.strips ? text.replace(/Sec-WebSocket-Protocol:[^\r\n]*\r\n/i, "") : text, "latin1");
      near.pipe(far);
    });
    far.pipe(near);
  }

  /** Break every connection without a word, as a network does. */
  cut() {
    for (const { near, far } of [...this.#pairs]) {
      near.destroy();
      far.destroy();
    }
  }

  async close() {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
