import { expect, test, vi } from "vitest";
import { createClient } from "../src/index.ts";
import { FakeServer } from "./fake-server.ts";
import { VirtualClock } from "./virtual-clock.ts";

const CLIENTS = 10_000;
/** What API Gateway lets in, for a whole account. */
const CONNECTS_PER_SECOND = 500;

/** Math.random with a beginning, so that this test comes out the same every time (mulberry32). */
function dice(state: number): () => number {
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The most handshakes within any second, wherever that second begins. */
function busiestSecond(times: number[]): number {
  let first = 0;
  let most = 0;
  times.forEach((time, index) => {
    while (times[first]! <= time - 1_000) first++;
    most = Math.max(most, index - first + 1);
  });
  return most;
}

test.each([
  ["and the server is there again at once", 0],
  ["and the server stays away for three minutes", 180_000],
])("10,000 clients cut at once stay under 500 connects a second, %s", { timeout: 180_000 }, async (_, away) => {
  vi.spyOn(Math, "random").mockImplementation(dice(1));
  const clock = new VirtualClock();
  clock.install();
  const server = new FakeServer();
  server.latency = 50;
  const clients = Array.from({ length: CLIENTS }, () =>
    createClient({ url: "wss://example.test/prod", getToken: () => "t", WebSocket: server.WebSocket }),
  );
  await clock.advance(60_000);
  server.attempts.length = 0;
  const cutAt = Date.now();
  if (away) server.admit = "down";
  server.cut();
  await clock.advance(away);
  server.admit = "open";
  await clock.advance(129_000);

  expect(clients.every(({ state }) => state === "connected")).toBe(true);
  const busiest = busiestSecond(server.attempts.map(({ at }) => at));
  const last = (server.attempts.at(-1)!.at - cutAt - away) / 1_000;
  console.log(
    `${server.attempts.length} handshakes, at most ${busiest} in a second, all back ${last.toFixed(0)} s after the server`,
  );
  expect(busiest).toBeLessThan(CONNECTS_PER_SECOND);
  for (const client of clients) client.disconnect();
});
