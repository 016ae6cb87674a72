// Whether events still come. The sampler speaks every two seconds, so silence means that the stream is gone.

const SILENCE = 8000;

const element = document.getElementById("pulse");
const text = document.getElementById("pulse-text");
let timer;

function show(state, words) {
  if (element.dataset.state === state) return;
  element.dataset.state = state;
  text.textContent = words;
}

export function heard() {
  show("live", "Live");
  clearTimeout(timer);
  timer = setTimeout(() => show("waiting", "Waiting for the stream"), SILENCE);
}
