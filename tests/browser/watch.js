// Runs before any script of a page: notes what Chromium's own EventSource hands over, whoever listens to it.
(() => {
  const wire = { sources: [], opened: 0, events: [], violations: [] };
  const note = (event) => wire.events.push([event.type, event.data, event.lastEventId]);
  globalThis.EventSource = class extends EventSource {
    constructor(...args) {
      super(...args);
      wire.sources.push(this);
      super.addEventListener("open", () => { wire.opened += 1; });
      super.addEventListener("message", note);
    }
    addEventListener(type, ...rest) {
      super.addEventListener(type, note);
      super.addEventListener(type, ...rest);
    }
  };
  wire.until = (condition) => new Promise((resolve, reject) => {
    const deadline = performance.now() + 15000;
    const timer = setInterval(() => {
      const late = performance.now() > deadline;
      if (!late && !condition()) return;
      clearInterval(timer);
      if (!late) resolve();
      else reject(new Error(`Waited in vain for ${condition}. ${JSON.stringify(wire).slice(0, 2000)}`));
    }, 5);
  });
  // All that a stream fires until its body ends.
  wire.read = (url) => new Promise((resolve) => {
    const source = new EventSource(url);
    const from = wire.events.length;
    for (const type of ["named", "sse.reset"]) source.addEventListener(type, () => {});
    source.onerror = () => { source.close(); resolve(wire.events.slice(from)); };
  });
  addEventListener("securitypolicyviolation", (event) => {
    wire.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
  });
  globalThis.wire = wire;
})();
