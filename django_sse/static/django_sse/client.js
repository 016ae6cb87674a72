// The browser's own EventSource, held up: it comes back after any answer, notices silence and sleep, drops repeats and
// tells the page how it is. An ES module without dependencies; docs/client.md describes it.

// Milliseconds. A source that the browser has given up is made anew after a random time below FIRST, then below twice
// as much each time, but no more than LONGEST, so that a page is back within that time of its server. Who has been
// refused more than PATIENT times in a row comes more rarely: EventSource does not tell a refusal from a failure.
const FIRST = 1000;
const LONGEST = 10_000;
const PATIENT = 30;
const RARELY = 60_000;
const HEALTHY = 30_000; // open for longer than this, the next failure is a first one
const LOOK = 5000; // between two looks at the clock
const SLEPT = 90_000; // a look that comes this late: the machine slept; hidden tabs may look once a minute only
const UNANSWERED = 100_000; // a connection that takes longer is tried again; a full server tells to wait 90 s at most

const STATES = ["open", "reset", "connecting", "offline", "closed"]; // from best to worst
const CLOSED = 2;
const sources = new Set();

// The worst state of the page's sources, for style sheets: <html data-sse="connecting">.
function paint() {
  const worst = Math.max(...Array.from(sources, (source) => STATES.indexOf(source.state)));
  if (worst < 0) delete document.documentElement.dataset.sse;
  else document.documentElement.dataset.sse = STATES[worst];
}

// Positions may be larger than a Number holds exactly.
function isAfter(id, other) {
  return id.length === other.length ? id > other : id.length > other.length;
}

export class RobustEventSource extends EventTarget {
  #url;
  #init;
  #source;
  #types = new Set(["message", "sse.heartbeat", "sse.reset", "sse.close"]);
  #onmessage = null;
  #state = "";
  #last = ""; // the newest position that the page has seen; what is not after it is a repeat
  #here = ""; // the last event ID of this connection
  #missed = false;
  #failures = 0;
  #heard = 0;
  #opened = 0;
  #looked = 0;
  #heartbeat = 0;
  #retry;
  #clock;
  #end = new AbortController();

  constructor(url, init) {
    super();
    this.#url = new URL(url, document.baseURI);
    this.#init = init;
    sources.add(this);
    this.#looked = Date.now();
    this.#clock = setInterval(this.#look, LOOK);
    const { signal } = this.#end;
    addEventListener("offline", () => this.#show("offline"), { signal });
    addEventListener("online", () => {
      this.#failures = 0;
      this.#again();
    }, { signal });
    // Some browsers do not keep a page with an open connection for the back button, others cut it.
    addEventListener("pagehide", () => {
      clearTimeout(this.#retry);
      this.#source.close();
    }, { signal });
    addEventListener("pageshow", (event) => event.persisted && this.#connect(), { signal });
    document.addEventListener("visibilitychange", this.#look, { signal });
    document.addEventListener("resume", this.#look, { signal });
    this.#connect();
  }

  get url() {
    return this.#url.href;
  }

  get state() {
    return this.#state;
  }

  get lastEventId() {
    return this.#last;
  }

  get onmessage() {
    return this.#onmessage;
  }

  set onmessage(handler) {
    this.removeEventListener("message", this.#onmessage);
    this.#onmessage = handler;
    if (handler) this.addEventListener("message", handler);
  }

  addEventListener(type, ...rest) {
    if (!this.#types.has(type)) {
      this.#types.add(type);
      this.#source.addEventListener(type, this.#hear);
    }
    super.addEventListener(type, ...rest);
  }

  // The page has loaded its state anew after a reset.
  caughtUp() {
    this.#missed = false;
    if (this.#state === "reset") this.#show("open");
  }

  close() {
    this.#stop();
    sources.delete(this);
    paint();
  }

  #stop() {
    this.#end.abort();
    clearInterval(this.#clock);
    clearTimeout(this.#retry);
    this.#source.close();
    this.#show("closed");
  }

  #connect() {
    clearTimeout(this.#retry);
    this.#source?.close();
    const url = new URL(this.#url);
    url.searchParams.set("heartbeat", "event");
    if (this.#last) {
      // A new EventSource sends no Last-Event-ID.
      url.searchParams.set("since", this.#last);
      url.searchParams.delete("last");
    }
    this.#here = this.#last;
    this.#opened = 0;
    this.#heard = Date.now();
    const source = new EventSource(url, this.#init);
    this.#source = source;
    source.onopen = () => {
      this.#heard = Date.now();
    };
    source.onerror = () => {
      this.#heard = Date.now();
      if (source.readyState === CLOSED) {
        this.#again();
      } else {
        this.#opened = 0; // the browser comes back by itself
        this.#show("connecting");
      }
    };
    for (const type of this.#types) source.addEventListener(type, this.#hear);
    this.#show("connecting");
  }

  #again() {
    const wasHealthy = this.#opened && Date.now() - this.#opened > HEALTHY;
    if (wasHealthy) this.#failures = 0;
    const most = this.#failures < PATIENT ? LONGEST : RARELY;
    const pause = Math.random() * Math.min(most, FIRST * 2 ** this.#failures);
    this.#failures += 1;
    this.#source.close();
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#connect(), pause);
    this.#show("connecting");
  }

  #look = () => {
    const now = Date.now();
    const slept = now - this.#looked > SLEPT;
    this.#looked = now;
    const { readyState } = this.#source;
    if (readyState === CLOSED) return; // #again has set a time, or the page is hidden for the back button
    // 2.5: one heartbeat may be late, two are missing. Without them (polling, streams of one's own) silence is normal.
    const patience = readyState === 0 ? UNANSWERED : this.#heartbeat * 2.5;
    if (slept || (patience && now - this.#heard > patience)) this.#connect();
  };

  #hear = (event) => {
    const { type, data, lastEventId: id } = event;
    if (data === undefined) return; // the browser's own "open" or "error", if a page asked for those
    this.#heard = Date.now();
    this.#opened ||= this.#heard;
    let isRepeat = false;
    if (type === "sse.reset") {
      this.#last = id; // even if it is older: the log was restored
      this.#missed = true;
    } else if (/^\d+$/.test(id) && id !== this.#here) {
      // The same id again is an event in passing, which has none of its own.
      isRepeat = !isAfter(id, this.#last);
      if (!isRepeat) this.#last = id;
    }
    this.#here = id;
    this.#show(this.#missed ? "reset" : "open");
    if (type === "sse.heartbeat") this.#heartbeat = Number(data) * 1000;
    else if (!isRepeat) this.dispatchEvent(new MessageEvent(type, { data, lastEventId: id, origin: event.origin }));
    if (type === "sse.close" && !/"final": ?false/.test(data)) this.#stop();
  };

  #show(state) {
    if (state === "connecting" && navigator.onLine === false) state = "offline";
    if (state === this.#state) return;
    this.#state = state;
    paint();
    document.dispatchEvent(new CustomEvent("sse:state", { detail: { state, source: this } }));
  }
}
