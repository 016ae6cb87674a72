// Reads one JSON line per request from stdin, {"body": base64, "each": bool}, and answers with one line: what each
// parser makes of the body, fed whole or one byte at a time.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { createParser } from "eventsource-parser";

const require = createRequire(import.meta.url);
// The parser inside undici's EventSource, which hands bytes to it as they come from the network.
const { EventSourceStream } = require("undici/lib/web/eventsource/eventsource-stream.js");

function eventsourceParser(pieces) {
  const seen = { events: [], retry: [], comments: [], errors: [], lastEventId: null };
  const parser = createParser({
    // It hands over each block's own id; remembering the last one is left to its user.
    onEvent: (event) => seen.events.push([event.event ?? "message", event.data, event.id ?? ""]),
    onRetry: (retry) => seen.retry.push(retry),
    onComment: (comment) => seen.comments.push(comment),
    onError: (error) => seen.errors.push(error.message),
  });
  const decoder = new TextDecoder("utf-8"); // drops one BOM, as the standard's "UTF-8 decode"
  for (const piece of pieces) parser.feed(decoder.decode(piece, { stream: true }));
  return seen;
}

async function undici(pieces) {
  const seen = { events: [], retry: [], comments: [], errors: [], lastEventId: "" };
  const state = { origin: "", reconnectionTime: null, lastEventId: "" };
  const stream = new EventSourceStream({
    eventSourceSettings: state,
    push: (event) => event && seen.events.push([event.type, event.options.data, event.options.lastEventId]),
  });
  const finished = new Promise((resolve) => stream.on("finish", resolve));
  for (const piece of pieces) stream.write(piece);
  stream.end();
  await finished;
  if (state.reconnectionTime !== null) seen.retry.push(state.reconnectionTime);
  seen.lastEventId = state.lastEventId;
  return seen;
}

for await (const line of createInterface({ input: process.stdin })) {
  const { body, each } = JSON.parse(line);
  const bytes = Buffer.from(body, "base64");
  const pieces = () => (each ? Array.from(bytes, (_, at) => bytes.subarray(at, at + 1)) : [bytes]);
  const answer = { "eventsource-parser": eventsourceParser(pieces()), undici: await undici(pieces()) };
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
