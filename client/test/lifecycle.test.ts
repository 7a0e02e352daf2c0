/** The state machine by itself: what must hold in every phase, whatever happens. */
import { expect, test } from "vitest";
import {
  type Effects,
  type Events,
  type Handler,
  type Model,
  publicState,
  start,
  transitions,
  type World,
} from "../src/lifecycle.ts";
import { dice } from "./dice.ts";

const EVENTS = Object.keys({
  connect: 0,
  disconnect: 0,
  waited: 0,
  credentials: 0,
  failed: 0,
  opened: 0,
  checked: 0,
  ready: 0,
  closed: 0,
  rotate: 0,
  wake: 0,
  replaced: 0,
} satisfies Record<keyof Events, 0>) as (keyof Events)[];

const WORLD = { offline_: false, awake_: false, rested_: Number.POSITIVE_INFINITY, spread_: 1_000 };

/** The next model, and what is to be done. */
function step<E extends keyof Events>(
  before: Model,
  world: Omit<World, keyof Effects>,
  event: E,
  ...values: Events[E]
): [Model, unknown[][]] {
  const model = { ...before };
  const done: unknown[][] = [];
  const effects = "later_ ask_ open_ check_ join_ adopt_ forget_ stop_ retry_"
    .split(" ")
    .map((name) => [name, (...values: unknown[]) => done.push([name, ...values])]);
  const state = () => done.push(["state_", publicState(model)]);
  const handler = transitions[model.phase_][event] as Handler<E> | undefined;
  handler?.(model, { ...world, ...Object.fromEntries(effects), state_: state }, ...values);
  return [model, done];
}

test("50,000 random events keep the phases and the connections in step", () => {
  const random = dice(3);
  const below = (count: number) => Math.floor(random() * count);
  const world = { ...WORLD, maxRefusals_: 1, dice_: 0 };
  const met = new Set<string>();
  let model: Model = Object.freeze({ ...start });
  for (let number = 0; number < 50_000; number++) {
    const event = EVENTS[below(EVENTS.length)]!;
    if (/disconnect|replaced|failed/.test(event) && random() < 0.9) continue;
    // Mostly of the attempt under way or the connection in use, sometimes of one that is long gone.
    const id = [model.next_, model.next_, model.current_, below(model.next_ + 2)][below(4)]! || 1e9; // no connection has the number 0
    const values: { [E in keyof Events]: Events[E] } = {
      connect: [],
      disconnect: [],
      waited: [],
      credentials: [random() < 0.1],
      failed: ["a reason"],
      opened: [],
      checked: [random() < 0.5, "a reason"],
      ready: [],
      closed: [id, [0, 1006][below(2)]!, "a reason", below(3_000)],
      rotate: [],
      wake: [random() < 0.5],
      replaced: ["a reason"],
    };
    world.dice_ = random();
    const [next, effects] = step(model, world, event, ...(values[event] as never));
    const { phase_: phase, current_: current } = next;
    const attempt = /asking|opening|checking|joining/.test(phase);
    const told = effects.filter(([effect]) => effect === "state_").map(([, state]) => state);
    met.add(phase);

    const expected = {
      off: [false, false],
      parked: [false, false],
      waiting: [false, false],
      settled: [true, false],
    }[phase as "off"] ?? [!!current, true];
    expect([!!current, attempt], `${model.phase_} ${event} ${phase}`).toEqual(expected);
    expect(current !== next.next_ || !attempt).toBe(true);
    // What the application is told is what has changed, once; and that it is out for another reason now.
    const again = model.phase_ === "parked" && event === "disconnect";
    expect(told, `${model.phase_} ${event} ${phase}`).toEqual(
      publicState(model) === publicState(next) && !again ? [] : [publicState(next)],
    );
    // No attempt ends without the next one being in sight.
    const later = effects.some(([effect]) => effect === "later_" || effect === "retry_");
    if (phase === "waiting" && model.phase_ !== "waiting") expect(later).toBe(true);
    if (phase === "settled" && model.phase_ !== "settled") expect(later).toBe(true);
    model = Object.freeze(next);
  }
  expect([...met].sort()).toEqual(Object.keys(transitions).sort());
});

test("only the server's word and a missing token end it, and no number of refusals does", () => {
  const world = { ...WORLD, dice_: 0.5, maxRefusals_: 3 };
  let model = step(start, world, "connect")[0];
  let asked = 0;
  for (let refusal = 0; refusal < 1_000; refusal++) {
    const [asking, effects] = step(model, world, "waited");
    if (effects.some(([effect, explain]) => effect === "ask_" && explain)) asked++;
    const [opening] = step(asking, world, "credentials", false);
    model = step(opening, world, "closed", opening.next_, 1006, "closed: 1006", 0)[0];
    expect(publicState(model)).toBe("connecting");
  }
  expect(asked).toBe(333);
});
