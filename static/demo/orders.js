// Rows that follow their orders. An event carries all that a row shows, and how many orders of all are in each state:
// to hear of a change twice does no harm.

const list = document.getElementById("orders");
const blank = document.getElementById("row").content.firstElementChild;
const news = document.getElementById("news");

function find(id) {
  return list.querySelector(`[data-order="${Number(id)}"]`);
}

function make(id) {
  const row = blank.cloneNode(true);
  row.dataset.order = String(id);
  for (const element of row.querySelectorAll("[action], [href]")) {
    const name = element.hasAttribute("action") ? "action" : "href";
    element.setAttribute(name, element.getAttribute(name).replace("/0/", `/${id}/`));
  }
  for (const element of row.querySelectorAll(".number, .number-again")) element.textContent = String(id);
  const older = Array.from(list.children).find((other) => Number(other.dataset.order) < id);
  list.insertBefore(row, older ?? null);
  return row;
}

function fill(row, order) {
  row.dataset.state = order.state;
  for (const name of ["customer", "quantity", "item", "total"]) row.querySelector(`.${name}`).textContent = order[name];
  row.querySelector(".state-name").textContent = order.state;
  const advance = row.querySelector(".advance");
  const held = advance.contains(document.activeElement);
  advance.hidden = !order.following;
  if (held && advance.hidden) row.querySelector(".edit").focus();
  row.querySelector(".advance input[name=to]").value = order.following;
  row.querySelector(".following").textContent = order.following;
}

function mark(row) {
  list.querySelector("[data-fresh]")?.removeAttribute("data-fresh");
  void row.offsetWidth; // the same row twice: without a layout in between its animation would not start again
  row.dataset.fresh = "";
}

function tally(counts) {
  for (const [state, count] of Object.entries(counts)) {
    document.querySelector(`[data-tally="${state}"] .count`).textContent = String(count);
  }
}

function remove(row) {
  const held = row.contains(document.activeElement);
  const neighbour = row.nextElementSibling ?? row.previousElementSibling;
  row.remove();
  if (held) (neighbour?.querySelector(".delete button") ?? document.getElementById("content")).focus();
}

function apply(order) {
  tally(order.counts);
  const row = find(order.id);
  if (!row && order.action !== "created") return; // older than what this page shows
  if (order.action === "deleted") {
    remove(row);
    news.textContent = `Order ${order.id} was deleted.`;
  } else {
    const shown = row ?? make(order.id);
    fill(shown, order);
    mark(shown);
    news.textContent = row ? `Order ${order.id} is ${order.state}.` : `Order ${order.id} is new.`;
  }
}

window.orders = { apply };
