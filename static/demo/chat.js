// A chat: here data flows both ways all the time, so here a WebSocket is right. It reads the log of django_sse, so after
// a lost connection it asks for what follows the last id that it has. The codes are those of docs/sse-or-websocket.md.

const form = document.getElementById("chat");
const list = document.getElementById("said");
const typing = document.getElementById("typing");
const state = document.getElementById("chat-state");
const SHOWN = 50;
const ENDED = 4003;
let since = form.dataset.since;
let socket;
let quiet;

function show({ name, text }) {
  const item = document.createElement("li");
  const who = document.createElement("strong");
  who.textContent = name;
  item.append(who, ` ${text}`);
  list.append(item);
  while (list.children.length > SHOWN) list.firstElementChild.remove();
  list.scrollTop = list.scrollHeight;
}

function report(name, words) {
  form.dataset.state = name;
  state.textContent = words;
}

function connect() {
  const address = new URL(`${form.dataset.socket}?since=${since}`, location);
  address.protocol = address.protocol.replace("http", "ws");
  socket = new WebSocket(address);
  let pause = 1000; // milliseconds, or up to twice as many
  let final = false;
  socket.onmessage = (event) => {
    pause = 1000;
    const { id, type, data } = JSON.parse(event.data);
    since = id ?? since;
    if (type === "said") show(JSON.parse(data));
    if (type === "sse.reset") show({ name: "", text: "Some of what was said meanwhile is missing here." });
    if (type === "sse.close") final = JSON.parse(data).final !== false;
    if (type !== "typing") return;
    typing.textContent = `${JSON.parse(data).name || "Somebody"} is typing`;
    clearTimeout(quiet);
    quiet = setTimeout(() => { typing.textContent = ""; }, 1500);
  };
  socket.onopen = () => {
    pause = 30000; // accepted, and closed without a message: one too many, or the database is away
    report("live", "Connected");
  };
  socket.onclose = ({ code }) => {
    if (code === ENDED && final) {
      report("away", "Ended: you may not read this any more.");
      return;
    }
    report("away", "Away. It comes back by itself.");
    setTimeout(connect, pause * (1 + Math.random()));
  };
}

/** Tell whether it was sent. */
function say(message) {
  if (socket.readyState !== WebSocket.OPEN) return false;
  socket.send(JSON.stringify({ name: form.elements.name.value, ...message }));
  return true;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (say({ text: form.elements.text.value })) form.elements.text.value = "";
  else report("away", "Not said: the connection is away. Your words are still there.");
});
form.elements.text.addEventListener("input", () => say({ typing: true }));
connect();
