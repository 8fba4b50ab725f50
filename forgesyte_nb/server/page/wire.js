/**
 * What goes over the wire, and what is said of it: errors, binary messages, base64, unique names. Knows no connection.
 *
 * A binary message (`forgesyte.v2`, both ways) is a 32-bit little-endian length, that many bytes of JSON header, and
 * the payload.
 */

/** Pictures go as binary messages, `hello` comes first. */
export const SUBPROTOCOL = "forgesyte.v2";
export const SEED_SUBPROTOCOL = "forgesyte.v1"; // the plain protocol, which a server may select by name

const HEADER_LENGTH_BYTES = 4;

/**
 * A frame that failed, or a connection that cannot be had.
 *
 * `code` is the wire's `error_code` (`INVALID_IMAGE`, `PLUGIN_NOT_FOUND`, `PLUGIN_ERROR`, `PROCESSING_TIMEOUT`,
 * `INVALID_OPTIONS`, `INVALID_MESSAGE`, `QUEUE_FULL`), or one of this side: `NOT_CONNECTED`, `CONNECTION_LOST`,
 * `CLOSED`, `CLIENT_TIMEOUT`, `ABORTED`, `DUPLICATE_FRAME_ID`, `HTTP_ERROR`, `CONTROL_FAILED`.
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

/** The error a terminal message tells of; null if it tells of success. */
export function errorOf(message) {
  if (message.type === "frame_result" && message.status !== "error") return null;
  const code = message.error_code ?? "PLUGIN_ERROR";
  return new ForgeSyteError(code, message.message ?? "the plugin reported an error", message.frame_id);
}

/** A server's message and, of a binary one, its payload; null for what is neither. */
export function decodeMessage(data) {
  try {
    if (typeof data === "string") return asMessage(JSON.parse(data), null);
    const bytes = ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data);
    const start = HEADER_LENGTH_BYTES + new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
    const header = new TextDecoder().decode(bytes.subarray(HEADER_LENGTH_BYTES, start));
    return asMessage(JSON.parse(header), bytes.subarray(start));
  } catch {
    return null;
  }
}

function asMessage(message, payload) {
  return message !== null && typeof message === "object" ? { message, payload } : null;
}

/** A binary message. */
export function binaryMessage(header, bytes) {
  const json = new TextEncoder().encode(JSON.stringify(header));
  const message = new Uint8Array(4 + json.length + bytes.length);
  new DataView(message.buffer).setUint32(0, json.length, true);
  message.set(json, 4);
  message.set(bytes, 4 + json.length);
  return message;
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

/** The bytes of base64 text or of a `data:` URL. */
export function fromBase64(text) {
  const base64 = text.startsWith("data:") ? text.slice(text.indexOf(",") + 1) : text;
  try {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  } catch (cause) {
    throw new TypeError("the text is not base64: pass the bytes of an image file, or its base64", { cause });
  }
}

/**
 * Refuse a token that a browser cannot present, without showing it. It travels in the name of a subprotocol, which
 * consists of the characters of RFC 9110, section 5.6.2.
 *
 * @param {string} token
 * @throws {TypeError} Names the first character that is not allowed.
 */
export function checkToken(token) {
  if (typeof token !== "string") throw new TypeError(`token=<hidden>: a ${typeof token}; pass the server's secret, a string`);
  const characters = [...token];
  const at = characters.findIndex((character) => !/^[A-Za-z0-9!#$%&'*+\-.^_`|~]$/.test(character));
  if (at === -1) return;
  const kinds = { " ": "a space", ",": "a comma", "\n": "a line break", "\r": "a line break" };
  const other = /^[ -~]$/.test(characters[at]) ? "a sign" : "not printable ASCII";
  throw new TypeError(
    `token=<hidden>: its character ${at + 1} is ${kinds[characters[at]] ?? other}, which cannot be presented to a server; ` +
      "use the secret that the server was started with",
  );
}

/** Text that nobody else makes, for ids. */
export function randomHex(bytes) {
  const random = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
