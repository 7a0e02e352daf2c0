/**
 * The life of a client as a state machine: `step(model, world, event, ...)` gives the next model and what is to be done.
 * Pure: no clock, no socket, no callback. `session.ts` carries the effects out.
 *
 *     off, parked ── connect ──▶ waiting ── waited ──▶ asking ── credentials ──▶ opening
 *                                   ▲                    │                         │ opened
 *                                   │◀── failure ────────┴─────────────────────────┤
 *                                   │                                              ▼
 *     settled ── closed ────────────┘        settled ◀── ready ── joining ◀── (checking)
 *        └── rotate ──▶ asking, with the old connection in use until the new one is ready
 */
import { backoff, QUICK } from "./backoff.ts";
import type { State, StateCode } from "./protocol.ts";

export type Phase =
  /** Nothing is wanted. */
  | "off"
  /** Put out by the server, which let a newer connection of this user in. */
  | "parked"
  /** Until the next attempt. */
  | "waiting"
  /** The application is asked for the URL and the token. */
  | "asking"
  /** The handshake is under way. */
  | "opening"
  /** Open, and the server is asked why earlier handshakes were refused. */
  | "checking"
  /** Open, and the rooms are being joined. */
  | "joining"
  /** Nothing is under way: the connection in use serves. */
  | "settled";

export interface Model {
  phase: Phase;
  /** The connection in use, by number; 0 for none. */
  current: number;
  /** The attempt under way, and the connection that comes of it; 0 for none. */
  next: number;
  /** The last number that was given out. */
  last: number;
  /** Attempts that failed, in a row. */
  failures: number;
  /** Handshakes among them that were refused, for whatever cause. */
  refusals: number;
  /** A wake-up came while an attempt was under way: should it fail, the next one comes soon. */
  woken: boolean;
}

/** What may happen. A leading `id` is the attempt that it comes of: what comes of one that was given up is ignored. */
export interface Events {
  connect: [];
  disconnect: [];
  waited: [];
  credentials: [id: number, otherUser: boolean];
  no_token: [id: number];
  failed: [id: number, reason: string];
  opened: [id: number];
  checked: [id: number, valid: boolean, reason: string];
  ready: [id: number];
  /** `code` 0: ended by this side. `lasted`: milliseconds. */
  closed: [id: number, code: number, reason: string, lasted: number];
  rotate: [];
  /** `shown`: the person has turned to this page. */
  wake: [shown: boolean];
  replaced: [reason: string];
}

/** What is to be done. */
export interface Effects {
  /** Whether to listen to the page. */
  watch: [on: boolean];
  wait: [milliseconds: number];
  ask: [id: number];
  open: [id: number, explain: boolean];
  check: [id: number];
  join: [id: number];
  adopt: [id: number, replaces: number];
  end: [id: number, reason: string];
  /** Nothing of the first user is kept. */
  forget: [reason: string];
  /** All connections end, and everything that waits is rejected. */
  stop: [code: StopCode, reason: string];
  /** Milliseconds until the next handover. */
  rotate: [milliseconds: number];
  retry: [delay: number, reason: string];
  state: [state: State, code: StateCode, reason: string];
}

export type StopCode = "requested" | "auth_failed" | "connection_limit";
export type Effect = { [E in keyof Effects]: [E, ...Effects[E]] }[keyof Effects];

/** What the machine asks of the world: dice, a hint, and two settings. */
export interface World {
  random(): number;
  offline: boolean;
  /** After this many refused handshakes in a row the server is asked why. */
  maxRefusals: number;
  /** Milliseconds over which this stage's clients spread their reconnects. */
  spread: number;
}

/** A connection that lasted this long was a good one: the next backoff starts from the beginning. */
const MIN_UPTIME = 1_000;
/** API Gateway closes every connection at 2 hours. */
const ROTATE_AFTER = 100 * 60_000;
const ROTATE_SPREAD = 15 * 60_000;
/** The browser says that there is no network. It is often wrong, so it is only a reason to take it slowly. */
const OFFLINE = 30_000;

export const start: Model = { phase: "off", current: 0, next: 0, last: 0, failures: 0, refusals: 0, woken: false };

type Step = [Model, ...Effect[]];
type Handler<E extends keyof Events> = (model: Model, world: World, ...values: Events[E]) => Step;
type Transitions = { [E in keyof Events]?: Handler<E> };

const REQUESTED = "the application asked for it";

const connect = (model: Model, reason = REQUESTED): Step => [
  { ...model, phase: "waiting", failures: 0, refusals: 0 },
  ["watch", true],
  ["state", "connecting", "requested", reason],
  ["wait", 0],
];

function stop(model: Model, code: StopCode, reason: string): Step {
  const parked = code === "connection_limit";
  return [
    { ...model, phase: parked ? "parked" : "off", current: 0, next: 0 },
    ["watch", parked],
    ["stop", code, reason],
    ["state", "disconnected", code, reason],
  ];
}

function ask(model: Model): Step {
  const id = model.last + 1;
  return [{ ...model, phase: "asking", next: id, last: id, woken: false }, ["ask", id]];
}

const hurry = (model: Model, { random }: World): Step => [model, ["wait", random() * QUICK]];

const join = (model: Model): Step => [{ ...model, phase: "joining", refusals: 0 }, ["join", model.next]];

/** Only the server can prove that it was the token: a page never sees the status of a handshake. */
const explains = ({ refusals }: Model, { maxRefusals }: World) => refusals > 0 && refusals % maxRefusals === 0;

/** The attempt has come to nothing. */
function fail(model: Model, world: World, reason: string): Step {
  const { random, spread, offline } = world;
  const next = { ...model, next: 0, refusals: model.refusals + (model.phase === "opening" ? 1 : 0) };
  // The connection in use is still good.
  if (next.current) return [{ ...next, phase: "settled" }, ["rotate", (0.5 + random()) * 60_000]];
  const usual = backoff(++next.failures, spread, random());
  const delay = next.woken ? random() * QUICK : offline ? Math.max(usual, OFFLINE) : usual;
  return [{ ...next, phase: "waiting" }, ["retry", delay, reason], ["wait", delay]];
}

/** The connection in use is gone; an attempt that is under way goes on. */
function lose(model: Model, { random, spread }: World, code: number, reason: string, lasted: number): Step {
  const next = { ...model, current: 0, failures: lasted < MIN_UPTIME ? model.failures + 1 : 0 };
  const told: Effect = ["state", "connecting", code ? "lost" : "no_reply", reason];
  if (model.phase !== "settled") return [next, told];
  // Its own trouble is nobody else's at this moment.
  const delay = backoff(next.failures, code ? spread : QUICK, random());
  return [{ ...next, phase: "waiting" }, told, ["wait", delay]];
}

/** What may come in any phase between `connect` and `disconnect`. */
const always: Transitions = {
  disconnect: (model) => stop(model, "requested", REQUESTED),
  replaced: (model, _, reason) => stop(model, "connection_limit", reason),
  closed: (model, world, id, ...rest) =>
    id === model.current ? lose(model, world, ...rest) : id === model.next ? fail(model, world, rest[1]) : [model],
  failed: (model, world, _, reason) => fail(model, world, reason),
  wake: (model) => [{ ...model, woken: true }],
};

export const transitions: { [P in Phase]: Transitions } = {
  off: {
    connect: (model) => connect(model),
  },
  parked: {
    connect: (model) => connect(model),
    wake: (model, _, shown) => (shown ? connect(model, "the page was shown") : [model]),
    disconnect: always.disconnect!,
  },
  waiting: {
    ...always,
    waited: ask,
    wake: hurry,
    connect: hurry,
  },
  asking: {
    ...always,
    no_token: (model) => stop(model, "auth_failed", "there is no token"),
    credentials: (model, world, id, otherUser) => {
      const next: Model = { ...model, phase: "opening" };
      const open: Effect = ["open", id, explains(model, world)];
      if (!otherUser) return [next, open];
      const reason = "the token is another user's";
      const told: Effect[] = model.current
        ? [
            ["end", model.current, reason],
            ["state", "connecting", "user_changed", reason],
          ]
        : [];
      return [{ ...next, current: 0 }, ...told, ["forget", reason], open];
    },
  },
  opening: {
    ...always,
    opened: (model, world, id) =>
      explains(model, world) ? [{ ...model, phase: "checking" }, ["check", id]] : join(model),
  },
  checking: {
    ...always,
    checked: (model, _, __, valid, reason) => (valid ? join(model) : stop(model, "auth_failed", reason)),
  },
  joining: {
    ...always,
    ready: (model, { random }, id) => {
      const told: Effect[] = model.current ? [] : [["state", "connected", "opened", "the connection is open"]];
      return [
        { ...model, phase: "settled", current: id, next: 0 },
        ["adopt", id, model.current],
        ["rotate", ROTATE_AFTER + random() * ROTATE_SPREAD],
        ...told,
      ];
    },
  },
  settled: {
    ...always,
    rotate: ask,
  },
};

/** The next model, and what is to be done. An event that means nothing in this phase changes nothing. */
export function step<E extends keyof Events>(model: Model, world: World, event: E, ...values: Events[E]): Step {
  if (typeof values[0] === "number" && values[0] !== model.next && event !== "closed") return [model];
  const handler = transitions[model.phase][event] as Handler<E> | undefined;
  return handler ? handler(model, world, ...values) : [model];
}

/** What the application is told. */
export const publicState = ({ phase, current }: Model): State =>
  current ? "connected" : phase === "off" || phase === "parked" ? "disconnected" : "connecting";
