/**
 * Watching feeds with forgesyte.js, against a real server: FORGESYTE_FEED names a feed whose controls are `show` and
 * `tell` (publish), `watchers` (how many there are), and `end`. The tests run in order; the last one ends the feed.
 */
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { ForgeSyteClient } from "../../forgesyte_nb/server/page/forgesyte.js";
import { Proxy } from "./proxy.mjs";

const { FORGESYTE_URL: URL_ONE, FORGESYTE_FEED: FEED } = process.env;

const closing = [];
const opened = async (url = URL_ONE) => {
  const client = new ForgeSyteClient(url, { backoffMs: 5, maxBackoffMs: 40 });
  closing.push(() => client.close());
  await client.connect();
  return client;
};
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const until = async (condition) => {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5));
};

/** Watches and keeps what comes. */
const seen = (client, how = {}) => {
  const kept = { pictures: [], states: [], ends: [] };
  const watch = client.watch(FEED, {
    onFrame: ({ label, content_type }, bytes) => kept.pictures.push([label, content_type, Buffer.from(bytes).toString()]),
    onState: (state) => kept.states.push(state),
    onEnd: (reason) => kept.ends.push(reason),
    ...how,
  });
  return Object.assign(kept, { watch, labels: () => kept.pictures.map(([label]) => label) });
};

test("hello lists the feed; a view gets the newest picture and state, then what comes", async () => {
  const client = await opened();
  assert.deepEqual(client.hello.feeds.find(({ feed }) => feed === FEED), { feed: FEED, kind: "stream", title: "a street" });
  const view = seen(client);
  await until(() => view.pictures.length === 1 && view.states.length === 1);
  assert.deepEqual(view.pictures, [["first", "image/jpeg", "first"]]);
  assert.deepEqual(view.states, [{ playing: true }]);
  await view.watch.control("tell", { playing: false });
  await until(() => view.states.length === 2);
  assert.deepEqual(view.states[1], { playing: false });
});

test("a control is answered with its value, or rejected with the server's words", async () => {
  const client = await opened();
  const { watch } = seen(client);
  assert.equal(await watch.control("watchers"), 1);
  await assert.rejects(watch.control("jump"), { code: "CONTROL_FAILED", message: "no action 'jump'" });
  await client.close();
  await assert.rejects(watch.control("watchers"), { code: "CONTROL_FAILED" });
});

test("a picture is acknowledged when onFrame has settled, also by failing; the newest comes next", async () => {
  const client = await opened();
  const started = [];
  const doors = [];
  const { watch } = seen(client, {
    onFrame: ({ label }) => {
      started.push(label);
      return new Promise((resolve, reject) => doors.push(label === "b" ? reject : resolve));
    },
  });
  await until(() => started.length === 1);
  const warn = console.warn;
  console.warn = () => {};
  closing.push(() => (console.warn = warn));
  for (const label of ["a", "b", "c", "d"]) await watch.control("show", label);
  assert.equal(started.length, 1);
  while (started.at(-1) !== "d") {
    const before = started.length;
    doors.at(-1)(new Error("cannot be drawn"));
    await until(() => started.length > before);
  }
  assert.ok(started.length < 5, started.join()); // at most two were sent before the first was drawn
  doors.at(-1)();
});

test("paused it is not watched, resumed it gets the newest; closed nothing more", async () => {
  const [client, other] = [await opened(), await opened()];
  const steering = other.watch(FEED);
  const view = seen(client);
  await until(() => view.pictures.length === 1);
  view.watch.pause();
  await until(async () => (await steering.control("watchers")) === 1);
  await steering.control("show", "unseen");
  await steering.control("show", "seen");
  view.watch.resume();
  await until(() => view.pictures.length === 2);
  assert.equal(view.labels()[1], "seen");
  view.watch.close();
  await until(async () => (await steering.control("watchers")) === 1);
  await steering.control("show", "later");
  assert.equal(view.pictures.length, 2);
});

test("two views of one client share a feed and do not end one another's", async () => {
  const client = await opened();
  const one = seen(client);
  await until(() => one.pictures.length === 1);
  const two = seen(client);
  await until(() => two.pictures.length === 1 && two.states.length === 1);
  two.watch.close();
  await one.watch.control("show", "for one");
  await until(() => one.labels().includes("for one"));
  assert.equal(two.labels().includes("for one"), false);
});

test("after a reconnection it is watched again, and what was asked on the lost connection is rejected", async () => {
  const proxy = await new Proxy(URL_ONE).listen();
  closing.push(() => proxy.close());
  const client = await opened(proxy.url);
  const view = seen(client);
  await until(() => view.pictures.length === 1);
  const asked = view.watch.control("watchers");
  proxy.cut();
  await assert.rejects(asked, { code: "CONTROL_FAILED", message: /lost/ });
  await until(() => view.pictures.length === 2);
  await view.watch.control("show", "back");
  await until(() => view.labels().at(-1) === "back");
});

test("a feed that is not there, and one that ends, say so once", async () => {
  const client = await opened();
  const reasons = [];
  client.watch("stream-none", { onEnd: (reason) => reasons.push(reason) });
  await until(() => reasons.length === 1);
  assert.match(reasons[0], /no such feed/);
  const view = seen(client);
  await view.watch.control("end", "it rains");
  await until(() => view.ends.length === 1);
  assert.deepEqual(view.ends, ["it rains"]);
  await assert.rejects(view.watch.control("show", "x"), /no such feed|has ended/);
});
