/**
 * forgesyte.js against a real server: FORGESYTE_URL names it, FORGESYTE_SECOND_URL another one of the same kind.
 * Plugins there: `probe` (echoes its options and the picture's size), `gate` (waits until it is let through by an
 * option's file), `broken` (raises). test_client_js.py starts both and runs this file with Node's own runner.
 */
import assert from "node:assert/strict";
import { rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterEach, test } from "node:test";

import { ForgeSyteClient, ForgeSyteError, toBase64 } from "../../forgesyte_nb/server/page/forgesyte.js";
import { Proxy } from "./proxy.mjs";

const URL_ONE = process.env.FORGESYTE_URL;
const URL_TWO = process.env.FORGESYTE_SECOND_URL;
const SCRATCH = process.env.FORGESYTE_SCRATCH;
const PICTURE = new Uint8Array(Buffer.from(process.env.FORGESYTE_PICTURE, "base64"));

const closing = [];
const opened = async (url = URL_ONE, settings = {}) => {
  const client = new ForgeSyteClient(url, { backoffMs: 5, maxBackoffMs: 40, ...settings });
  closing.push(() => client.close());
  await client.connect();
  return client;
};
const proxied = async () => {
  const proxy = await new Proxy(URL_ONE).listen();
  closing.push(() => proxy.close());
  return proxy;
};
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const until = async (condition) => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
};
const state = (client, wanted) =>
  new Promise((resolve) => {
    const end = client.onState((change) => change.state === wanted && (end(), resolve(change)));
  });
const assertAddsUp = ({ sent, results, errors, skipped, pending }) =>
  assert.equal(sent, results + errors + skipped + pending);
let gates = 0;
/** Options for the plugin `gate`, and the function that lets its frames through. */
const aGate = () => {
  const file = path.join(SCRATCH, `gate_${process.pid}_${gates++}`);
  closing.push(() => rm(file, { force: true }));
  return [{ file }, () => writeFile(file, "")];
};

test("a picture in every form gives the same result", async () => {
  const client = await opened();
  const base64 = toBase64(PICTURE);
  const whole = new Uint8Array(PICTURE.length + 8);
  whole.set(PICTURE, 3);
  const forms = {
    bytes: PICTURE,
    view: whole.subarray(3, 3 + PICTURE.length),
    buffer: PICTURE.slice().buffer,
    blob: new Blob([PICTURE]),
    file: new File([PICTURE], "a.png"),
    base64,
    data: `data:image/png;base64,${base64}`,
  };
  for (const [name, form] of Object.entries(forms)) {
    const message = await client.analyze(form, "probe", { threshold: 0.25 });
    assert.equal(message.type, "frame_result", name);
    assert.deepEqual(message.result, { width: 8, height: 6, threshold: 0.25 }, name);
  }
  assert.deepEqual(client.ledger, { sent: 7, results: 7, errors: 0, skipped: 0, pending: 0 });
});

test("the same over base64 text, and without the subprotocol", async () => {
  const text = await opened(URL_ONE, { binary: false });
  assert.equal((await text.analyze(PICTURE, "probe")).result.width, 8);
  const proxy = await proxied();
  proxy.strips = true;
  const plain = await opened(proxy.url);
  assert.equal(plain.hello, null);
  const message = await plain.analyze(PICTURE, "probe");
  assert.equal(message.result.width, 8);
  assert.equal("seq" in message, false);
});

test("base64 of a picture larger than the stack", () => {
  const bytes = new Uint8Array(3_000_001).map((_, index) => index * 31);
  const withoutNative = bytes.slice();
  withoutNative.toBase64 = undefined;
  const expected = Buffer.from(bytes).toString("base64");
  assert.equal(toBase64(withoutNative), expected);
  assert.equal(toBase64(bytes), expected);
});

test("errors have the server's code, its text and the frame's id", async () => {
  const client = await opened();
  const cases = [
    ["INVALID_IMAGE", () => client.analyze(new Uint8Array(50), "probe", {}, { frameId: "a" })],
    ["PLUGIN_NOT_FOUND", () => client.analyze(PICTURE, "prob", {}, { frameId: "b" })],
    ["INVALID_OPTIONS", () => client.analyze(PICTURE, "probe", { threshold: 7 }, { frameId: "c" })],
    ["PLUGIN_ERROR", () => client.analyze(PICTURE, "broken", {}, { frameId: "d" })],
    ["INVALID_IMAGE", () => client.analyze("not base64!", "probe", {}, { frameId: "e" })],
    ["INVALID_OPTIONS", () => client.analyze(PICTURE, "probe", [1], { frameId: "f" })],
  ];
  const ids = [];
  client.onError((message) => ids.push(message.frame_id));
  for (const [code, call] of cases) {
    await assert.rejects(call, (error) => {
      assert.ok(error instanceof ForgeSyteError);
      assert.equal(error.code, code);
      assert.ok(error.message.length > 10 && error.frameId);
      return true;
    });
  }
  assert.deepEqual(ids, ["a", "b", "c", "d", "e"]); // the last never became a frame
  assert.deepEqual(client.ledger, { sent: 5, results: 0, errors: 5, skipped: 0, pending: 0 });
});

test("a thousand frames without awaiting: each answered once, at most a window of them under way", async () => {
  const client = await opened(URL_ONE, { window: 7 });
  const answers = new Map();
  const jobs = new Set();
  let most = 0;
  client.onJobUpdate(({ status, job_id }) => {
    if (status === "pending") most = Math.max(most, jobs.add(job_id).size);
  });
  client.onFrameResult(({ frame_id, job_id }) => {
    answers.set(frame_id, (answers.get(frame_id) ?? 0) + 1);
    jobs.delete(job_id);
  });
  const ids = await Promise.all(Array.from({ length: 1000 }, () => client.sendFrame(PICTURE, "probe")));
  await until(() => client.ledger.pending === 0);
  assert.equal(new Set(ids).size, 1000);
  assert.deepEqual([...answers.keys()].sort(), [...ids].sort());
  assert.ok([...answers.values()].every((count) => count === 1));
  assert.ok(most <= 7, `${most} under way`);
});

test("frames leave in the order of the calls, whatever form they have", async () => {
  const client = await opened();
  const order = [];
  client.onJobUpdate(({ status, frame_id }) => status === "pending" && order.push(frame_id));
  const forms = [new Blob([PICTURE]), PICTURE, new Blob([PICTURE]), toBase64(PICTURE)];
  await Promise.all(forms.map((form, index) => client.analyze(form, "probe", {}, { frameId: `n${index}` })));
  assert.deepEqual(order, ["n0", "n1", "n2", "n3"]);
});

test("a frame's bytes and options are those of the moment of the call", async () => {
  const client = await opened(URL_ONE, { window: 1 });
  const [shut, letThrough] = aGate();
  const first = client.analyze(PICTURE, "gate", shut);
  const [bytes, options] = [PICTURE.slice(), { threshold: 0.5 }];
  const second = client.analyze(bytes, "probe", options);
  bytes.fill(0);
  options.threshold = 7;
  await letThrough();
  await first;
  assert.equal((await second).result.threshold, 0.5);
});

test("an id that is not answered yet is refused, and may be used again later", async () => {
  const client = await opened();
  const [shut, letThrough] = aGate();
  const first = client.analyze(PICTURE, "gate", shut, { frameId: "one" });
  await assert.rejects(client.sendFrame(PICTURE, "probe", {}, { frameId: "one" }), { code: "DUPLICATE_FRAME_ID" });
  await letThrough();
  await first;
  assert.equal((await client.analyze(PICTURE, "probe", {}, { frameId: "one" })).frame_id, "one");
});

test("timeouts and aborts end the waiting, and the ledger still adds up", async () => {
  const client = await opened(URL_ONE, { window: 1 });
  const [shut, letThrough] = aGate();
  await assert.rejects(client.analyze(PICTURE, "gate", shut, { timeoutMs: 30 }), { code: "CLIENT_TIMEOUT" });
  const controller = new AbortController();
  const aborted = client.analyze(PICTURE, "probe", {}, { signal: controller.signal });
  controller.abort(new Error("enough"));
  await assert.rejects(aborted, { message: "enough" });
  assertAddsUp(client.ledger);
  await letThrough();
  await until(() => client.ledger.pending === 0);
  assertAddsUp(client.ledger);
  assert.equal(client.ledger.sent, 2);
});

test("cut connections: every frame is answered exactly once, in one session", async () => {
  const proxy = await proxied();
  const client = await opened(proxy.url);
  client.subscribe("plugin_probe");
  const answers = new Map();
  client.onFrameResult(({ frame_id }) => answers.set(frame_id, (answers.get(frame_id) ?? 0) + 1));
  const sent = Array.from({ length: 300 }, () => client.sendFrame(PICTURE, "probe"));
  for (const mark of [40, 90, 160, 230]) {
    await until(() => answers.size >= mark);
    proxy.cut();
  }
  const ids = await Promise.all(sent);
  await until(() => client.ledger.pending === 0);
  assert.equal(answers.size, 300);
  assert.ok(ids.every((id) => answers.get(id) === 1));
  assert.deepEqual(client.ledger, { sent: 300, results: 300, errors: 0, skipped: 0, pending: 0 });
  assert.ok(proxy.made >= 5);
});

test("a frame that its session has accepted is not sent again", async () => {
  const proxy = await proxied();
  const client = await opened(proxy.url);
  const pending = [];
  client.onJobUpdate((update) => update.status === "pending" && pending.push(update.job_id));
  const [shut, letThrough] = aGate();
  const answer = client.analyze(PICTURE, "gate", shut);
  await until(() => pending.length === 1);
  proxy.cut();
  await state(client, "open");
  await letThrough();
  assert.equal((await answer).job_id, pending[0]);
  assert.equal(new Set(pending).size, 1);
});

test("another server in its place gets what was not answered, and the subscriptions", async () => {
  const proxy = await proxied();
  const client = await opened(proxy.url);
  const first = client.hello.server_id;
  client.subscribe("all");
  const [shut, letThrough] = aGate();
  const answer = client.analyze(PICTURE, "gate", shut);
  proxy.refusing = true;
  proxy.cut();
  const { reason, retryMs } = await state(client, "reconnecting");
  assert.ok(reason.length > 0 && retryMs > 0);
  const late = client.analyze(PICTURE, "probe");
  proxy.target = URL_TWO;
  proxy.refusing = false;
  await state(client, "open");
  assert.notEqual(client.hello.server_id, first);
  await letThrough();
  assert.equal((await answer).type, "frame_result");
  assert.equal((await late).type, "frame_result");
  const other = await opened(URL_TWO);
  const heard = new Promise((resolve) => client.onFrameResult(resolve));
  const { job_id } = await other.analyze(PICTURE, "probe");
  assert.equal((await heard).job_id, job_id);
});

test("subscriptions: topics deliver other clients' results until they are ended; acknowledgements are seen", async () => {
  const [listener, sender] = [await opened(), await opened()];
  const kinds = [];
  listener.onMessage(({ type, topic }) => topic && kinds.push(`${type} ${topic}`));
  const heard = [];
  listener.onFrameResult(({ frame_id }) => heard.push(frame_id));
  listener.subscribe("plugin_probe");
  await until(() => kinds.length === 1);
  await sender.analyze(PICTURE, "probe", {}, { frameId: "mine" });
  await until(() => heard.length === 1);
  listener.unsubscribe("plugin_probe");
  await until(() => kinds.length === 2);
  await sender.analyze(PICTURE, "probe");
  await listener.analyze(PICTURE, "probe", {}, { frameId: "own" });
  assert.deepEqual(kinds, ["subscribed plugin_probe", "unsubscribed plugin_probe"]);
  assert.deepEqual(heard, ["mine", "own"]);
  assert.equal(listener.ledger.sent, 1);
});

for (const subprotocol of [true, false]) {
  for (const subscribed of ["before", "after"]) {
    const how = `${subprotocol ? "v2" : "plain"}, subscribed ${subscribed} sending`;
    test(`others' frames of the same id are told apart (${how})`, async () => {
      const proxy = await proxied();
      proxy.strips = !subprotocol;
      const [watcher, other] = [await opened(proxy.url), await opened()];
      const [own, heard] = [[], []];
      watcher.onJobUpdate((message) => message.plugin === "gate" && own.push(message));
      for (const listen of ["onFrameResult", "onError"]) watcher[listen](({ plugin, frame_id }) => heard.push([plugin, frame_id]));
      const subscribe = async () => {
        watcher.subscribe("all");
        await watcher.analyze(PICTURE, "probe");
        heard.length = 0;
      };
      if (subscribed === "before") await subscribe();
      const [shut, letThrough] = aGate();
      const answer = watcher.analyze(PICTURE, "gate", shut, { frameId: "same" });
      await until(() => own.length > 0);
      if (subscribed === "after") await subscribe();
      await other.analyze(PICTURE, "probe", {}, { frameId: "same" });
      await other.analyze(PICTURE, "broken", {}, { frameId: "same" }).catch(() => {});
      await until(() => heard.length === 2);
      assert.equal(watcher.ledger.pending, 1);
      await letThrough();
      const { plugin, frame_id } = await answer;
      assert.deepEqual([plugin, frame_id], ["gate", "same"]);
      await other.analyze(PICTURE, "probe", {}, { frameId: "same" }); // no repeat of the watcher's own answer
      await until(() => heard.length === 4);
      assert.deepEqual(heard, ["probe", "broken", "gate", "probe"].map((name) => [name, "same"]));
      assert.ok(own.every((message) => message.frame_id === "same"));
    });
  }
}

test("listeners can be taken off, and one that throws harms nobody", async () => {
  const client = await opened();
  const uncaught = [];
  const before = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", (error) => uncaught.push(error.message));
  let heard = 0;
  const off = client.onFrameResult(() => {
    throw new Error("a listener's own");
  });
  client.onFrameResult(() => (heard += 1));
  await client.analyze(PICTURE, "probe");
  off();
  await client.analyze(PICTURE, "probe");
  await until(() => uncaught.length > 0);
  process.removeAllListeners("uncaughtException");
  for (const listener of before) process.on("uncaughtException", listener);
  assert.deepEqual(uncaught, ["a listener's own"]);
  assert.equal(heard, 2);
});

test("stream, every frame: in the order of the source, errors among them", async () => {
  const client = await opened();
  async function* source() {
    for (let index = 0; index < 30; index += 1) yield index === 11 ? new Uint8Array(50) : PICTURE;
  }
  const seen = [];
  for await (const { index, image, message, error, latencyMs } of client.stream(source(), "probe", {}, { window: 4 })) {
    seen.push(index);
    assert.equal(error === null, index !== 11);
    assert.equal(message.type, index === 11 ? "error" : "frame_result");
    assert.ok(latencyMs > 0 && image.length > 0);
  }
  assert.deepEqual(seen, Array.from({ length: 30 }, (_, index) => index));
  assert.deepEqual(client.ledger, { sent: 30, results: 29, errors: 1, skipped: 0, pending: 0 });
});

test("stream, freshest: the newest waits, those it replaced are counted", async () => {
  const client = await opened();
  const [shut, letThrough] = aGate();
  let taken = 0;
  async function* source() {
    for (; taken < 20; taken += 1) yield PICTURE;
    await letThrough();
  }
  const seen = [];
  for await (const { index } of client.stream(source(), "gate", shut, { intent: "freshest", window: 2 })) seen.push(index);
  assert.deepEqual(seen, [0, 1, 19]);
  assert.deepEqual(client.ledger, { sent: 20, results: 3, errors: 0, skipped: 17, pending: 0 });
});

test("a source that fails while the window is full: what is under way is answered, then the error comes", async () => {
  const client = await opened();
  const [shut, letThrough] = aGate();
  const uncaught = [];
  const note = (reason) => uncaught.push(reason);
  process.on("unhandledRejection", note);
  closing.push(() => process.off("unhandledRejection", note));
  async function* source() {
    yield PICTURE;
    yield PICTURE;
    throw new Error("the camera fell down");
  }
  const seen = [];
  const streaming = (async () => {
    for await (const { index } of client.stream(source(), "gate", shut, { window: 2 })) seen.push(index);
  })();
  const failed = assert.rejects(streaming, { message: "the camera fell down" });
  await until(() => client.ledger.pending === 2);
  await new Promise((resolve) => setImmediate(resolve)); // rejections without a listener are told by now
  await letThrough();
  await failed;
  assert.deepEqual(uncaught, []);
  await until(() => client.ledger.pending === 0);
  assert.deepEqual(client.ledger, { sent: 2, results: 2, errors: 0, skipped: 0, pending: 0 });
});

test("a stream that is aborted or left ends, and its source with it", async () => {
  const client = await opened();
  let ended = 0;
  async function* endless() {
    try {
      for (;;) yield PICTURE;
    } finally {
      ended += 1;
    }
  }
  for await (const { index } of client.stream(endless(), "probe")) if (index === 3) break;
  await until(() => ended === 1);
  const controller = new AbortController();
  const { signal } = controller;
  for await (const { index } of client.stream(endless(), "probe", () => ({}), { signal })) if (index === 3) controller.abort();
  await until(() => ended === 2);
  await until(() => client.ledger.pending === 0);
  assertAddsUp(client.ledger);
});

test("batch: one outcome for each, in their order", async () => {
  const client = await opened();
  let told = 0;
  const outcomes = await client.batch([PICTURE, new Uint8Array(50), new Blob([PICTURE])], "probe", {}, {
    onProgress: () => (told += 1),
  });
  assert.deepEqual(outcomes.map(({ error }) => error?.code ?? "ok"), ["ok", "INVALID_IMAGE", "ok"]);
  assert.equal(told, 3);
});

test("plugins() lists names and option schemas", async () => {
  const client = await opened();
  const { plugins, failed } = await client.plugins();
  const probe = plugins.find(({ name }) => name === "probe");
  assert.equal(probe.options.properties.threshold.maximum, 1);
  assert.ok(Array.isArray(failed));
});

test("a picture over the server's limit is refused here, with the sizes", async () => {
  const client = await opened();
  const big = new Uint8Array(client.hello.max_message_bytes + 1);
  await assert.rejects(client.analyze(big, "probe"), { code: "INVALID_MESSAGE", message: /MiB.*smaller/ });
  assert.equal(client.state, "open");
});

test("without `hello`, a picture over the limit fails alone, and the connection comes back", async () => {
  const proxy = await proxied();
  proxy.strips = true;
  const client = await opened(proxy.url);
  const big = client.analyze(new Uint8Array(17 * 2 ** 20), "probe");
  await assert.rejects(big, { code: "INVALID_MESSAGE", message: /smaller/ });
  assert.equal((await client.analyze(PICTURE, "probe")).type, "frame_result");
});

test("another socket than WebSocket can be given, and loses nothing over sessions that never got a frame", async () => {
  const sessions = ["first", "second", "second"];
  const frames = [];
  /** The first server has made the frame a job and is gone; the connection to the next breaks before it has it. */
  class Socket {
    bufferedAmount = 0;
    readyState = 1;
    constructor(url, [protocol]) {
      Object.assign(this, { url, protocol });
      this.session = sessions.shift();
      queueMicrotask(() => this.say({ type: "hello", session: this.session }));
    }
    say(message) {
      this.onmessage({ data: JSON.stringify(message) });
    }
    send(data) {
      if (typeof data === "string") return; // a subscription
      const length = new DataView(data.buffer).getUint32(0, true);
      const { frame_id, plugin } = JSON.parse(new TextDecoder().decode(data.subarray(4, 4 + length)));
      frames.push(this.session);
      const names = { frame_id, plugin, job_id: `job_${this.session}` };
      queueMicrotask(() => {
        if (this.session === "first") this.say({ ...names, type: "job_update", status: "pending" });
        if (frames.length < 3) this.end(1006);
        else this.say({ ...names, type: "frame_result", status: "success", result: { text: "a" } });
      });
    }
    end(code) {
      this.readyState = 3;
      this.onclose({ code, reason: "" });
    }
    close(code) {
      this.end(code);
    }
  }
  const asked = [];
  const socket = (url, protocols) => {
    asked.push([url, protocols]);
    return new Socket(url, protocols);
  };
  const client = await opened("comm://somewhere/", { socket, clientId: "one" });
  assert.equal((await client.analyze(PICTURE, "ocr")).result.text, "a");
  assert.deepEqual(frames, ["first", "second", "second"]);
  assert.deepEqual(asked[0], ["comm://somewhere/ws/one", ["forgesyte.v2", "forgesyte.v1"]]);
});

test("close answers what is open, and a closed client says what to do", async () => {
  const client = await opened();
  const [shut, letThrough] = aGate();
  const answer = client.analyze(PICTURE, "gate", shut);
  const failed = assert.rejects(answer, { code: "CLOSED" });
  await client.close();
  await failed;
  await letThrough();
  assert.equal(client.state, "closed");
  await assert.rejects(client.sendFrame(PICTURE, "probe"), { code: "NOT_CONNECTED", message: /connect\(\)/ });
  assertAddsUp(client.ledger);
  await client.connect();
  assert.equal((await client.analyze(PICTURE, "probe")).type, "frame_result");
});

test("nobody there: connect() says where it looked", async () => {
  const proxy = await proxied();
  await proxy.close();
  closing.splice(0);
  const client = new ForgeSyteClient(proxy.url);
  await assert.rejects(client.connect(), { code: "CONNECTION_LOST", message: new RegExp(proxy.url) });
  assert.equal(client.state, "closed");
});

test("without reconnect a lost connection fails what was open", async () => {
  const proxy = await proxied();
  const client = await opened(proxy.url, { reconnect: false });
  const [shut, letThrough] = aGate();
  const answer = client.analyze(PICTURE, "gate", shut);
  const failed = assert.rejects(answer, { code: "CONNECTION_LOST" });
  await until(() => client.ledger.sent === 1);
  proxy.cut();
  await failed;
  await letThrough();
  assert.equal(client.state, "closed");
});

/** A socket without a line; what is made of it says what it does once it is open. */
class FakeSocket {
  bufferedAmount = 0;
  readyState = 1;
  sent = [];
  constructor(sockets, url, [protocol]) {
    Object.assign(this, { url, protocol });
    sockets.push(this);
    queueMicrotask(() => this.opens());
  }
  say(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }
}

const hello = (sockets) => ({ type: "hello", seq: 1, session: `s${sockets.length}` });

test("a line that has gone silent is noticed, and made again", async () => {
  const sockets = [];
  class Socket extends FakeSocket {
    opens() {
      this.say(hello(sockets));
    }
    send(data) {
      const said = JSON.parse(data);
      this.sent.push(said.type);
      if (sockets.length > 1) queueMicrotask(() => this.say({ type: "unsubscribed", seq: 2, topic: said.topic }));
    }
    close() {
      this.readyState = 2; // the peer is gone: `close` does not come
    }
  }
  const socket = (url, protocols) => new Socket(sockets, url, protocols);
  const client = await opened("ws://somewhere", { socket, silenceMs: 20, backoffMs: 1 });
  const reasons = [];
  client.onState(({ state, reason }) => state === "reconnecting" && reasons.push(reason));
  await until(() => sockets.length === 2 && client.state === "open");
  assert.deepEqual(sockets[0].sent, ["unsubscribe"]);
  assert.match(reasons[0], /ws:\/\/somewhere has not answered for 0.04 s/);
  sockets[1].say({ type: "broadcast", seq: 2 });
  await until(() => sockets[1].sent.length > 3);
  assert.equal(sockets.length, 2, "one that answers is kept");
  sockets[1].onclose({ code: 1000, reason: "" });
});

test("a server that greets and is gone again is told nothing; the next one is told all", async () => {
  const sockets = [];
  class Socket extends FakeSocket {
    opens() {
      if (sockets.length === 2) this.readyState = 2; // the Close frame came right behind the greeting
      this.say(hello(sockets));
    }
    send(data) {
      assert.equal(this.readyState, 1, "a browser complains of every message to a socket that is closing");
      this.sent.push(JSON.parse(data));
    }
    close() {}
  }
  const socket = (url, protocols) => new Socket(sockets, url, protocols);
  const client = await opened("ws://somewhere", { socket, backoffMs: 1 });
  client.subscribe("all");
  sockets[0].onclose({ code: 1006, reason: "" });
  await until(() => sockets.length === 2 && client.state === "open");
  sockets[1].onclose({ code: 1001, reason: "" });
  await until(() => sockets.length === 3 && client.state === "open");
  assert.deepEqual(sockets.map((one) => one.sent), [
    [{ type: "subscribe", topic: "all" }],
    [],
    [{ type: "subscribe", topic: "all" }],
  ]);
  sockets[2].onclose({ code: 1000, reason: "" });
});
