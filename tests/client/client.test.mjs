// client.js on its own: a fake EventSource, a clock that the test moves, and random numbers that it chooses.
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

class FakeEventSource extends EventTarget {
  constructor(url, init) {
    super();
    Object.assign(this, { url: new URL(url), init, readyState: 0 });
    made.push(this);
  }

  close() {
    this.readyState = 2;
  }

  // What a browser does: nothing is dispatched after close().
  hear(type, data, lastEventId = "") {
    if (this.readyState === 2) return;
    this.readyState = 1;
    this.dispatchEvent(new MessageEvent(type, { data, lastEventId, origin: "http://shop" }));
  }

  fail(readyState) {
    if (this.readyState === 2) return;
    this.readyState = readyState;
    this.onerror?.(new Event("error"));
  }
}

let made, page, source, random, states, heard;

Object.defineProperty(globalThis, "navigator", { value: { onLine: true } });
globalThis.EventSource = FakeEventSource;
globalThis.document = new EventTarget();
Object.assign(document, { baseURI: "http://shop/page/", documentElement: { dataset: {} } });
globalThis.addEventListener = (...args) => page.addEventListener(...args);
document.addEventListener("sse:state", ({ detail }) => states.push(detail.state));
const { RobustEventSource } = await import("../../django_sse/static/django_sse/client.js");

function open(url = "/events/?channel=a&since=41&last=20") {
  source = new RobustEventSource(url);
  source.onmessage = (event) => heard.push([event.data, event.lastEventId]);
  return source;
}

const newest = () => made.at(-1);
const tick = (milliseconds) => mock.timers.tick(milliseconds);
const fire = (type, values = {}) => page.dispatchEvent(Object.assign(new Event(type), values));

beforeEach(() => {
  [made, states, heard, page, random] = [[], [], [], new EventTarget(), 1];
  navigator.onLine = true;
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_800_000_000_000 });
  mock.method(Math, "random", () => random);
});

afterEach(() => {
  source?.close();
  assert.deepEqual(document.documentElement.dataset, {});
  mock.timers.reset();
  mock.restoreAll();
});

test("the first connection asks for what the page asks for, and for heartbeats", () => {
  open();
  assert.equal(newest().url.href, "http://shop/events/?channel=a&since=41&last=20&heartbeat=event");
});

test("a given up source is made anew, after what the page has seen", () => {
  open();
  newest().hear("message", "one", "42");
  newest().hear("sse.heartbeat", "15", "57");
  newest().fail(2);
  assert.equal(made.length, 1);
  tick(1000);
  assert.equal(newest().url.href, "http://shop/events/?channel=a&since=57&heartbeat=event");
  newest().hear("sse.heartbeat", "15", "57");
  newest().hear("message", "two", "58");
  assert.deepEqual(heard, [["one", "42"], ["two", "58"]]);
  assert.deepEqual(states, ["connecting", "open", "connecting", "open"]);
});

test("before anything was seen it asks again for the same", () => {
  open();
  newest().fail(2);
  tick(1000);
  assert.equal(newest().url.search, "?channel=a&since=41&last=20&heartbeat=event");
});

test("the browser's own reconnection is left to the browser", () => {
  open();
  newest().hear("message", "one", "42");
  newest().fail(0);
  assert.equal(source.state, "connecting");
  tick(30_000);
  assert.equal(made.length, 1);
  newest().hear("message", "two", "43");
  assert.equal(source.state, "open");
});

test("pauses double up to ten seconds, and are rarer after many", () => {
  open();
  const pauses = [];
  for (let failure = 0; failure < 33; failure += 1) {
    const before = made.length;
    newest().fail(2);
    let pause = 0;
    while (made.length === before) {
      tick(500);
      pause += 500;
    }
    pauses.push(pause);
  }
  assert.deepEqual(pauses.slice(0, 6), [1000, 2000, 4000, 8000, 10_000, 10_000]);
  assert.deepEqual(pauses.slice(-4), [10_000, 60_000, 60_000, 60_000]);
});

test("the jitter is full: the pause may be anything from nothing", () => {
  random = 0;
  open();
  newest().fail(2);
  tick(1);
  assert.equal(made.length, 2);
  random = 0.25;
  newest().fail(2);
  tick(499);
  assert.equal(made.length, 2);
  tick(1);
  assert.equal(made.length, 3);
});

test("after a healthy while the first pause is short again, after a short one it is not", () => {
  open();
  for (const pause of [1000, 2000, 4000]) {
    newest().fail(2);
    tick(pause);
  }
  newest().hear("sse.heartbeat", "15", "42");
  tick(20_000);
  newest().fail(2);
  tick(7999);
  assert.equal(made.length, 4);
  tick(1);
  newest().hear("sse.heartbeat", "15", "42");
  tick(20_000);
  newest().fail(0); // what the browser opens again itself is a new connection
  tick(15_000);
  newest().fail(2);
  tick(9999);
  assert.equal(made.length, 5);
  tick(1);
  newest().hear("sse.heartbeat", "30", "42");
  tick(30_001);
  newest().fail(2);
  tick(1000);
  assert.equal(made.length, 7);
});

test("what is not after the newest is a repeat", () => {
  open();
  newest().hear("message", "one", "42");
  newest().hear("message", "two", "43");
  newest().fail(2);
  tick(1000);
  newest().hear("message", "one", "42");
  newest().hear("message", "two", "43");
  newest().hear("message", "three", "44");
  assert.deepEqual(heard.map(([data]) => data), ["one", "two", "three"]);
  newest().hear("message", "two", "43");
  newest().fail(2);
  tick(2000);
  newest().hear("message", "passing, at the position that was asked for", "44");
  assert.equal(heard.length, 4);
});

test("positions are compared as numbers of any size", () => {
  open();
  for (const id of ["9", "10", "9007199254740992", "9007199254740993", "100"]) newest().hear("message", "", id);
  assert.deepEqual(heard.map(([, id]) => id), ["9", "10", "9007199254740992", "9007199254740993"]);
});

test("events in passing have no position of their own and are never repeats", () => {
  open();
  newest().hear("message", "passing, before any id", "");
  newest().hear("message", "stored", "42");
  newest().hear("message", "passing", "42");
  newest().fail(2);
  tick(1000);
  newest().hear("message", "passing, first on the new connection", "42");
  newest().hear("sse.heartbeat", "15", "50");
  newest().hear("message", "passing, after a heartbeat", "50");
  assert.equal(heard.length, 5);
  assert.equal(source.lastEventId, "50");
});

test("with last= older events come first, and are not repeats of since", () => {
  open();
  newest().hear("sse.heartbeat", "15", "20");
  newest().hear("message", "old", "21");
  assert.deepEqual(heard, [["old", "21"]]);
});

test("a reset says from where on it counts, also further back", () => {
  open();
  const resets = [];
  source.addEventListener("sse.reset", (event) => resets.push(event.data));
  newest().hear("message", "one", "42");
  newest().hear("sse.reset", '{"reason":"ahead","id":7}', "7");
  assert.deepEqual(resets, ['{"reason":"ahead","id":7}']);
  newest().hear("message", "of the restored log", "8");
  assert.deepEqual(heard.at(-1), ["of the restored log", "8"]);
  newest().fail(2);
  tick(1000);
  assert.equal(newest().url.searchParams.get("since"), "8");
});

test("it stays reset until the page has caught up", () => {
  open();
  newest().hear("sse.reset", '{"reason":"expired","id":57}', "57");
  newest().hear("message", "", "58");
  assert.equal(document.documentElement.dataset.sse, "reset");
  newest().fail(0);
  newest().hear("message", "", "59");
  assert.equal(source.state, "reset");
  source.caughtUp();
  assert.equal(document.documentElement.dataset.sse, "open");
  newest().hear("message", "", "60");
  assert.deepEqual(states, ["connecting", "reset", "connecting", "reset", "open"]);
});

test("silence for longer than two heartbeats means that the connection is dead", () => {
  open();
  newest().hear("sse.heartbeat", "15", "42");
  for (let minute = 0; minute < 40; minute += 1) {
    tick(15_000);
    newest().hear("sse.heartbeat", "15", "42");
  }
  assert.equal(made.length, 1);
  tick(35_000);
  assert.equal(made.length, 1);
  tick(10_000);
  assert.equal(made.length, 2);
  assert.equal(made[0].readyState, 2);
});

test("without heartbeats silence is normal, sleep is not", () => {
  open();
  newest().hear("message", "", "42");
  for (let look = 0; look < 100; look += 1) tick(5000);
  assert.equal(made.length, 1);
  mock.timers.setTime(Date.now() + 100_000); // the clock jumps, and one look comes late
  tick(5000);
  assert.equal(made.length, 2);
});

test("a connection that nobody answers is tried again, one that fails and fails is left to the browser", () => {
  open();
  // Longer than the longest retry, 90 seconds, which the browser waits before it asks a server again that is full.
  for (let look = 0; look < 20; look += 1) tick(5000);
  assert.equal(made.length, 1);
  tick(5000);
  assert.equal(made.length, 2);
  for (let failure = 0; failure < 40; failure += 1) {
    tick(3000);
    newest().fail(0);
  }
  assert.equal(made.length, 2);
});

test("a page that is shown again looks at once", () => {
  open();
  newest().hear("sse.heartbeat", "15", "42");
  mock.timers.setTime(Date.now() + 40_000);
  document.dispatchEvent(new Event("visibilitychange"));
  assert.equal(newest().url.searchParams.get("since"), "42");
  assert.equal(made.length, 2);
});

test("offline is said, disproved by an event, and ended by the network's return", () => {
  open();
  newest().hear("sse.heartbeat", "15", "42");
  navigator.onLine = false;
  fire("offline");
  assert.equal(source.state, "offline");
  newest().hear("message", "the server is on this machine", "43");
  assert.equal(source.state, "open");
  newest().fail(0);
  assert.equal(source.state, "offline");
  navigator.onLine = true;
  fire("online");
  assert.equal(source.state, "connecting");
  tick(1000);
  assert.equal(made.length, 2);
  assert.equal(newest().url.searchParams.get("since"), "43");
});

test("when the network returns, earlier failures count no more", () => {
  open();
  for (const pause of [1000, 2000, 4000]) {
    newest().fail(2);
    tick(pause);
  }
  fire("online");
  tick(1000);
  assert.equal(made.length, 5);
});

test("a page kept for the back button closes and comes back", () => {
  open();
  newest().hear("message", "", "42");
  fire("pagehide", { persisted: true });
  assert.equal(newest().readyState, 2);
  tick(120_000);
  assert.equal(made.length, 1);
  fire("pageshow", { persisted: true });
  assert.equal(made.length, 2);
  assert.equal(newest().url.searchParams.get("since"), "42");
});

test("the first showing of a page is no return", () => {
  open();
  fire("pageshow", { persisted: false });
  assert.equal(made.length, 1);
});

test("closed twice, it stays closed", () => {
  open();
  newest().hear("message", "", "42");
  newest().fail(2);
  source.close();
  source.close();
  fire("online");
  fire("pageshow", { persisted: true });
  document.dispatchEvent(new Event("visibilitychange"));
  tick(1_000_000);
  assert.equal(made.length, 1);
  assert.equal(source.state, "closed");
  assert.deepEqual(states, ["connecting", "open", "connecting", "closed"]);
});

test("a source that the server closes for good does not come back, and the page is told why", () => {
  open();
  const reasons = [];
  source.addEventListener("sse.close", (event) => reasons.push(JSON.parse(event.data).reason));
  newest().hear("sse.close", '{"reason":"logout"}', "42");
  newest().fail(0);
  tick(1_000_000);
  assert.equal(made.length, 1);
  assert.deepEqual(reasons, ["logout"]);
  assert.equal(document.documentElement.dataset.sse, "closed");
});

test("one that is not closed for good comes back", () => {
  open();
  newest().hear("sse.close", '{"reason":"moved","final":false}', "42");
  newest().fail(2);
  tick(1000);
  assert.equal(made.length, 2);
});

test("types may be listened for at any time, and are again on the next connection", () => {
  open();
  const found = [];
  newest().hear("sse.heartbeat", "15", "42");
  source.addEventListener("status", (event) => found.push([event.type, event.data, event.lastEventId, event.origin]));
  source.addEventListener("status", () => {}, { once: true });
  newest().hear("status", "one", "43");
  newest().fail(2);
  tick(1000);
  newest().hear("status", "two", "44");
  assert.deepEqual(found, [["status", "one", "43", "http://shop"], ["status", "two", "44", "http://shop"]]);
});

test("onmessage may be replaced and taken away", () => {
  open();
  newest().hear("message", "one", "1");
  source.onmessage = (event) => heard.push(event.data);
  newest().hear("message", "two", "2");
  source.onmessage = null;
  newest().hear("message", "three", "3");
  assert.deepEqual(heard, [["one", "1"], "two"]);
});

test("the page shows the worst state of its sources", () => {
  open();
  newest().hear("message", "", "42");
  const first = made[0];
  const other = new RobustEventSource("/events/?channel=b");
  assert.equal(document.documentElement.dataset.sse, "connecting");
  newest().hear("message", "", "43");
  assert.equal(document.documentElement.dataset.sse, "open");
  first.fail(0);
  assert.equal(document.documentElement.dataset.sse, "connecting");
  first.hear("message", "", "44");
  other.close();
  assert.equal(document.documentElement.dataset.sse, "open");
});

test("credentials are asked for as the page says", () => {
  source = new RobustEventSource("https://other/events/", { withCredentials: true });
  assert.deepEqual(newest().init, { withCredentials: true });
});
