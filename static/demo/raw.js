// The same stream twice: as bytes, read with fetch, and as what the EventSource of this page hands to its handlers.
// Everything is put in as text, never as markup.

const raw = document.getElementById("raw");
const bytes = document.getElementById("bytes");
const list = document.getElementById("received");
const SHOWN = 40;
const LONGEST = 40000;

let total = 0;

function show(text, className = "") {
  const atEnd = raw.scrollHeight - raw.scrollTop - raw.clientHeight < 40;
  const part = document.createElement("span");
  part.className = className;
  part.textContent = text;
  raw.append(part);
  while (raw.textContent.length > LONGEST) raw.firstChild.remove();
  if (atEnd) raw.scrollTop = raw.scrollHeight;
}

async function read(lastId) {
  const headers = { Accept: "text/event-stream" };
  if (lastId) headers["Last-Event-ID"] = lastId; // what EventSource does when it comes back
  const response = await fetch(raw.dataset.address, { headers, cache: "no-store" });
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  let tail = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return lastId;
    total += value.length;
    bytes.textContent = total.toLocaleString();
    const text = decoder.decode(value, { stream: true });
    show(text);
    tail = (tail + text).slice(-LONGEST);
    lastId = [...tail.matchAll(/^id: (\d+)\n/gm)].at(-1)?.[1] ?? lastId;
  }
}

async function follow() {
  let lastId = "";
  for (;;) {
    try {
      lastId = await read(lastId);
      show("— the server ended the stream —\n", "remark");
    } catch {
      show("— the connection is gone —\n", "remark");
    }
    await new Promise((resolve) => setTimeout(resolve, 3000));
  }
}

function put(type, data) {
  const item = document.createElement("li");
  item.dataset.type = type;
  const name = document.createElement("span");
  name.className = "type";
  name.textContent = type;
  const text = document.createElement("pre");
  text.textContent = data;
  item.append(name, text);
  list.append(item);
  while (list.children.length > SHOWN) list.firstElementChild.remove();
  list.scrollTop = list.scrollHeight;
}

window.received = {
  message: (data) => put("message", data),
  note: (data) => put("note", data),
};

follow();
