/** Coming back, as the JavaScript client reckons it: which number it says, and when it knows what to send again. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Resumption } from "../../forgesyte_nb/server/page/resumption.js";

const hello = (epoch, seq = 1) => ({ type: "hello", seq, epoch, secret: `secret of ${epoch}` });
const resumed = (epoch, seq, more = {}) => ({ type: "resumed", seq, epoch, recovered: true, missed: 0, ...more });
const resume = (epoch, seq) => ({ type: "resume", epoch, seq, secret: `secret of ${epoch}` });

/** Had the messages 1 to 3 of epoch "a" when its connection broke; on the next it was greeted. */
function broken() {
  const client = new Resumption();
  const greeting = hello("a");
  assert.equal(client.greeted(greeting, true), null);
  assert.equal(greeting.secret, undefined, "it is for nobody else");
  for (const seq of [2, 3]) client.received({ type: "job_update", seq });
  assert.deepEqual(client.greeted(hello("b"), true), resume("a", 3));
  assert.equal(client.settled, false);
  return client;
}

test("it is settled when all that was missed has come", () => {
  const client = broken();
  assert.equal(client.received(resumed("a", 4, { missed: 2 })), false);
  assert.equal(client.received({ type: "job_update", seq: 5 }), false);
  assert.equal(client.received({ type: "frame_result", seq: 6 }), true);
  assert.deepEqual([client.settled, client.recovered], [true, true]);
  assert.deepEqual(client.greeted(hello("c"), true), resume("a", 6));
});

test("what comes before the answer is numbered by another epoch", () => {
  const client = broken();
  for (const seq of [2, 77]) assert.equal(client.received({ type: "broadcast", seq }), false);
  assert.deepEqual(client.greeted(hello("c"), true), resume("a", 3));
});

test("an earlier answer does not settle a later question", () => {
  const client = broken();
  client.received(resumed("a", 4));
  client.greeted(hello("c"), true);
  assert.equal(client.received({ type: "broadcast", seq: 50 }), false);
  assert.equal(client.received(resumed("a", 5)), true);
});

test("a session that is gone is followed by the one that was offered", () => {
  const client = broken();
  assert.equal(client.received(resumed("b", 2, { recovered: false })), true);
  assert.equal(client.recovered, false);
  assert.deepEqual(client.greeted(hello("c"), true), resume("b", 2));
});

test("nothing is asked of a server that knows no epochs, of the plain protocol, or for nothing", () => {
  for (const [greeting, needed] of [[{ type: "hello", seq: 1 }, true], [null, true], [hello("c"), false]]) {
    const client = broken();
    assert.equal(client.greeted(greeting, needed), null);
    assert.deepEqual([client.settled, client.recovered], [true, false]);
  }
});
