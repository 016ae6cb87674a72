// Forms marked data-live are posted by script, so that the page with its open stream stays. What they cause comes back
// as an event. Without this script they are ordinary forms.

import { token } from "./csrf.js";

const failure = document.getElementById("failure");

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("form[data-live]")) return;
  event.preventDefault();
  const body = new URLSearchParams(new FormData(form, event.submitter));
  body.delete("csrfmiddlewaretoken"); // it would come before the header
  try {
    const response = await fetch(form.action, {
      method: "POST",
      body,
      headers: { "X-Requested-With": "fetch", "X-CSRFToken": token() },
    });
    failure.textContent = response.ok ? "" : `The server answered ${response.status} ${response.statusText}.`;
  } catch {
    failure.textContent = "The server cannot be reached.";
  }
});
