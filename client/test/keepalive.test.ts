/** What the keepalive costs and how soon it notices, on networks that forget idle connections. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createClient } from "../src/index.ts";
import { createKeepalive, LONGEST } from "../src/keepalive.ts";
import { FakeServer, reply } from "../src/testing.ts";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOURS = 8;
/** Dollars for a million messages, API Gateway and Lambda aside. */
const PER_MILLION = 1;

beforeEach(() => {
  vi.useFakeTimers({ now: Date.UTC(2025, 0, 17, 10, 30) });
});
afterEach(() => {
  vi.useRealTimers();
});

/** A client that says nothing, for eight hours, on a network that forgets connections idle for `limit` milliseconds. */
async function idle(limit: number, { silent, keepalive }: { silent: boolean; keepalive?: number }) {
  const server = new FakeServer();
  const client = createClient({
    url: "wss://example.test",
    getToken: () => "t",
    WebSocket: server.WebSocket,
    ...(keepalive && { keepalive }),
  });
  let pings = 0;
  const busy = new WeakMap<object, number>();
  const forgotten = new WeakSet<object>();
  server.answer = (action, connection) => {
    if (action.action === "ping") pings++;
    // A network that has forgotten a connection carries nothing of it, and says nothing about it.
    if (forgotten.has(connection)) return undefined;
    busy.set(connection, Date.now());
    return reply(action);
  };
  let deaths = 0;
  let deaf = 0;
  let longest = 0;
  let since = 0;
  const clock = setInterval(() => {
    for (const connection of server.open) {
      if (!busy.has(connection)) busy.set(connection, Date.now());
      if (forgotten.has(connection) || Date.now() - busy.get(connection)! < limit) continue;
      deaths++;
      since = Date.now();
      if (silent) forgotten.add(connection);
      else connection.cut(1006);
    }
    const well = client.connected && server.open.some((connection) => !forgotten.has(connection));
    if (well && since) since = 0;
    if (!well && since) {
      deaf += 100;
      longest = Math.max(longest, Date.now() - since);
    }
  }, 100);
  await vi.advanceTimersByTimeAsync(HOURS * 60 * MINUTE);
  clearInterval(clock);
  client.disconnect();
  return { pings: pings / HOURS, deaths, deaf: deaf / SECOND, longest: longest / SECOND };
}

test.each([
  ["none", Number.POSITIVE_INFINITY, false],
  ["5 min, cut", 5 * MINUTE, false],
  ["5 min, silent", 5 * MINUTE, true],
  ["60 s, cut", MINUTE, false],
  ["60 s, silent", MINUTE, true],
] as const)("an idle limit of %s", async (name, limit, silent) => {
  const fixed = await idle(limit, { silent, keepalive: LONGEST });
  const learned = await idle(limit, { silent });
  for (const [how, { pings, deaths, deaf, longest }] of Object.entries({ "9 min": fixed, learned })) {
    const dollars = ((pings * 24 * 30 * 1_000) / 1e6) * PER_MILLION;
    console.log(
      `idle limit ${name}, ${how}: ${pings.toFixed(1)} pings an hour ($${dollars.toFixed(2)} a month for 1,000 clients), ` +
        `${deaths} deaths in ${HOURS} h, noticed after ${longest.toFixed(0)} s at most, ${deaf.toFixed(0)} s deaf in all`,
    );
  }
  if (limit === Number.POSITIVE_INFINITY) {
    expect(learned.pings).toBeLessThan(8);
    expect(learned.deaths).toBe(0);
  } else {
    expect(learned.deaths).toBeLessThanOrEqual(silent ? 12 : 8);
    expect(learned.deaths).toBeLessThan(fixed.deaths / 3);
    expect(learned.deaf).toBeLessThan(silent ? fixed.deaf / 3 : Number.POSITIVE_INFINITY);
    // Just below the limit, not at every opportunity.
    expect(learned.pings).toBeLessThan((3 * 60 * MINUTE) / limit);
  }
});

test("nothing is learned of what was no idleness, and a longer interval is tried after a while", () => {
  const keepalive = createKeepalive(() => undefined);
  keepalive.died_(5_000, true); // cut in the middle of traffic
  keepalive.died_(60 * MINUTE, true); // a machine that slept
  expect(keepalive.interval_()).toBe(LONGEST);
  keepalive.died_(LONGEST, false);
  expect(keepalive.interval_()).toBe(LONGEST / 2);
  keepalive.died_(MINUTE, true);
  expect(keepalive.interval_()).toBe(48 * SECOND);
  for (let answered = 0; answered < 12; answered++) {
    expect(keepalive.interval_()).toBe(48 * SECOND);
    keepalive.survived_(48 * SECOND);
  }
  expect(keepalive.interval_()).toBe(72 * SECOND);
  keepalive.died_(MINUTE, true);
  expect(keepalive.interval_()).toBe(48 * SECOND);
  expect(createKeepalive(() => 7).interval_()).toBe(7);
});
