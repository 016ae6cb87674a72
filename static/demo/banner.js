// Alerts. One has a name, is raised and is cleared; to hear the same twice changes nothing.

import { heard } from "./pulse.js";

const banners = document.getElementById("banner");
const calm = document.getElementById("calm");
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const raised = new Map();

function show({ name, level, text, raised: isRaised, at }) {
  heard();
  // Told again for pages that were opened since: here it would only be read out again.
  if (isRaised && raised.get(name)?.querySelector("span").textContent === text) return;
  raised.get(name)?.remove();
  raised.delete(name);
  calm.hidden = isRaised || raised.size > 0;
  if (!isRaised) return;
  const element = document.createElement("p");
  element.className = "alert";
  element.dataset.alert = name;
  element.dataset.level = level;
  const word = document.createElement("strong");
  word.textContent = level === "critical" ? "Critical" : "Warning";
  const words = document.createElement("span");
  words.textContent = text;
  const time = document.createElement("time");
  time.dateTime = at;
  time.textContent = clock.format(Date.parse(at));
  element.append(word, words, time);
  raised.set(name, element);
  banners.append(element);
}

window.banner = { show };
