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
  /** Milliseconds until `waited`, which begins the next attempt, or `rotate`, which begins a handover. */
  later: [event: "waited" | "rotate", milliseconds: number];
  ask: [id: number];
  open: [id: number, explain: boolean];
  check: [id: number];
  join: [id: number];
  adopt: [id: number, replaces: number];
  /** Nothing of the first user is kept; `id` is the first user's connection, if any. */
  forget: [id: number, reason: string];
  /** All connections end, and everything that waits is rejected. */
  stop: [code: StopCode, reason: string];
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
  /** The page was woken a moment ago: what it finds then is its own trouble, not a crowd's. */
  awake?: boolean;
  /** Milliseconds since the application was last asked for its token. */
  rested?: number;
}

/** A connection that lasted this long was a good one: the next backoff starts from the beginning. */
const MIN_UPTIME = 1_000;
/** API Gateway closes every connection at 2 hours. */
const ROTATE_AFTER = 100 * 60_000;
const ROTATE_SPREAD = 15 * 60_000;
/** The browser says that there is no network. It is often wrong, so it is only a reason to take it slowly. */
const OFFLINE = 30_000;
/** An application that has not been asked for this long may be asked at once. */
const RESTED = 30_000;

export const start: Model = { phase: "off", current: 0, next: 0, last: 0, failures: 0, refusals: 0, woken: false };

/** Changes the draft of the next model, and says what is to be done. */
type Handler<E extends keyof Events> = (draft: Model, world: World, ...values: Events[E]) => Effect[] | void;
type Transitions = { [E in keyof Events]?: Handler<E> };

export const ANOTHER = "another user's token";
const REQUESTED = "requested";

function connect(draft: Model, { random, rested = Infinity }: World, reason: string): Effect[] {
  // An application that answers `auth_failed` with `connect()`, and has no token still, is not to spin.
  if (rested > RESTED) draft.failures = 0;
  const wait = draft.failures && backoff(draft.failures - 1, 0, random()) - rested;
  Object.assign(draft, { phase: "waiting", refusals: 0 });
  return [
    ["state", "connecting", "requested", reason],
    ["later", "waited", Math.max(0, wait)],
  ];
}

function stop(draft: Model, code: StopCode, reason: string): Effect[] {
  draft.phase = code === "connection_limit" ? "parked" : "off";
  draft.current = draft.next = 0;
  if (code === "requested") draft.failures = 0;
  return [
    ["stop", code, reason],
    ["state", "disconnected", code, reason],
  ];
}

function ask(draft: Model): Effect[] {
  draft.phase = "asking";
  draft.next = ++draft.last;
  draft.woken = false;
  return [["ask", draft.next]];
}

const hurry = (_: Model, { random }: World): Effect[] => [["later", "waited", random() * QUICK]];

function join(draft: Model): Effect[] {
  draft.phase = "joining";
  draft.refusals = 0;
  return [["join", draft.next]];
}

/** Only the server can prove that it was the token: a page never sees the status of a handshake. */
const explains = ({ refusals }: Model, { maxRefusals }: World) => refusals > 0 && refusals % maxRefusals === 0;

/** The attempt has come to nothing. */
function fail(draft: Model, { random, spread, offline }: World, reason: string): Effect[] {
  if (draft.phase === "opening") draft.refusals++;
  draft.next = 0;
  draft.phase = draft.current ? "settled" : "waiting";
  // The connection in use is still good.
  if (draft.current) return [["later", "rotate", (0.5 + random()) * 60_000]];
  const usual = backoff(++draft.failures, spread, random());
  const delay = draft.woken ? random() * QUICK : offline ? Math.max(usual, OFFLINE) : usual;
  return [
    ["retry", delay, reason],
    ["later", "waited", delay],
  ];
}

/** The connection in use is gone; an attempt that is under way goes on. */
function lose(draft: Model, { random, spread, awake }: World, code: number, reason: string, lasted: number): Effect[] {
  draft.current = 0;
  draft.failures = lasted < MIN_UPTIME ? draft.failures + 1 : 0;
  const effects: Effect[] = [["state", "connecting", code ? "lost" : "no_reply", reason]];
  if (draft.phase === "settled") {
    draft.phase = "waiting";
    // Its own trouble is nobody else's at this moment.
    effects.push(["later", "waited", backoff(draft.failures, code && !awake ? spread : QUICK, random())]);
  }
  return effects;
}

/** What may come in any phase between `connect` and `disconnect`. */
const always: Transitions = {
  disconnect: (draft) => stop(draft, "requested", REQUESTED),
  replaced: (draft, _, reason) => stop(draft, "connection_limit", reason),
  closed(draft, world, id, code, reason, lasted) {
    if (id === draft.current) return lose(draft, world, code, reason, lasted);
    if (id === draft.next) return fail(draft, world, reason);
  },
  failed: (draft, world, _, reason) => fail(draft, world, reason),
  wake(draft) {
    draft.woken = true;
  },
};

const off: Transitions = { connect: (draft, world) => connect(draft, world, REQUESTED) };

export const transitions: { [P in Phase]: Transitions } = {
  off,
  parked: {
    ...off,
    disconnect: always.disconnect!,
    wake(draft, world, shown) {
      if (shown) return connect(draft, world, "shown");
    },
  },
  waiting: {
    ...always,
    waited: ask,
    wake: hurry,
    connect: hurry,
  },
  asking: {
    ...always,
    no_token(draft) {
      draft.failures++;
      return stop(draft, "auth_failed", "there is no token");
    },
    credentials(draft, world, id, otherUser) {
      const { current } = draft;
      const effects: Effect[] = [];
      draft.phase = "opening";
      if (otherUser) {
        draft.current = 0;
        effects.push(["forget", current, ANOTHER]);
        if (current) effects.push(["state", "connecting", "user_changed", ANOTHER]);
      }
      return [...effects, ["open", id, explains(draft, world)]];
    },
  },
  opening: {
    ...always,
    opened(draft, world, id) {
      if (!explains(draft, world)) return join(draft);
      draft.phase = "checking";
      return [["check", id]];
    },
  },
  checking: {
    ...always,
    checked: (draft, _, __, valid, reason) => (valid ? join(draft) : stop(draft, "auth_failed", reason)),
  },
  joining: {
    ...always,
    ready(draft, { random }, id) {
      const replaces = draft.current;
      Object.assign(draft, { phase: "settled", current: id, next: 0 });
      const effects: Effect[] = [
        ["adopt", id, replaces],
        ["later", "rotate", ROTATE_AFTER + random() * ROTATE_SPREAD],
      ];
      if (!replaces) effects.push(["state", "connected", "opened", "opened"]);
      return effects;
    },
  },
  settled: {
    ...always,
    rotate: ask,
  },
};

/** The next model, and what is to be done. An event that means nothing in this phase changes nothing. */
export function step<E extends keyof Events>(
  model: Model,
  world: World,
  event: E,
  ...values: Events[E]
): [Model, Effect[]] {
  const draft = { ...model };
  if (typeof values[0] === "number" && values[0] !== model.next && event !== "closed") return [draft, []];
  const handler = transitions[model.phase][event] as Handler<E> | undefined;
  return [draft, handler?.(draft, world, ...values) ?? []];
}

/** What the application is told. */
export const publicState = ({ phase, current }: Model): State =>
  current ? "connected" : phase === "off" || phase === "parked" ? "disconnected" : "connecting";
