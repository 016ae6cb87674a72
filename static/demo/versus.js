// The page knows which numbers it had published, and each side shows which of them it never got.

import { publish } from "./publish.js";

const run = document.getElementById("run");
const byId = (id) => document.getElementById(id);
const buttons = ["publish", "drop", "restart"].map(byId).filter(Boolean);
const got = { source: new Set(), socket: new Set() };
let published = 0;

function chip(number, missed) {
  const element = document.createElement("span");
  element.className = "chip";
  element.dataset.kind = missed ? "missed" : "live";
  element.textContent = String(number);
  return element;
}

function draw() {
  for (const [side, numbers] of Object.entries(got)) {
    const highest = Math.max(0, ...numbers);
    const missed = [];
    const chips = [];
    for (let number = 1; number <= published; number += 1) {
      if (numbers.has(number)) chips.push(chip(number, false));
      else {
        // Later ones have come: this one never will.
        if (number < highest || settled) missed.push(number);
        chips.push(chip(number, true));
      }
    }
    byId(`${side}-chips`).replaceChildren(...chips);
    byId(`${side}-received`).textContent = String(numbers.size);
    byId(`${side}-missed`).textContent = String(missed.length);
    byId(side).dataset.missed = String(missed.length);
  }
  byId("published").textContent = String(published);
}

let settled = true;

function notification(side, { number }) {
  got[side].add(number);
  published = Math.max(published, number); // also where the answer to the publishing was lost
  draw();
}

function state(side, words) {
  byId(`${side}-state`).dataset.state = words === "Connected" ? "live" : "waiting";
  byId(`${side}-state-text`).textContent = words;
  if (words !== "Connected") return;
  // Both are back: what has not come by then is not on its way.
  const states = [...document.querySelectorAll(".side .pulse")];
  if (states.every((element) => element.dataset.state === "live")) setTimeout(() => { settled = true; draw(); }, 500);
}

for (const button of buttons) {
  button.addEventListener("click", async () => {
    const count = 5;
    const fields = { first: published + 1, last: published + count };
    if (button.id !== "publish") fields[button.id] = "yes";
    const before = settled;
    published += count;
    settled = false;
    draw();
    for (const other of buttons) other.disabled = true;
    byId("failure").textContent = "";
    try {
      await publish(run.dataset.publish, fields);
    } catch (error) {
      byId("failure").textContent = error.message;
      published = Math.max(fields.first - 1, ...got.source, ...got.socket); // what was not published is no loss
      settled ||= before;
      draw();
    }
    for (const other of buttons) other.disabled = false;
    if (document.activeElement === document.body) button.focus();
  });
}

window.versus = { notification, state, source: (data) => notification("source", data) };
draw();

// The tag's script runs after this one, and its EventSource is its own: what it is doing is asked of the connection.
const Native = window.EventSource;
window.EventSource = class extends Native {
  constructor(...args) {
    super(...args);
    this.addEventListener("open", () => state("source", "Connected"));
    this.addEventListener("error", () => state("source", "Away"));
  }
};
