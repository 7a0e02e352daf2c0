/**
 * The life of a client as a state machine: `step(model, event, world)` gives the next model and what is to be done.
 * Pure: no clock, no socket, no callback. `client.ts` carries the effects out.
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
  /** The attempt under way, and the connection that comes of it. */
  next: number;
  /** The last number that was given out. */
  last: number;
  /** Attempts that failed, and handshakes among them that were refused, in a row. */
  failures: number;
  refusals: number;
  /** Milliseconds over which the clients of this stage spread their reconnects. */
  spread: number;
  /** A wake-up came while an attempt was under way: should it fail, the next one comes soon. */
  woken: boolean;
}

export type Event =
  | { type: "connect" }
  | { type: "disconnect" }
  | { type: "waited" }
  | { type: "credentials"; id: number; otherUser: boolean }
  | { type: "no_token"; id: number }
  | { type: "failed"; id: number; reason: string }
  | { type: "opened"; id: number }
  | { type: "checked"; id: number; valid: boolean; reason: string }
  | { type: "ready"; id: number }
  | { type: "closed"; id: number; code: number; reason: string; lasted: number }
  | { type: "rotate" }
  | { type: "wake"; shown: boolean }
  | { type: "replaced"; reason: string }
  | { type: "spread"; milliseconds: number };

export type Effect =
  | { do: "watch"; on: boolean }
  | { do: "wait"; milliseconds: number }
  | { do: "ask"; id: number }
  | { do: "open"; id: number; explain: boolean }
  | { do: "check"; id: number }
  | { do: "join"; id: number }
  | { do: "adopt"; id: number; replaces: number }
  | { do: "end"; id: number; reason: string }
  /** Nothing of the first user is kept. */
  | { do: "forget"; reason: string }
  /** All connections end, everything that waits is rejected. */
  | { do: "stop"; code: StopCode; reason: string }
  /** `milliseconds` until the next handover. */
  | { do: "rotate"; milliseconds: number }
  | { do: "retry"; delay: number; reason: string }
  | { do: "state"; state: State; code: StateCode; reason: string };

export type StopCode = "requested" | "auth_failed" | "connection_limit";

/** What the machine asks of the world: dice, a hint, and two settings. */
export interface World {
  random(): number;
  offline: boolean;
  /** After this many refused handshakes in a row the server is asked why. */
  maxRefusals: number;
  /** Overrides what the server says. */
  spread: number | undefined;
}

/** A connection that lasted this long was a good one: the next backoff starts from the beginning. */
export const MIN_UPTIME = 1_000;
/** API Gateway closes every connection at 2 hours. */
const ROTATE_AFTER = 100 * 60_000;
const ROTATE_SPREAD = 15 * 60_000;
/** The browser says that there is no network. It is often wrong, so it is only a reason to take it slowly. */
const OFFLINE = 30_000;

export const start: Model = {
  phase: "off",
  current: 0,
  next: 0,
  last: 0,
  failures: 0,
  refusals: 0,
  spread: QUICK,
  woken: false,
};

type Step = [Model, ...Effect[]];
type Handler<Type> = (model: Model, event: Extract<Event, { type: Type }>, world: World) => Step;
type Table = { [P in Phase]: { [Type in Event["type"]]?: Handler<Type> } };

const connect = (model: Model, reason: string): Step => [
  { ...model, phase: "waiting", failures: 0, refusals: 0, woken: false },
  { do: "watch", on: true },
  { do: "state", state: "connecting", code: "requested", reason },
  { do: "wait", milliseconds: 0 },
];

const stop = (model: Model, code: StopCode, reason: string): Step => [
  { ...model, phase: code === "connection_limit" ? "parked" : "off", current: 0, next: 0 },
  { do: "watch", on: code === "connection_limit" },
  { do: "stop", code, reason },
  { do: "state", state: "disconnected", code, reason },
];

const ask = (model: Model): Step => {
  const id = model.last + 1;
  return [
    { ...model, phase: "asking", next: id, last: id, woken: false },
    { do: "ask", id },
  ];
};

const hurry = (model: Model, _: unknown, { random }: World): Step => [
  model,
  { do: "wait", milliseconds: random() * QUICK },
];

const remember = (model: Model): Step => [{ ...model, woken: true }];

/** Only the server can prove that it was the token: a page never sees the status of a handshake. */
const explains = ({ refusals }: Model, max: number) => refusals > 0 && refusals % max === 0;

/** The attempt has come to nothing. */
function fail(model: Model, reason: string, world: World, refused = false): Step {
  const next = { ...model, next: 0, refusals: refused ? model.refusals + 1 : model.refusals };
  // The connection in use is still good.
  if (model.current) {
    return [
      { ...next, phase: "settled" },
      { do: "rotate", milliseconds: (0.5 + world.random()) * 60_000 },
    ];
  }
  next.failures++;
  const usual = backoff(next.failures, world.spread ?? model.spread, world.random());
  const delay = model.woken ? world.random() * QUICK : world.offline ? Math.max(usual, OFFLINE) : usual;
  return [
    { ...next, phase: "waiting" },
    { do: "retry", delay, reason },
    { do: "wait", milliseconds: delay },
  ];
}

/** The connection in use is gone; an attempt that is under way goes on. */
function lose(model: Model, { code, reason, lasted }: Extract<Event, { type: "closed" }>, world: World): Step {
  const next = { ...model, current: 0, failures: lasted < MIN_UPTIME ? model.failures + 1 : 0 };
  const told: Effect = { do: "state", state: "connecting", code: code ? "lost" : "no_reply", reason };
  if (model.phase !== "settled") return [next, told];
  // Its own trouble (code 0) is nobody else's at this moment.
  const spread = code ? (world.spread ?? model.spread) : QUICK;
  return [
    { ...next, phase: "waiting" },
    told,
    { do: "wait", milliseconds: backoff(next.failures, spread, world.random()) },
  ];
}

const closed: Handler<"closed"> = (model, event, world) => {
  if (event.id === model.current) return lose(model, event, world);
  if (event.id !== model.next) return [model];
  return fail(model, event.reason, world, model.phase === "opening");
};

const failed: Handler<"failed"> = (model, { reason }, world) => fail(model, reason, world);

const join = (model: Model): Step => [
  { ...model, phase: "joining", refusals: 0 },
  { do: "join", id: model.next },
];

/** What may come in any phase between `connect` and `disconnect`. */
const always: Table[Phase] = {
  disconnect: (model) => stop(model, "requested", "the application asked for it"),
  replaced: (model, { reason }) => stop(model, "connection_limit", reason),
  spread: (model, { milliseconds }) => [{ ...model, spread: milliseconds }],
  closed,
};

export const transitions: Table = {
  off: {
    connect: (model) => connect(model, "the application asked for it"),
  },
  parked: {
    connect: (model) => connect(model, "the application asked for it"),
    wake: (model, { shown }) => (shown ? connect(model, "the page was shown") : [model]),
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
    wake: remember,
    credentials: (model, { otherUser }, { maxRefusals }) => {
      const open: Effect = { do: "open", id: model.next, explain: explains(model, maxRefusals) };
      const next: Model = { ...model, phase: "opening" };
      if (!otherUser) return [next, open];
      const reason = "the token is another user's";
      const told: Effect[] = model.current
        ? [
            { do: "end", id: model.current, reason },
            { do: "state", state: "connecting", code: "user_changed", reason },
          ]
        : [];
      return [{ ...next, current: 0 }, ...told, { do: "forget", reason }, open];
    },
    no_token: (model) => stop(model, "auth_failed", "there is no token"),
    failed,
  },
  opening: {
    ...always,
    wake: remember,
    failed,
    opened: (model, { id }, { maxRefusals }) =>
      explains(model, maxRefusals)
        ? [
            { ...model, phase: "checking" },
            { do: "check", id },
          ]
        : join(model),
  },
  checking: {
    ...always,
    wake: remember,
    checked: (model, { valid, reason }) => (valid ? join(model) : stop(model, "auth_failed", reason)),
  },
  joining: {
    ...always,
    wake: remember,
    ready: (model, { id }, { random }) => [
      { ...model, phase: "settled", current: id, next: 0 },
      { do: "adopt", id, replaces: model.current },
      { do: "rotate", milliseconds: ROTATE_AFTER + random() * ROTATE_SPREAD },
      ...(model.current
        ? []
        : [{ do: "state", state: "connected", code: "opened", reason: "the connection is open" } as const]),
    ],
  },
  settled: {
    ...always,
    rotate: ask,
  },
};

/** The next model, and what is to be done. An event that means nothing in this phase changes nothing. */
export function step(model: Model, event: Event, world: World): [Model, Effect[]] {
  // What comes of an attempt that was given up is nobody's.
  if ("id" in event && event.id !== model.next && !(event.type === "closed" && event.id === model.current)) {
    return [model, []];
  }
  const handler = transitions[model.phase][event.type] as Handler<any> | undefined;
  const [next, ...effects] = handler ? handler(model, event as never, world) : [model];
  return [next, effects];
}

/** What the application is told. */
export const publicState = ({ phase, current }: Model): State =>
  current ? "connected" : phase === "off" || phase === "parked" ? "disconnected" : "connecting";
