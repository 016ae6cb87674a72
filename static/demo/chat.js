// A chat: here data flows both ways all the time, so here a WebSocket is right. It reads the log of django_sse, so after
// a lost connection it asks for what follows the last id that it has.

const form = document.getElementById("chat");
const list = document.getElementById("said");
const typing = document.getElementById("typing");
const SHOWN = 50;
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

function connect() {
  const address = new URL(`${form.dataset.socket}?since=${since}`, location);
  address.protocol = address.protocol.replace("http", "ws");
  socket = new WebSocket(address);
  socket.onmessage = (event) => {
    const { id, type, data } = JSON.parse(event.data);
    since = id;
    if (type === "said") show(JSON.parse(data));
    if (type !== "typing") return;
    typing.textContent = `${JSON.parse(data).name || "Somebody"} is typing`;
    clearTimeout(quiet);
    quiet = setTimeout(() => { typing.textContent = ""; }, 1500);
  };
  socket.onopen = () => { form.dataset.state = "live"; };
  socket.onclose = () => {
    form.dataset.state = "away";
    setTimeout(connect, 1000 + 1000 * Math.random());
  };
}

function say(message) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ name: form.elements.name.value, ...message }));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  say({ text: form.elements.text.value });
  form.elements.text.value = "";
});
form.elements.text.addEventListener("input", () => say({ typing: true }));
connect();
