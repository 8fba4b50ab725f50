/**
 * Connections of the seed's client cut while results are on their way, again and again. What the server accepted is
 * asked of the server (`/v1/jobs`): a frame that was still in a socket at the cut was never the server's.
 */
import { Proxy } from "../client_js/proxy.mjs";
import { counted, finish, pictureBytes, snippet, until, url } from "./harness.mjs";

const [BURSTS, FRAMES] = [6, 20];
const proxy = await new Proxy(url).listen();
const { client, ledger } = counted(proxy.url);
const hasty = (callback, ms) => setTimeout(callback, ms / 200);
const connectWithRetry = snippet("connect_with_retry.js", { client, setTimeout: hasty }, "connectWithRetry");
for (let burst = 0; burst < BURSTS; burst += 1) {
  await connectWithRetry();
  const before = ledger.terminal.length;
  for (let index = 0; index < FRAMES; index += 1) client.sendFrame(pictureBytes(), "ocr");
  await until(() => ledger.terminal.length > before);
  const lost = client.ws;
  proxy.cut();
  await until(() => lost.readyState === WebSocket.CLOSED);
}
await connectWithRetry();
const answered = () => new Set(ledger.terminal.map(([, , jobId]) => jobId));
const open = async () => {
  const { jobs } = await (await fetch(`${url.replace("ws", "http")}/v1/jobs`)).json();
  const mine = jobs.filter((job) => job.client_id === client.clientId).map((job) => job.job_id);
  return { mine, missing: mine.filter((jobId) => !answered().has(jobId)) };
};
let last = await open();
for (let tries = 0; last.missing.length > 0 && tries < 100; tries += 1) {
  await new Promise((resolve) => setTimeout(resolve, 50));
  last = await open();
}
finish({ ...ledger, ...last, connections: proxy.made });
