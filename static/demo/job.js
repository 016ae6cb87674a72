// The progress of a job: a response of its own, made by a generator, which the log has no part in.

const form = document.getElementById("job");
const bar = form.querySelector("progress");
const line = form.querySelector("output");

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  const source = new EventSource(form.action);
  source.onmessage = (message) => {
    const job = JSON.parse(message.data);
    bar.max = job.of;
    bar.value = job.done;
    line.textContent = `${job.done} of ${job.of} files, ${job.lines.toLocaleString()} lines: ${job.file}`;
  };
  source.addEventListener("done", () => {
    source.close(); // else it would come back, and the job would begin again
    button.disabled = false;
    if (document.activeElement === document.body) button.focus();
  });
});
