// The answer as it comes, and beside it the same request as it used to be. Text is put in as text.

const byId = (id) => document.getElementById(id);
const answers = byId("answers");
const seconds = (milliseconds) => `${(milliseconds / 1000).toFixed(1)} s`;
const REASONS = { end: "Complete", stopped: "Stopped", failed: "Failed" };

let text = "";
let events = 0;
const asked = performance.now() - Number(answers?.dataset.age); // by this browser's clock
const RELOADED = 2500; // older questions were not asked just now

/** Take in one event: it says from which character on its text counts. */
function take({ at, text: piece, reason }) {
  text = text.slice(0, at) + piece;
  byId("streamed").textContent = text;
  byId("streamed").dataset.length = String(text.length);
  byId("words").textContent = String(text.split(/\s+/).filter(Boolean).length);
  byId("events").textContent = String((events += 1));
  if (events === 1) byId("streamed-first").textContent = wasReloaded ? "before the reload" : seconds(performance.now() - asked);
  show("live", "Writing");
  if (!reason) return;
  show(reason === "end" ? "live" : "waiting", REASONS[reason]);
  byId("streamed-whole").textContent = events === 1 ? "one event: it was there" : seconds(performance.now() - asked);
  byId("streamed").dataset.reason = reason;
  handOver("stop", "streamed");
  byId("stop").disabled = true;
}

function show(state, words) {
  byId("state").dataset.state = state;
  byId("state-text").textContent = words;
}

/** Before a button goes away: if it has the focus, give that to the text it was for. */
function handOver(button, text) {
  if (document.activeElement === byId(button)) byId(text).focus();
}

/** Ask the old way, with a clock that runs all the while. */
async function askWhole(from) {
  const clock = byId("unstreamed-whole");
  handOver("again", "unstreamed");
  byId("again").hidden = true;
  byId("unstreamed").textContent = "";
  const ticking = setInterval(() => {
    clock.textContent = seconds(performance.now() - from);
  }, 100);
  try {
    const answer = await (await fetch(answers.dataset.whole)).json();
    byId("unstreamed").textContent = answer.failed ?? answer.text;
  } catch {
    byId("unstreamed").textContent = "The server cannot be reached.";
  }
  clearInterval(ticking);
  clock.textContent = byId("unstreamed-first").textContent = seconds(performance.now() - from);
  byId("again").hidden = false;
}

const wasReloaded = Number(answers?.dataset.age) > RELOADED;
if (answers) {
  byId("again").addEventListener("click", () => askWhole(performance.now()));
  if (wasReloaded) {
    byId("unstreamed").textContent = "An answer that is not streamed is gone with its page.";
    byId("again").hidden = false;
  } else {
    askWhole(asked);
  }
}

window.answer = { take };
