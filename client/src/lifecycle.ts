/**
 * The life of a client as a state machine: `transitions[phase][event]` changes the model, then says what is to be done.
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
  phase_: Phase;
  /** The connection in use, by number; 0 for none. */
  current_: number;
  /** The last attempt, and the connection that comes of it. */
  next_: number;
  /** Handshakes that were refused in a row, for whatever cause. */
  refusals_: number;
  /** What else failed in a row: no token, or a connection that was cut at once. A server that lets in forgives the refusals, not these. */
  failures_: number;
  /** A wake-up came while an attempt was under way: should it fail, the next one comes soon. */
  woken_: boolean;
}

/** What may happen. What comes of an attempt that was given up does not: `closed` says which connection it was. */
export interface Events {
  connect: [];
  disconnect: [];
  waited: [];
  credentials: [otherUser: boolean];
  failed: [reason: string];
  opened: [];
  checked: [valid: boolean, reason: string];
  ready: [];
  /** `code` 0: ended by this side. `lasted`: milliseconds. */
  closed: [id: number, code: number, reason: string, lasted: number];
  rotate: [];
  /** `shown`: the person has turned to this page. */
  wake: [shown: boolean];
  replaced: [reason: string];
}

/** What is to be done, for the attempt under way. */
export interface Effects {
  /** Milliseconds until `waited`, which begins the next attempt, or `rotate`, which begins a handover. */
  later_(event: "waited" | "rotate", milliseconds: number): void;
  ask_(explain: boolean): void;
  open_(): void;
  check_(): void;
  join_(): void;
  adopt_(replaces: number): void;
  /** Nothing of the first user is kept; `id` is the first user's connection, if any. */
  forget_(id: number, reason: string): void;
  /** All connections end, and everything that waits is rejected. */
  stop_(code: StopCode, reason: string): void;
  /** Milliseconds until `waited`, after a failure. */
  retry_(delay: number, reason: string): void;
  /** What the application is told has changed. */
  state_(code: StateCode, reason: string): void;
}

export type StopCode = "requested" | "auth_failed" | "connection_limit";

/** What the machine asks of the world: its effects, dice, a hint, and two settings. */
export interface World extends Effects {
  /** At least 0, less than 1. */
  dice_: number;
  offline_: boolean;
  /** After this many refused handshakes in a row the server is asked why. */
  maxRefusals_: number;
  /** Milliseconds over which this stage's clients spread their reconnects. */
  spread_: number;
  /** The page was woken a moment ago: what it finds then is its own trouble, not a crowd's. */
  awake_: boolean;
  /** Milliseconds since the application was last asked for its token. */
  rested_: number;
}

export const start: Model = { phase_: "off", current_: 0, next_: 0, failures_: 0, refusals_: 0, woken_: false };

/** Changes the model first: an effect may bring the next event at once. */
export type Handler<E extends keyof Events> = (model: Model, world: World, ...values: Events[E]) => void;
type Transitions = { [E in keyof Events]?: Handler<E> };

export const ANOTHER = "another user's token";
const REQUESTED = "requested";

function connect(model: Model, world: World, reason: string) {
  /** An application that has not been asked for this long may be asked at once. */
  const RESTED = 30_000;
  const { rested_: rested } = world;
  // An application that answers `auth_failed` with `connect()`, and has no token still, is not to spin.
  if (rested > RESTED) model.failures_ = 0;
  model.phase_ = "waiting";
  model.refusals_ = 0;
  world.state_(REQUESTED, reason);
  world.later_("waited", model.failures_ && Math.max(0, backoff(model.failures_ - 1, 0, world.dice_) - rested));
}

function stop(model: Model, world: World, code: StopCode, reason: string) {
  model.phase_ = code === "connection_limit" ? "parked" : "off";
  model.current_ = 0;
  if (code === REQUESTED) model.failures_ = 0;
  world.stop_(code, reason);
  world.state_(code, reason);
}

/** Only the server can prove that it was the token: a page never sees the status of a handshake. */
const explains = ({ refusals_: refusals }: Model, { maxRefusals_: maxRefusals }: World) =>
  !!refusals && !(refusals % maxRefusals);

function ask(model: Model, world: World) {
  model.phase_ = "asking";
  model.next_++;
  model.woken_ = false;
  world.ask_(explains(model, world));
}

const hurry = (_: Model, world: World) => world.later_("waited", world.dice_ * QUICK);

function join(model: Model, world: World) {
  model.phase_ = "joining";
  model.refusals_ = 0;
  world.join_();
}

/** The server has said whether the token is good, or there is none. */
function checked(model: Model, world: World, valid: boolean, reason: string) {
  if (valid) return join(model, world);
  model.failures_++;
  stop(model, world, "auth_failed", reason);
}

/** The attempt has come to nothing. */
function fail(model: Model, world: World, reason: string) {
  /** The browser says that there is no network. It is often wrong, so it is only a reason to take it slowly. */
  const OFFLINE = 30_000;
  const { dice_: dice } = world;
  if (model.phase_ === "opening") model.refusals_++;
  else model.failures_++;
  if (model.current_) {
    // The connection in use is still good.
    model.phase_ = "settled";
    world.later_("rotate", (0.5 + dice) * 60_000);
  } else {
    model.phase_ = "waiting";
    const usual = backoff(model.failures_ + model.refusals_, world.spread_, dice);
    world.retry_(model.woken_ ? dice * QUICK : world.offline_ ? Math.max(usual, OFFLINE) : usual, reason);
  }
}

/** The connection in use is gone; an attempt that is under way goes on. */
function lose(model: Model, world: World, code: number, reason: string, lasted: number) {
  /** A connection that lasted this long was a good one: the next backoff starts from the beginning. */
  const MIN_UPTIME = 1_000;
  const { phase_: phase } = model;
  model.current_ = 0;
  model.failures_ = lasted < MIN_UPTIME ? model.failures_ + 1 : 0;
  if (phase === "settled") {
    model.phase_ = "waiting";
    // Its own trouble is nobody else's at this moment.
    world.later_("waited", backoff(model.failures_, code && !world.awake_ ? world.spread_ : QUICK, world.dice_));
  }
  world.state_(code ? "lost" : "no_reply", reason);
}

/** What may come in any phase between `connect` and `disconnect`. */
const always: Transitions = {
  disconnect: (model, world) => stop(model, world, REQUESTED, REQUESTED),
  replaced: (model, world, reason) => stop(model, world, "connection_limit", reason),
  closed(model, world, id, ...how) {
    if (id === model.current_) lose(model, world, ...how);
    else if (id === model.next_) fail(model, world, how[1]);
  },
  wake(model) {
    model.woken_ = true;
  },
};

const off: Transitions = { connect: (model, world) => connect(model, world, REQUESTED) };

export const transitions: { [P in Phase]: Transitions } = {
  off,
  parked: {
    ...off,
    disconnect: always.disconnect!,
    wake(model, world, shown) {
      if (shown) connect(model, world, "shown");
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
    failed: fail,
    checked,
    credentials(model, world, otherUser) {
      const { current_: current } = model;
      model.phase_ = "opening";
      if (otherUser) {
        model.current_ = 0;
        world.forget_(current, ANOTHER);
        if (current) world.state_("user_changed", ANOTHER);
      }
      world.open_();
    },
  },
  opening: {
    ...always,
    failed: fail,
    opened(model, world) {
      if (!explains(model, world)) return join(model, world);
      model.phase_ = "checking";
      world.check_();
    },
  },
  checking: {
    ...always,
    checked,
  },
  joining: {
    ...always,
    ready(model, world) {
      /** API Gateway closes every connection at 2 hours. */
      const ROTATE_AFTER = 100 * 60_000;
      const ROTATE_SPREAD = 15 * 60_000;
      const { current_: current } = model;
      model.phase_ = "settled";
      model.current_ = model.next_;
      world.later_("rotate", ROTATE_AFTER + world.dice_ * ROTATE_SPREAD);
      if (!current) world.state_("opened", "opened");
      world.adopt_(current);
    },
  },
  settled: {
    ...always,
    rotate: ask,
  },
};

/** What the application is told. */
export const publicState = ({ phase_: phase, current_: current }: Model): State =>
  current ? "connected" : "off parked".includes(phase) ? "disconnected" : "connecting";
