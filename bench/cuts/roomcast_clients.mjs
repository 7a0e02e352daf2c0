// Roomcast's clients, as they are built, in one process. What comes over the wire is observed beside them.
import WebSocket from "ws";
import { createClient } from "../../client/dist/index.js";
import { resume } from "../../client/dist/resume.js";
import { account, clients, options, record, tally } from "./tally.mjs";

const { url, tokens, first, room, settings = {} } = options;

const open = new Map();

/** Sees each frame before the client does. */
function observed(who) {
  return class extends WebSocket {
    constructor(...inputs) {
      super(...inputs);
      tally.connects++;
      open.set(who, (open.get(who) ?? 0) + 1);
      this.on("message", (data) => {
        tally.received++;
        const { event, data: content } = JSON.parse(data);
        if (event === "rooms:joined") for (const entry of content.rooms) joined(who, entry);
      });
      this.on("close", () => {
        open.set(who, open.get(who) - 1);
        if (!open.get(who)) record(who, "closed");
      });
      this.on("error", () => {});
    }

    send(text) {
      tally.sent++;
      if (text.includes('"rooms:history"')) tally.history++;
      super.send(text);
    }
  };
}

function joined(who, { room, epoch, seq, recovered, wasRecovering, history }) {
  if (epoch === undefined) return;
  const lastValue = history?.messages === 1;
  record(who, "joined", { room, epoch, seq, recovered, wasRecovering, ...(lastValue && { lastValue }) });
}

for (const [index, token] of tokens.entries()) {
  const number = first + index;
  const who = `c${number}`;
  const one = account(who);
  const client = createClient({
    url: `${url}?cut=${number}`,
    getToken: () => token,
    WebSocket: observed(who),
    resume,
    ...settings,
  });
  client.on("tick", (data, { room, epoch, seq, id }) => {
    one.got(data, seq ?? data.n);
    if (seq !== undefined) record(who, "delivered", { room, epoch, seq, id });
  });
  client.on("client:state", ({ state }) => (one.connected = state === "connected"));
  client.on("client:gap", ({ room }) => {
    one.gaps++;
    record(who, "gap", { room });
  });
  client.on("client:recovered", () => tally.recovered++);
  client.join(room).then(
    () => (one.joined = true),
    (error) => console.error(`${who}: ${error.code} ${error.message}`),
  );
}
console.log(JSON.stringify({ clients: clients.length }));
