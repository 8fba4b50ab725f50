/**
 * The seed's `connectWithRetry` and "Connection Recovery", their clocks running faster, over a connection that is
 * cut after the server has accepted the frames and before it has answered them, and refused for a while.
 */
import { Proxy } from "../client_js/proxy.mjs";
import { counted, finish, pictureBytes, snippet, until, url } from "./harness.mjs";

const FRAMES = 12;
const quicker = (factor, timer) => (callback, ms) => timer(callback, ms / factor);
const proxy = await new Proxy(url).listen();
const { client, ledger } = counted(proxy.url);
const names = { client, WebSocket, setTimeout: quicker(50, setTimeout), setInterval: quicker(50, setInterval) };
const connectWithRetry = snippet("connect_with_retry.js", names, "connectWithRetry");
await connectWithRetry();
snippet("connection_recovery.js", { ...names, connectWithRetry });
for (let index = 0; index < FRAMES; index += 1) client.sendFrame(pictureBytes(), "slow");
await until(() => ledger.accepted.length >= FRAMES);
proxy.refusing = true;
proxy.cut();
setTimeout(() => (proxy.refusing = false), 150); // meanwhile the seed's retries are refused
await until(() => new Set(ledger.terminal.map(([, , jobId]) => jobId)).size >= FRAMES);
finish({ ...ledger, connections: proxy.made });
