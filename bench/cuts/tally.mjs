// What the clients of one process have seen: counted, and written as records for `roomcast check`.
import { createWriteStream } from "node:fs";
import { createInterface } from "node:readline";

export const options = JSON.parse(process.argv[2]);
const file = createWriteStream(options.records, { flags: "a" });
export const tally = { received: 0, sent: 0, history: 0, recovered: 0, connects: 0 };
export const clients = [];
const delays = [];

export const record = (who, what, fields = {}) =>
  file.write(`${JSON.stringify({ who, user: who, what, ...fields, t: Date.now() / 1000 })}\n`);

/** One client's account. `order` is what its messages are ordered by. */
export function account(who) {
  const seen = new Set();
  const one = { who, joined: false, connected: false, newest: -1, last: -1, outOfOrder: 0, repeated: 0, gaps: 0, seen };
  one.got = ({ n, sent }, order) => {
    if (seen.has(n)) one.repeated++;
    else delays.push(Date.now() - sent);
    seen.add(n);
    if (order < one.newest) one.outOfOrder++;
    one.newest = Math.max(one.newest, order);
    one.last = Math.max(one.last, n);
  };
  clients.push(one);
  return one;
}

function status({ first, count }) {
  const expected = (one) => {
    let got = 0;
    for (let n = first; n < first + count; n++) got += one.seen.has(n) ? 1 : 0;
    return got;
  };
  const sum = (of) => clients.reduce((total, one) => total + of(one), 0);
  return {
    clients: clients.length,
    ready: sum((one) => (one.joined && one.connected ? 1 : 0)),
    delivered: sum(expected),
    outOfOrder: sum((one) => one.outOfOrder),
    repeated: sum((one) => one.repeated),
    gaps: sum((one) => one.gaps),
    gapsTold: clients.map((one) => one.gaps),
    ...tally,
  };
}

createInterface({ input: process.stdin }).on("line", (line) => {
  const command = JSON.parse(line);
  if (command.do === "status") console.log(JSON.stringify(status(command)));
  if (command.do === "end")
    file.end(() => process.stdout.write(`${JSON.stringify({ delays })}\n`, () => process.exit(0)));
});
