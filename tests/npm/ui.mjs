// Reads a UI message stream with the AI SDK's own transport: prints the message that it became, and what went wrong.
import { DefaultChatTransport, readUIMessageStream } from "ai";

const asked = [{ id: "1", role: "user", parts: [{ type: "text", text: "?" }] }];
const transport = new DefaultChatTransport({ api: process.argv[2] });
const stream = await transport.sendMessages({ chatId: "1", messages: asked, trigger: "submit-message" });
const errors = [];
let message = null;
for await (const state of readUIMessageStream({ stream, onError: (error) => errors.push(error.message) })) message = state;
console.log(JSON.stringify({ message, errors }));
