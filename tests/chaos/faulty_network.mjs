/**
 * The JavaScript client behind faulty networks, one for each address given; the faults are the test's.
 *
 *     node faulty_network.mjs SILENCE_MS PICTURE_BASE64 FRAMES PLUGIN name=ws://… name=ws://…
 *
 * It prints a JSON line for whatever happens: `answered` (how many so far), `lost`, `back` (the first message after
 * coming back), and at the end `done` with the client's ledger and the job ids and frame ids that its listeners heard
 * terminal messages of. It ends when its input does.
 */
import { ForgeSyteClient } from "../../forgesyte_nb/server/page/forgesyte.js";

const [silenceMs, picture, frames, plugin, ...named] = process.argv.slice(2);
const bytes = new Uint8Array(Buffer.from(picture, "base64"));

async function drive(name, url) {
  const say = (event, more = {}) => process.stdout.write(`${JSON.stringify({ name, event, ...more })}\n`);
  const client = new ForgeSyteClient(url, { window: 4, clientId: `node-${name}`, silenceMs: Number(silenceMs) });
  const heard = [];
  let lost = false;
  client.onState(({ state }) => {
    if (state !== "reconnecting" || lost) return;
    lost = true;
    say("lost");
  });
  client.onMessage(() => {
    if (lost) say("back");
    lost = false;
  });
  for (const listen of [client.onFrameResult, client.onError]) {
    listen.call(client, (message) => {
      heard.push([message.job_id, message.frame_id]);
      say("answered", { count: heard.length });
    });
  }
  await client.connect();
  const sent = Array.from({ length: Number(frames) }, () => client.analyze(bytes, plugin));
  await Promise.allSettled(sent);
  say("done", { ledger: client.ledger, heard });
  await client.close();
}

process.stdin.on("end", () => process.exit(0)).resume();
await Promise.all(named.map((pair) => drive(...pair.split(/=(.*)/s))));
