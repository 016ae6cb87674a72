// Three small charts of one `metric` event each two seconds, drawn as SVG. The time axis is the events' own time, so a
// gap would be seen as a gap.

import { heard } from "./pulse.js";

const MINUTE = 60 * 1000;
const LONGEST = 5 * MINUTE;
const HEIGHT = 116;
const EDGE = { top: 8, right: 4, bottom: 18, left: 34 };
const NAMESPACE = "http://www.w3.org/2000/svg";
const STEPS = [15000, 30000, MINUTE, 2 * MINUTE];
const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const seconds = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

function svg(name, attributes, text) {
  const element = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function roundUp(value) {
  const step = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 10].map((factor) => factor * step).find((top) => top >= value);
}

class Chart {
  constructor(figure) {
    this.series = figure.dataset.series;
    this.unit = figure.dataset.unit ?? "";
    this.fixedTop = Number(figure.dataset.top) || 0;
    this.digits = Number(figure.dataset.digits);
    this.value = figure.querySelector(".value");
    this.when = figure.querySelector(".when");
    this.svg = figure.querySelector("svg");
    this.pointer = null;
    new ResizeObserver(() => this.draw()).observe(this.svg);
    this.svg.addEventListener("pointermove", (event) => {
      this.pointer = event.offsetX;
      this.draw();
    });
    this.svg.addEventListener("pointerleave", () => {
      this.pointer = null;
      this.draw();
    });
  }

  top() {
    if (this.fixedTop) return this.fixedTop;
    const cores = samples.at(-1)?.cores ?? 1;
    return roundUp(Math.max(cores, ...samples.map((sample) => sample[this.series])));
  }

  draw() {
    const width = this.svg.clientWidth;
    if (!width || !samples.length) return;
    const last = samples.at(-1);
    const top = this.top();
    const bottom = HEIGHT - EDGE.bottom;
    const span = Math.max(MINUTE, last.time - samples[0].time);
    const room = width - EDGE.left - EDGE.right;
    const x = (time) => EDGE.left + room * (1 - (last.time - time) / span);
    const y = (value) => bottom - (bottom - EDGE.top) * (Math.min(value, top) / top);
    const parts = [];

    for (const value of [0, top / 2, top]) {
      parts.push(svg("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }));
      parts.push(svg("text", { class: "axis", x: EDGE.left - 7, y: y(value) + 3.5, "text-anchor": "end" }, `${value}`));
    }
    const step = STEPS.find((candidate) => (candidate / span) * room >= 72) ?? STEPS.at(-1);
    for (let time = Math.ceil((last.time - span) / step) * step; time <= last.time; time += step) {
      const at = x(time);
      parts.push(svg("line", { class: "tick", x1: at, x2: at, y1: bottom, y2: bottom + 4 }));
      if (at > EDGE.left + 28 && at < width - 34) {
        const words = (step < MINUTE ? seconds : clock).format(time);
        parts.push(svg("text", { class: "axis", x: at, y: HEIGHT - 3, "text-anchor": "middle" }, words));
      }
    }
    if (this.series === "load" && last.cores < top) {
      const at = y(last.cores);
      parts.push(svg("line", { class: "limit", x1: EDGE.left, x2: width - EDGE.right, y1: at, y2: at }));
    }

    const points = samples.map((sample) => `${x(sample.time).toFixed(1)} ${y(sample[this.series]).toFixed(1)}`);
    const line = `M${points.join("L")}`;
    const area = `${line}L${x(last.time)} ${bottom}L${x(samples[0].time)} ${bottom}Z`;
    parts.push(svg("path", { class: "area", d: area }), svg("path", { class: "curve", d: line }));
    if (this.series === "load" && last.cores < top) {
      const attributes = { class: "axis over", x: EDGE.left + 6, y: y(last.cores) - 5 };
      parts.push(svg("text", attributes, `${last.cores} cores`));
    }

    const shown = this.pointer === null ? last : this.nearest(this.pointer, x);
    if (shown !== last) {
      parts.push(svg("line", { class: "cross", x1: x(shown.time), x2: x(shown.time), y1: EDGE.top, y2: bottom }));
    }
    parts.push(svg("circle", { class: "point", cx: x(shown.time), cy: y(shown[this.series]), r: 3.5 }));
    this.value.textContent = shown[this.series].toFixed(this.digits) + (this.unit && `\u202f${this.unit}`);
    this.when.textContent = shown === last ? "" : seconds.format(shown.time);

    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.svg.replaceChildren(...parts);
  }

  nearest(pointer, x) {
    return samples.reduce((best, sample) =>
      Math.abs(x(sample.time) - pointer) < Math.abs(x(best.time) - pointer) ? sample : best,
    );
  }
}

const samples = [];
const charts = Array.from(document.querySelectorAll(".chart"), (figure) => new Chart(figure));
const frame = document.getElementById("charts");
let due = false;

function add(sample) {
  samples.push({ ...sample, time: Date.parse(sample.at) });
  const oldest = samples.at(-1).time - LONGEST;
  while (samples[0].time < oldest) samples.shift();
  frame.dataset.samples = String(samples.length);
  heard();
  if (due) return; // a replay brings two hundred at once: one drawing will do
  due = true;
  requestAnimationFrame(() => {
    due = false;
    for (const chart of charts) chart.draw();
  });
}

window.chart = { add };
