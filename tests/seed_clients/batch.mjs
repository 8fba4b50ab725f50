/**
 * The seed's "Batch Image Processing". Its `file.arrayBuffer()` result goes into the message as it is, and JSON makes
 * `{}` of an ArrayBuffer: with real files every frame is answered INVALID_MESSAGE with the remedy. Files that give a
 * Uint8Array work; their handler is registered after the last frame was sent, which holds while nothing is awaited
 * but promises that are ready.
 */
import { counted, finish, pictureBytes, snippet, until, url } from "./harness.mjs";

const { client, ledger } = counted(url);
await client.connect();
if (process.argv[2] === "files") {
  const files = Array.from({ length: 8 }, (_, index) => new File([pictureBytes()], `${index}.png`));
  snippet("process_batch.js", { client }, "processBatch")(files); // never ends: errors are not in its book
  await until(() => ledger.sent.length === 8 && ledger.terminal.length >= 8);
} else {
  const bytes = pictureBytes();
  const files = Array.from({ length: 25 }, (_, index) => ({ name: `${index}.png`, arrayBuffer: async () => bytes }));
  const results = await snippet("process_batch.js", { client }, "processBatch")(files);
  await until(() => ledger.terminal.length >= ledger.sent.length);
  ledger.statuses = Object.values(results).map(({ status }) => status);
}
finish(ledger);
