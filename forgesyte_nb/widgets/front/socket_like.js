/** What the client knows of a WebSocket, for connections that are none. */

export const CONNECTING = 0;
export const OPEN = 1;
export const CLOSED = 3;

export class SocketLike extends EventTarget {
  readyState = CONNECTING;
  protocol = "";
  binaryType = "arraybuffer";
  onopen = null;
  onmessage = null;
  onerror = null;
  onclose = null;

  /** Tell listeners of both kinds. */
  emit(type, fields = {}) {
    const event = Object.assign(new Event(type), fields);
    this[`on${type}`]?.(event);
    this.dispatchEvent(event);
  }

  opened(protocol) {
    this.readyState = OPEN;
    this.protocol = protocol;
    this.emit("open");
  }

  /** It has ended; twice is once. */
  ended(code, reason) {
    if (this.readyState === CLOSED) return;
    this.readyState = CLOSED;
    this.emit("close", { code, reason, wasClean: code === 1000 });
  }
}
