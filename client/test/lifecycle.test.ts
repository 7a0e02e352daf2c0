/** The state machine by itself: what must hold in every phase, whatever happens. */
import { expect, test } from "vitest";
import { type Events, type Model, publicState, start, step, transitions } from "../src/lifecycle.ts";
import { dice } from "./dice.ts";

const EVENTS = Object.keys({
  connect: 0,
  disconnect: 0,
  waited: 0,
  credentials: 0,
  no_token: 0,
  failed: 0,
  opened: 0,
  checked: 0,
  ready: 0,
  closed: 0,
  rotate: 0,
  wake: 0,
  replaced: 0,
} satisfies Record<keyof Events, 0>) as (keyof Events)[];

test("50,000 random events keep the phases and the connections in step", () => {
  const random = dice(3);
  const below = (count: number) => Math.floor(random() * count);
  const world = { random, offline: false, maxRefusals: 1, spread: 1_000 };
  const met = new Set<string>();
  let model: Model = Object.freeze({ ...start });
  for (let number = 0; number < 50_000; number++) {
    const event = EVENTS[below(EVENTS.length)]!;
    if (/disconnect|replaced|no_token|failed/.test(event) && random() < 0.9) continue;
    // Mostly of the attempt under way or the connection in use, sometimes of one that is long gone.
    const id = [model.next, model.next, model.current, below(model.last + 2)][below(4)]! || 1e9; // no connection has the number 0
    const values: { [E in keyof Events]: Events[E] } = {
      connect: [],
      disconnect: [],
      waited: [],
      credentials: [id, random() < 0.1],
      no_token: [id],
      failed: [id, "a reason"],
      opened: [id],
      checked: [id, random() < 0.5, "a reason"],
      ready: [id],
      closed: [id, [0, 1006][below(2)]!, "a reason", below(3_000)],
      rotate: [],
      wake: [random() < 0.5],
      replaced: ["a reason"],
    };
    const [next, effects] = step(model, world, event, ...(values[event] as never));
    const { phase, current } = next;
    const attempt = !!next.next;
    const told = effects.filter(([effect]) => effect === "state").map(([, state]) => state);
    met.add(phase);

    const expected = {
      off: [false, false],
      parked: [false, false],
      waiting: [false, false],
      settled: [true, false],
    }[phase as "off"] ?? [!!current, true];
    expect([!!current, attempt], `${model.phase} ${event} ${phase}`).toEqual(expected);
    expect(current === 0 || current !== next.next).toBe(true);
    // What the application is told is what has changed, once; and that it is out for another reason now.
    const again = model.phase === "parked" && event === "disconnect";
    expect(told, `${model.phase} ${event} ${phase}`).toEqual(
      publicState(model) === publicState(next) && !again ? [] : [publicState(next)],
    );
    // No attempt ends without the next one being in sight.
    const later = effects.some(([effect]) => effect === "later");
    if (phase === "waiting" && model.phase !== "waiting") expect(later).toBe(true);
    if (phase === "settled" && model.phase !== "settled") expect(later).toBe(true);
    model = Object.freeze(next);
  }
  expect([...met].sort()).toEqual(Object.keys(transitions).sort());
});

test("only the server's word and a missing token end it, and no number of refusals does", () => {
  const world = { random: () => 0.5, offline: false, maxRefusals: 3, spread: 1_000 };
  let model = step(start, world, "connect")[0];
  let asked = 0;
  for (let refusal = 0; refusal < 1_000; refusal++) {
    model = step(model, world, "waited")[0];
    const [opening, effects] = step(model, world, "credentials", model.next, false);
    if (effects.some(([effect, , explain]) => effect === "open" && explain)) asked++;
    model = step(opening, world, "closed", opening.next, 1006, "closed: 1006", 0)[0];
    expect(publicState(model)).toBe("connecting");
  }
  expect(asked).toBe(333);
});
