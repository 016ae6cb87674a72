import { heard } from "./pulse.js";

const list = document.getElementById("health");

function cell(name, text) {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = text;
  return element;
}

function show({ parts }) {
  list.replaceChildren(
    ...parts.map(({ name, healthy, value, detail }) => {
      const item = document.createElement("li");
      item.dataset.healthy = healthy ? "yes" : "no";
      item.append(
        cell("part", name),
        cell("mark", healthy ? "well" : "unwell"),
        cell("value", value),
        cell("detail", detail),
      );
      return item;
    }),
  );
  heard();
}

window.health = { show };
