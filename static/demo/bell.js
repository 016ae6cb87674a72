// Notifications: a badge on the bell and the list. The stream's last=200 brings the recent ones of before, so what
// was read is remembered as a time, not as a count.

import { heard } from "./pulse.js";

const SHOWN = 7;
const KEY = "django_sse.demo.read";

const badge = document.getElementById("badge");
const label = document.getElementById("bell-label");
const list = document.getElementById("list");
const none = document.getElementById("none");
const read = document.getElementById("read");
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

let readUntil = Number(localStorage.getItem(KEY)) || 0;
const times = [];

function count() {
  const unread = times.filter((time) => time > readUntil).length;
  badge.hidden = unread === 0;
  badge.textContent = unread > 99 ? "99+" : String(unread);
  label.textContent = unread ? `${unread} unread notification${unread === 1 ? "" : "s"}` : "No unread notifications";
  read.hidden = unread === 0;
  for (const item of list.children) item.toggleAttribute("data-unread", Number(item.dataset.time) > readUntil);
}

function markRead() {
  readUntil = Math.max(readUntil, ...times);
  localStorage.setItem(KEY, String(readUntil));
  count();
}

function line(className, text) {
  const element = document.createElement("span");
  element.className = className;
  element.textContent = text;
  return element;
}

function add({ title, body, at }) {
  const time = Date.parse(at);
  times.push(time);
  const item = document.createElement("li");
  item.dataset.time = String(time);
  item.append(line("title", title));
  if (body) item.append(line("body", body));
  const stamp = document.createElement("time");
  stamp.dateTime = at;
  stamp.textContent = clock.format(time);
  item.append(stamp);
  list.prepend(item);
  while (list.children.length > SHOWN) list.lastElementChild.remove();
  none.hidden = true;
  count();
  heard();
}

read.addEventListener("click", () => {
  markRead();
  document.getElementById("notifications").focus();
});
document.getElementById("bell").addEventListener("click", markRead);

const echo = document.getElementById("echo");
document.getElementById("title").addEventListener("input", (event) => {
  echo.textContent = JSON.stringify(event.target.value).slice(1, -1);
});

window.bell = { add };
