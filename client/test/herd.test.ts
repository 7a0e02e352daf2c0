/** What thousands of clients do together: to a server that cuts them all, and to API Gateway's connect quota. */
import { expect, test, vi } from "vitest";
import { createClient } from "../src/index.ts";
import {
  type Events,
  type Handler,
  type Model,
  publicState,
  start,
  transitions,
  type World,
} from "../src/lifecycle.ts";
import { FakeServer } from "../src/testing.ts";
import { dice } from "./dice.ts";
import { VirtualClock } from "./virtual-clock.ts";

/** What API Gateway lets in, for a whole account. */
const CONNECTS_PER_SECOND = 500;
/** Milliseconds of spread that the server says for each open connection: 400 connects a second. */
const SPREAD_PER_CLIENT = 2.5;
const MINUTE = 60_000;

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
  ["and the server stays away for three minutes", 3 * MINUTE],
])("10,000 clients cut at once stay under 500 connects a second, %s", { timeout: 180_000 }, async (_, away) => {
  vi.spyOn(Math, "random").mockImplementation(dice(1));
  const clock = new VirtualClock();
  clock.install();
  const server = new FakeServer();
  server.latency = 50;
  server.facts = { expiresIn: 7_200, spread: 10_000 * SPREAD_PER_CLIENT };
  const clients = Array.from({ length: 10_000 }, () =>
    createClient({ url: "wss://example.test/prod", getToken: () => "t", WebSocket: server.WebSocket }),
  );
  await clock.advance(MINUTE);
  server.attempts.length = 0;
  const cutAt = Date.now();
  if (away) server.admit = "down";
  server.cut();
  await clock.advance(away);
  server.admit = "open";
  await clock.advance(2 * MINUTE);

  expect(clients.every(({ state }) => state === "connected")).toBe(true);
  const busiest = busiestSecond(server.attempts.map(({ at }) => at));
  const last = (server.attempts.at(-1)!.at - cutAt - away) / 1_000;
  console.log(
    `${server.attempts.length} handshakes, at most ${busiest} in a second, all back ${last.toFixed(0)} s after the server`,
  );
  expect(busiest).toBeLessThan(CONNECTS_PER_SECOND);
  for (const client of clients) client.disconnect();
});

/**
 * The state machines of many clients against the connect quota. A handshake over the quota is refused, as is every
 * one while `$connect` fails: a page cannot tell one from the other, nor either from a refused token.
 */
function simulate(count: number, { fails, told }: { fails: number; told: number }) {
  const random = dice(7);
  const spread = Math.max(1_000, told * SPREAD_PER_CLIENT);
  const models: Model[] = Array.from({ length: count }, () => ({ ...start }));
  const due = new Map<number, (() => void)[]>();
  const handshakes: number[] = [];
  let now = 0;
  let allowance = CONNECTS_PER_SECOND;
  let outage = false;
  let allBack = 0;
  let out = count;
  let explained = 0;

  const later = (milliseconds: number, task: () => void) => {
    const time = Math.max(now + 1, Math.round(now + milliseconds));
    if (!due.has(time)) due.set(time, []);
    due.get(time)!.push(task);
  };
  const timers = new Map<number, object>();

  /** Whose event it is at the moment. */
  let client = 0;

  function happen<E extends keyof Events>(who: number, event: E, ...values: Events[E]) {
    const model = models[who]!;
    client = who;
    world.dice_ = random();
    (transitions[model.phase_][event] as Handler<E> | undefined)?.(model, world, ...values);
  }

  /** What comes of the attempt under way, unless it has been given up. */
  function soon<E extends keyof Events>(milliseconds: number, event: E, ...values: Events[E]) {
    const who = client;
    const { next_: next } = models[who]!;
    later(milliseconds, () => next === models[who]!.next_ && happen(who, event, ...values));
  }

  const world: World = {
    offline_: false,
    maxRefusals_: 3,
    spread_: spread,
    awake_: false,
    rested_: Number.POSITIVE_INFINITY,
    dice_: 0,
    later_(event, milliseconds) {
      if (event !== "waited") return;
      const who = client;
      const timer = {};
      timers.set(who, timer);
      later(milliseconds, () => timers.get(who) === timer && happen(who, event));
    },
    retry_: (milliseconds) => world.later_("waited", milliseconds),
    ask_(explain) {
      if (explain) explained++;
      soon(1, "credentials", false);
    },
    open_() {
      const who = client;
      const { next_: next } = models[who]!;
      later(50, () => {
        handshakes.push(now);
        const let_in = allowance >= 1;
        if (let_in) allowance--;
        if (let_in && !outage) happen(who, "opened");
        else happen(who, "closed", next, 1006, "closed: 1006", 0);
      });
    },
    check_: () => soon(50, "checked", true, ""),
    join_: () => soon(50, "ready"),
    adopt_() {
      if (--out === 0) allBack = now;
    },
    forget_() {},
    stop_() {},
    state_() {},
  };

  function advance(until: number) {
    while (now < until && (out > 0 || now < until - 3_600_000)) {
      now++;
      allowance = Math.min(CONNECTS_PER_SECOND, allowance + CONNECTS_PER_SECOND / 1_000);
      for (const task of due.get(now) ?? []) task();
      due.delete(now);
    }
  }

  // All are connected, and the server cuts them.
  for (let client = 0; client < count; client++) {
    models[client] = { ...start, phase_: "settled", current_: 1, next_: 1 };
  }
  outage = fails > 0;
  for (let client = 0; client < count; client++) happen(client, "closed", 1, 1001, "Going away", MINUTE);
  later(fails, () => (outage = false));
  advance(2 * 3_600_000);
  const lost = models.filter((model) => publicState(model) !== "connected").length;
  return {
    lost,
    backAfter: (allBack - fails) / 1_000,
    busiest: busiestSecond(handshakes),
    explained,
    handshakes: handshakes.length,
  };
}

// C1 of the core's review: 92 % of 10,000 clients were lost for good, and 16 % of 100,000 without any outage.
test.each([
  [10_000, 0, 10_000],
  [10_000, 5 * MINUTE, 10_000],
  [100_000, 0, 100_000],
  [100_000, 5 * MINUTE, 100_000],
  // The count is taken now and then: a stage that has grown tenfold since is refused a lot, and comes back all the same.
  [100_000, 0, 10_000],
])("%i clients cut at once, $connect failing for %i ms, a spread for %i: nobody is lost", (count, fails, told) => {
  const { lost, backAfter, busiest, explained, handshakes } = simulate(count, { fails, told });
  console.log(
    `${count} clients, $connect fails for ${fails / MINUTE} min, spread for ${told}: all back ${backAfter.toFixed(0)} s ` +
      `after the server; ${handshakes} handshakes, at most ${busiest} in a second, ${explained} asked why`,
  );
  expect(lost).toBe(0);
  if (told === count) expect(busiest).toBeLessThan(CONNECTS_PER_SECOND);
  expect(backAfter).toBeLessThan(Math.max(60, (count * SPREAD_PER_CLIENT * 4) / 1_000));
});

test.each([1, 20])("%i clients that are alone on their stage are back within a second", (count) => {
  const { lost, backAfter } = simulate(count, { fails: 0, told: count });
  expect(lost).toBe(0);
  expect(backAfter).toBeLessThan(1.2);
});
