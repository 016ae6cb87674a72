// Shows the script that {% event_source %} put into this page: the element itself, so it cannot be an older copy.

const script = document.querySelector('script[type="module"]:not([src])');
const panel = document.querySelector("[data-source]");
for (const line of script.textContent.trim().split("\n")) {
  const row = document.createElement("span");
  row.className = "row";
  row.textContent = `${line}\n`;
  panel.append(row);
}
