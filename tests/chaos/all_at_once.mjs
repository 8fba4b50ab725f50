/** The seed's JavaScript client sends many frames without waiting for anything: `node all_at_once.mjs FRAMES`. */
import { counted, finish, pictureBytes, until, url } from "../seed_clients/harness.mjs";

const frames = Number(process.argv[2]);
const { client, ledger } = counted(url);
await client.connect();
let closed = null;
client.ws.addEventListener("close", ({ code }) => (closed = code));
for (let index = 0; index < frames; index += 1) client.sendFrame(pictureBytes(), "slow");
await until(() => closed !== null || ledger.terminal.length >= frames);
finish({ ...ledger, closed });
