// The page knows which numbers it had published, and checks every one that arrives. It does not ask the server what it
// should have got.

import { publish as send } from "./publish.js";

const run = document.getElementById("run");
const most = Number(run.dataset.most);
const byId = (id) => document.getElementById(id);
const buttons = ["cut", "leave", "live"].map(byId);
const course = byId("course");

let source = null;
let lastId = run.dataset.position; // the head when the page was made: nothing of this run is older
let published = 0;
let received = 0;
let replayed = 0;
const NONE = { from: Infinity, to: -Infinity };
let away = NONE; // the numbers published while the connection was down
let chips = null;
const faults = [];

function show(state, text) {
  byId("connection").dataset.state = state;
  byId("connection-text").textContent = text;
}

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

/** Begin a new stretch of the course: a heading, and the events that follow it. */
function stretch(kind, text) {
  const item = element("li", "stretch", "");
  item.dataset.kind = kind;
  const heading = element("p", "stretch-text", text);
  chips = element("span", "chips", "");
  item.append(heading, chips);
  course.append(item);
  return heading;
}

function judge() {
  const verdict = byId("verdict");
  const complete = received === published && published > 0;
  const state = faults.length ? "broken" : complete ? "complete" : published ? "waiting" : "idle";
  verdict.dataset.verdict = state;
  byId("verdict-text").textContent = {
    idle: "Nothing published yet.",
    waiting: `Waiting for ${published - received} of ${published}.`,
    complete: `Nothing is missing: ${received} of ${published}, in order, none twice.`,
    broken: faults.join(" "),
  }[state];
  byId("published").textContent = String(published);
  byId("received").textContent = String(received);
  byId("replayed").textContent = String(replayed);
  byId("last-id").textContent = lastId;
}

function check(number, id) {
  const expected = received + 1;
  if (number < expected) faults.push(`Number ${number} came again.`);
  if (number > expected) faults.push(`Numbers ${expected} to ${number - 1} are missing.`);
  if (Number(id) <= Number(lastId)) faults.push(`Id ${id} came after id ${lastId}.`);
}

function receive(event) {
  const { number } = JSON.parse(event.data);
  check(number, event.lastEventId);
  received = Math.max(received, number);
  published = Math.max(published, number); // also where the answer to the publishing was lost
  lastId = event.lastEventId;
  const kind = away.from <= number && number <= away.to ? "replayed" : "live";
  if (kind === "replayed") replayed += 1;
  const chip = element("span", "chip", String(number));
  chip.dataset.kind = kind;
  chip.append(element("small", "", lastId));
  chips.append(chip);
  judge();
}

function connect(address, greeting) {
  source = new EventSource(address);
  let heading = stretch("open", greeting);
  let first = true;
  source.onopen = () => {
    // After the first, each opening is the browser's own doing.
    if (!first) heading = stretch("open", "The browser came back by itself");
    first = false;
    show("live", "Connected");
  };
  source.addEventListener("hello", (event) => {
    const { last_event_id: header, since, reason } = JSON.parse(event.data);
    const shown = header === null ? `?since=${since}` : `Last-Event-ID: ${header}`;
    heading.append(" with ", element("code", "cursor", shown));
    if (reason) faults.push(`The server could not serve that position: ${reason}.`);
    judge();
  });
  source.onmessage = receive;
  source.onerror = () => show("waiting", source.readyState === EventSource.CLOSED ? "Closed" : "Away, the browser waits to return");
}

function address(since) {
  return `${run.dataset.stream}?since=${since}`;
}

async function publish(count, fields = {}) {
  const first = published + 1;
  const last = published + count;
  published = last;
  judge();
  try {
    return await send(run.dataset.publish, { first, last, ...fields });
  } catch (error) {
    published = Math.max(first - 1, received); // what was not published is no loss
    away = NONE;
    stretch("open", "Publishing failed");
    judge();
    throw error;
  }
}

function expectAway(count) {
  away = { from: published + 1, to: published + count };
  stretch("away", `${count} event${count === 1 ? "" : "s"} to be published while away`);
}

function count() {
  return Math.min(most, Math.max(1, Math.trunc(Number(byId("count").value)) || 1));
}

const ways = {
  async live() {
    await publish(count());
  },
  async cut() {
    const number = count();
    expectAway(number);
    const answer = await publish(number, { cut: "yes" });
    if (!answer.cut) throw new Error("There was no open stream to cut.");
  },
  async leave() {
    const number = count();
    source.close();
    show("waiting", "Closed by the page");
    expectAway(number);
    try {
      await publish(number);
    } finally {
      connect(address(lastId), "A new EventSource");
    }
  },
};

for (const button of buttons) {
  button.addEventListener("click", async () => {
    for (const other of buttons) other.disabled = true;
    byId("failure").textContent = "";
    try {
      await ways[button.id]();
    } catch (error) {
      byId("failure").textContent = error.message;
    }
    for (const other of buttons) other.disabled = false;
    button.focus();
  });
}

connect(address(lastId), "Connected");
