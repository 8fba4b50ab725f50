// The three ways, in Node: fake sockets and a fake model, and a real server for the way that is a WebSocket.

import assert from "node:assert/strict";
import { test } from "node:test";

const { reach, CommSocket, FeedWatch, Fit } = await import(process.env.FORGESYTE_BUNDLE);

const FEEDS = process.env.FORGESYTE_FEEDS_ID;
const HELLO = { type: "hello", feeds_id: FEEDS, session: "s", seq: 1 };
const LAB = { hostname: "localhost", href: "http://localhost:8888/lab/tree/a.ipynb?token=x#y", baseUrl: "/user/me/" };

/** A widget's model: traits, messages to the kernel kept in `sent`. */
class Model {
  listeners = [];
  sent = [];
  constructor(where) {
    this.traits = { _where: { feeds_id: FEEDS, direct: "ws://localhost:1", kernel_id: "k-1", ...where } };
  }
  get(name) { return this.traits[name]; }
  on(name, listener) { this.listeners.push({ name, listener }); }
  off(name, listener) { this.listeners = this.listeners.filter((one) => one.name !== name || one.listener !== listener); }
  tell(name, ...args) { for (const one of [...this.listeners]) if (one.name === name) one.listener(...args); }
  send(content, _, buffers) {
    this.sent.push({ content, buffers });
    this.onSend?.(content);
  }
  /** The kernel answers views that open. */
  answers(texts = [HELLO]) {
    this.onSend = ({ kind, view }) => {
      if (kind === "open") queueMicrotask(() => this.say(view, texts));
    };
    return this;
  }
  say(view, texts, buffers = []) {
    this.tell("msg:custom", { to: view, texts: texts.map((text) => JSON.stringify(text)) }, buffers);
  }
}

/** Makes WebSockets that behave as `script(url, socket)` says, and keeps them. */
function sockets(script) {
  const made = [];
  class FakeSocket {
    readyState = 0;
    said = [];
    constructor(url, protocols) {
      Object.assign(this, { url, protocols });
      made.push(this);
      queueMicrotask(() => script(url, this));
    }
    hears(message) {
      this.readyState = 1;
      this.onmessage?.({ data: message instanceof ArrayBuffer ? message : JSON.stringify(message) });
    }
    send(message) { this.said.push(message); }
    ends(code, reason = "") {
      this.readyState = 3;
      this.onclose?.({ code, reason });
    }
    close() { this.readyState = 3; }
  }
  return { made, FakeSocket };
}

async function until(condition, what) {
  for (let turn = 0; !condition(); turn += 1) {
    assert.ok(turn < 2000, `waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function start(t, model, script, page = {}, how = {}) {
  const gone = new AbortController();
  const { made, FakeSocket } = sockets(script);
  const link = reach(model, gone.signal, { page: { ...LAB, ...page, WebSocket: FakeSocket }, limitMs: 60, pauseMs: 5, ...how });
  t.after(() => gone.abort());
  return { link, made, gone };
}

const picture = (feed, seq) => {
  const json = new TextEncoder().encode(JSON.stringify({ type: "frame", feed, seq }));
  const bytes = new Uint8Array(4 + json.length + 2);
  new DataView(bytes.buffer).setUint32(0, json.length, true);
  bytes.set(json, 4);
  bytes.set([7, 8], 4 + json.length);
  return bytes.buffer;
};

test("the direct way is taken if it answers with this kernel's hello", async (t) => {
  const { link, made } = start(t, new Model(), (_, socket) => socket.hears(HELLO));
  await until(() => link.way === "direct", "the direct way");
  assert.equal(made.length, 1);
  assert.match(made[0].url, /^ws:\/\/localhost:1\/ws\/view_\w+$/);
  assert.deepEqual(made[0].protocols, ["forgesyte.v2"]);
  assert.equal(link.client.hello.session, "s");
});

test("the relay is next, under the Jupyter Server's own path and without its token", async (t) => {
  const script = (url, socket) => (url.startsWith("ws://localhost:1/") ? socket.ends(1006) : socket.hears(HELLO));
  const { link, made } = start(t, new Model(), script);
  await until(() => link.way === "relay", "the relay");
  assert.match(made[1].url, /^ws:\/\/localhost:8888\/user\/me\/forgesyte_nb\/k-1\/ws\/view_\w+$/);
  assert.deepEqual(link.tried[0], { way: "direct", said: "refused" });
});

test("the server of another kernel, silence and rubbish are passed over", async (t) => {
  const model = new Model().answers();
  const script = (url, socket) => {
    if (url.startsWith("ws://localhost:1/")) socket.hears({ ...HELLO, feeds_id: "another" });
  };
  const { link, made } = start(t, model, script);
  await until(() => link.way === "comm", "the comm way");
  assert.deepEqual(link.tried.map(({ said }) => said).slice(0, 2), ["the server of another kernel", "no answer within 0.06 s"]);
  assert.ok(made.every((socket) => socket.readyState === 3));
});

test("from a page that is not on loopback the direct way is not even tried", async (t) => {
  for (const hostname of ["lab.example.org", "localhost.example.org", "127.0.0.1.example.org"]) {
    const { link, made } = start(t, new Model(), (_, socket) => socket.hears(HELLO), { hostname });
    await until(() => link.way === "relay", "the relay");
    assert.equal(made.length, 1);
  }
});

test("what cannot be taken is said", async (t) => {
  const model = new Model({ direct: null, kernel_id: null }).answers();
  const { link, made } = start(t, model, () => {});
  await until(() => link.way === "comm", "the comm way");
  assert.equal(made.length, 0);
  assert.match(link.tried[0].said, /without a token/);
  assert.match(link.tried[1].said, /not started by a Jupyter Server/);
  assert.match(link.tried[2].said, /answered/);
});

test("by comm, pictures come as bytes, are paced, and are not acknowledged", async (t) => {
  const model = new Model({ direct: null, kernel_id: null }).answers();
  const { link } = start(t, model, () => {});
  const seen = [];
  link.watch("f", { onFrame: (header, bytes) => seen.push([header.seq, ...bytes]) });
  await until(() => link.way === "comm", "the comm way");
  const view = model.sent[0].content.view;
  await until(() => model.sent.length > 1, "the watch");
  assert.deepEqual(JSON.parse(model.sent[1].content.text), { pace_ms: 60, type: "watch", feed: "f" });
  const padded = new Uint8Array(200);
  padded.set(new Uint8Array(picture("f", 3)), 8);
  model.say(view, [], [new DataView(padded.buffer, 8, picture("f", 3).byteLength)]);
  model.say("another view", [], [new DataView(picture("f", 4))]);
  await until(() => seen.length > 0, "the picture");
  assert.deepEqual(seen, [[3, 7, 8]]);
  assert.equal(model.sent.filter(({ content }) => content.text?.includes("ack")).length, 0);
});

test("lost, it begins again from the top, and watches again", async (t) => {
  const model = new Model().answers();
  let refuse = true;
  const script = (url, socket) => {
    if (refuse) socket.ends(1006);
    else socket.hears(HELLO);
  };
  const { link, made } = start(t, model, script);
  link.watch("f", {});
  await until(() => link.way === "comm", "the comm way");
  refuse = false;
  model.tell("msg:custom", { to: model.sent[0].content.view, closed: "the server was closed" });
  assert.equal(link.way, "none");
  await until(() => link.way === "direct", "the direct way");
  assert.deepEqual(JSON.parse(made.at(-1).said[0]), { type: "watch", feed: "f" });
});

test("it tries for as long as the view lives, also if nothing ever answered, and not after", async (t) => {
  const model = new Model();
  const { link, made, gone } = start(t, model, (_, socket) => socket.ends(1006), {}, { limitMs: 5 });
  await until(() => made.length > 8, "several attempts");
  assert.equal(link.way, "none");
  assert.match(link.tried.at(-1).said, /no answer/);
  gone.abort();
  await new Promise((resolve) => setTimeout(resolve, 60));
  const attempts = made.length;
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.equal(made.length, attempts);
  assert.deepEqual(model.listeners, []);
});

test("a new address is tried at once", async (t) => {
  const model = new Model();
  const script = (url, socket) => (url.startsWith("ws://localhost:2/") ? socket.hears(HELLO) : socket.ends(1006));
  const { link } = start(t, model, script, {}, { limitMs: 5, pauseMs: 60_000 });
  await until(() => link.tried.length === 3, "the first attempt");
  await until(() => link.client.state === "closed", "its end");
  model.traits._where = { ...model.traits._where, direct: "ws://localhost:2" };
  model.tell("change:_where");
  await until(() => link.way === "direct", "the direct way");
});

test("a comm that has died is a lost connection, not an exception", async () => {
  const model = new Model();
  model.send = () => {
    throw new Error("comm is gone");
  };
  const socket = new CommSocket(model, "v");
  const reason = await new Promise((resolve) => (socket.onclose = (event) => resolve(event.reason)));
  assert.match(reason, /comm is gone/);
  assert.deepEqual(model.listeners, []);
});

test("a kernel that is restarted ends the connection at once", async () => {
  const model = new Model().answers();
  const socket = new CommSocket(model, "v");
  await until(() => socket.readyState === 1, "the hello");
  const reason = new Promise((resolve) => (socket.onclose = (event) => resolve(event.reason)));
  model.tell("comm_live_update");
  assert.match(await reason, /restarted/);
  assert.deepEqual(model.listeners, []);
});

test("closing says gone", async () => {
  const model = new Model().answers();
  const socket = new CommSocket(model, "v");
  await until(() => socket.readyState === 1, "the hello");
  socket.send(new Uint8Array([1, 2]));
  socket.close();
  assert.deepEqual(model.sent.map(({ content }) => content.kind), ["open", "say", "gone"]);
  assert.deepEqual([...model.sent[1].buffers[0]], [1, 2]);
});

test("pictures are acknowledged when they are drawn, and the newest is next", async () => {
  const said = [];
  const drawn = [];
  let release;
  const watch = new FeedWatch("f", (message) => said.push(message) > 0, {
    onFrame: ({ seq }) => {
      drawn.push(seq);
      return seq === 1 ? new Promise((resolve) => (release = resolve)) : null;
    },
  });
  for (const seq of [1, 2, 3]) watch.take({ seq }, new Uint8Array());
  assert.deepEqual(drawn, [1]);
  assert.equal(said.some(({ type }) => type === "ack"), false);
  release();
  await until(() => drawn.length === 2, "the newest");
  assert.deepEqual(drawn, [1, 3]);
  await until(() => said.filter(({ type }) => type === "ack").length === 2, "both acknowledgements");
  watch.pause();
  watch.pause();
  watch.resume();
  assert.deepEqual(said.slice(-2).map(({ type }) => type), ["unwatch", "watch"]);
});

test("controls are answered, refused, or lost", async () => {
  const said = [];
  const watch = new FeedWatch("f", (message) => said.push(message) > 0, {});
  const answer = (fields) => watch.receive({ type: "controlled", request_id: said.at(-1).request_id, ...fields });
  const good = watch.control("play");
  answer({ ok: true, value: 5 });
  assert.equal(await good, 5);
  const bad = watch.control("fly");
  answer({ ok: false, message: "no action 'fly'" });
  await assert.rejects(bad, /no action 'fly'/);
  const lost = watch.control("play");
  watch.lost();
  await assert.rejects(lost, /lost before it answered/);
  const unconnected = new FeedWatch("f", () => false, {}).control("play");
  await assert.rejects(unconnected, /no connection/);
});

test("late pictures are asked for smaller, and prompt ones larger again", () => {
  const fit = new Fit();
  assert.deepEqual(fit.wishes(640, 700), { maxWidth: undefined, quality: undefined });
  assert.deepEqual(fit.wishes(4000, 700), { maxWidth: 704, quality: 85 });
  let now = 1e6;
  const arrive = (count, ageMs) => {
    for (let index = 0; index < count; index += 1) fit.arrived((now += 33) / 1000 - ageMs / 1000, now);
  };
  arrive(20, 5000); // clocks that differ are no delay
  assert.equal(fit.level, 0);
  arrive(12, 5600);
  assert.equal(fit.level, 1);
  assert.ok(fit.wishes(640, 700).maxWidth < 640);
  arrive(100, 5600);
  assert.equal(fit.level, 3);
  arrive(70, 5010);
  assert.equal(fit.level, 2);
});

test("with a real server, pictures, states and controls go their ways", async (t) => {
  const model = new Model({ direct: process.env.FORGESYTE_URL });
  const gone = new AbortController();
  t.after(() => gone.abort());
  const link = reach(model, gone.signal, { page: { ...LAB, WebSocket } });
  const seen = { frames: [], states: [], ends: [] };
  const feed = link.watch(process.env.FORGESYTE_FEED, {
    onFrame: (header, bytes) => seen.frames.push(new TextDecoder().decode(bytes)),
    onState: (state) => seen.states.push(state),
    onEnd: (reason) => seen.ends.push(reason),
  });
  await until(() => seen.frames.includes("first") && seen.states.length > 0, "the first picture and state");
  assert.equal(link.way, "direct");
  assert.deepEqual(seen.states[0], { playing: true });
  assert.deepEqual(await feed.control("show", "second"), "shown second");
  await until(() => seen.frames.includes("second"), "the second picture");
  await assert.rejects(feed.control("fly"), /no action 'fly'/);
  feed.control("end").catch(() => {});
  await until(() => seen.ends.length > 0, "the end");
  assert.deepEqual(seen.ends, ["it was asked to end"]);
});
