// Notifications over a WebSocket: what has to be written by hand so that a page also survives a lost connection.
// It comes back; what was sent meanwhile does not, because nobody kept it.

const address = new URL(document.getElementById("run").dataset.socket, location);
address.protocol = address.protocol.replace("http", "ws");
let attempts = 0;

function connect() {
  const socket = new WebSocket(address);
  socket.onopen = () => {
    attempts = 0;
    versus.state("socket", "Connected");
  };
  socket.onmessage = (event) => {
    const data = JSON.parse(event.data);
    versus.notification("socket", data);
  };
  socket.onclose = () => {
    versus.state("socket", "Away");
    const pause = Math.min(10000, 1000 * 2 ** attempts) * (0.5 + Math.random() / 2);
    attempts += 1;
    setTimeout(connect, pause);
  };
}

connect();
