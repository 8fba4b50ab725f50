/** The seed's "Video Stream Processing", its clock running faster: frames leave without awaiting anything. */
import { counted, finish, pictureBase64, snippet, until, url } from "./harness.mjs";

const FRAMES = 60;
const { client, ledger } = counted(url);
await client.connect();
const canvas = {
  getContext: () => ({ drawImage: () => {} }),
  toDataURL: () => `data:image/jpeg;base64,${pictureBase64}`,
};
const document = { getElementById: () => ({}), createElement: () => canvas };
const timers = [];
const ticking = (tick) => {
  // Twelve ticks at once: with ids made of milliseconds some frames have to share one.
  timers.push(setInterval(() => {
    for (let many = 0; many < 12; many += 1) tick();
  }, 5));
};
snippet("video_stream.js", { client, document, setInterval: ticking });
await until(() => ledger.sent.length >= FRAMES);
timers.forEach(clearInterval);
await until(() => ledger.terminal.length >= ledger.sent.length);
finish(ledger);
