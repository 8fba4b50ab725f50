/**
 * What the Node harnesses share: the seed's class as it stands in client.js, its snippets as they stand in
 * snippets/, and a ledger of what was sent and what came.
 */
import { readFileSync } from "node:fs";

const read = (name) => readFileSync(new URL(name, import.meta.url), "utf8");

/** The seed's class; the text before its usage example is evaluated unmodified. */
export const ForgeSyteClient = new Function(`${read("client.js").split("// Usage")[0]}\nreturn ForgeSyteClient;`)();

/** Evaluate one of the seed's snippets unmodified; `names` are the globals that it finds, `gives` what it defines. */
export function snippet(name, names, gives = "undefined") {
  return new Function(...Object.keys(names), `${read(`snippets/${name}`)}\nreturn ${gives};`)(...Object.values(names));
}

/** A client of the seed whose frames and answers are counted; the counting stands before and behind its methods. */
export function counted(url) {
  const client = new ForgeSyteClient(url);
  const ledger = { sent: [], accepted: [], terminal: [] };
  const { sendFrame } = client;
  client.sendFrame = async function (...given) {
    const frameId = await sendFrame.apply(client, given);
    ledger.sent.push(frameId);
    return frameId;
  };
  client.onJobUpdate(({ status, job_id: jobId }) => status === "pending" && ledger.accepted.push(jobId));
  client.onFrameResult(({ frame_id: frameId, job_id: jobId }) => ledger.terminal.push(["result", frameId, jobId]));
  client.onError(({ frame_id: frameId, job_id: jobId, error_code: code, message }) =>
    ledger.terminal.push([code, frameId, jobId, message]));
  return { client, ledger };
}

/** Print the ledger as the last line and end; the seed's intervals would keep the process alive. */
export function finish(ledger) {
  process.stdout.write(`${JSON.stringify(ledger)}\n`, () => process.exit(0));
}

export const until = async (condition) => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
};

export const [url, pictureBase64] = [process.env.FORGESYTE_URL, process.env.FORGESYTE_PICTURE];
export const pictureBytes = () => new Uint8Array(Buffer.from(pictureBase64, "base64"));
