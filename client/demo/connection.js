// The life of the connection: how it has been for two minutes, and a network that can be cut.
import { $, note, shape, showCode } from "/page.js";

const SHOWN = 120; // seconds
const CUT = 5; // seconds
const WORDS = { connected: "Connected", connecting: "Connecting", disconnected: "Disconnected" };

let cutUntil = 0;
const open = new Set();
const changes = []; // {state, at}, oldest first
const counts = { back: 0, replayed: 0, lost: 0 };

/** The browser's own WebSocket over a network that this page can cut: give it to `createClient`. */
export class CutWebSocket extends WebSocket {
  constructor(...asked) {
    super(...asked);
    open.add(this);
    this.addEventListener("close", () => open.delete(this));
    if (Date.now() < cutUntil) this.close();
  }
}

export function watch(client) {
  client.on("client:state", ({ state, previous }) => {
    changes.push({ state, at: Date.now() });
    if (
      state === "connected" &&
      previous === "connecting" &&
      changes.some((change) => change.state === "connected" && change !== changes.at(-1))
    ) {
      counts.back++;
    }
    draw();
  });
  client.on("client:recovered", ({ count }) => {
    counts.replayed += count;
    draw();
  });
  client.on("client:gap", () => {
    counts.lost++;
    draw();
  });
  changes.push({ state: client.state, at: Date.now() });
  draw();
  setInterval(draw, 1_000);
}

$("cut").addEventListener("click", () => {
  cutUntil = Date.now() + CUT * 1000;
  note(`the network is cut for ${CUT} s`);
  showCode({
    browser: [
      "const client = createClient({ url, getToken, resume });",
      'client.on("client:recovered", ({ room, count }) => console.log(`${count} came while away`));',
      'client.on("client:gap", ({ room }) => reload(room));',
    ].join("\n"),
  });
  for (const socket of open) socket.close();
});

function draw() {
  const now = Date.now();
  const first = now - SHOWN * 1000;
  while (changes.length > 1 && changes[1].at < first) changes.shift();
  const x = (at) => Math.max(0, (at - first) / 1000);
  $("life").replaceChildren(
    ...changes.map(({ state, at }, index) => {
      const from = x(at);
      const width = Math.max(0.4, x(changes[index + 1]?.at ?? now) - from);
      return shape("rect", { class: state, x: from, y: 0, width, height: 10 });
    }),
  );
  const { state, at } = changes.at(-1);
  const seconds = Math.round((now - at) / 1000);
  const text = `${WORDS[state]} for ${seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min`}`;
  $("since").textContent = text;
  $("life").setAttribute("aria-label", `The last two minutes: ${text}, ${counts.back} times back`);
  for (const [id, count] of Object.entries(counts)) $(id).textContent = count;
  const left = Math.ceil((cutUntil - now) / 1000);
  $("cut").disabled = left > 0;
  $("cut").textContent = left > 0 ? `Cut for ${left} s more` : `Cut the network for ${CUT} s`;
}
