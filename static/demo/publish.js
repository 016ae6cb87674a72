import { token } from "./csrf.js";

/** Have the server publish; where that failed, throw an error whose message can be shown. */
export async function publish(address, fields) {
  const options = { method: "POST", body: new URLSearchParams(fields), headers: { "X-CSRFToken": token() } };
  const response = await fetch(address, options).catch(() => {
    throw new Error("Publishing failed: the server cannot be reached.");
  });
  if (!response.ok) throw new Error(`Publishing failed: the server answered ${response.status}.`);
  return response.json();
}
