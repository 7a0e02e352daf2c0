/** Carries out what the state machine decides: sockets, timers, questions to the application, events. */
import type { ClientOptions } from "./client.ts";
import { type Connection, frame, type Frame, isEnd, openConnection, type Request } from "./connection.ts";
import { createEmitter, type Emitter } from "./emitter.ts";
import * as idleness from "./keepalive.ts";
import { type Effect, type Event, publicState, start, step } from "./lifecycle.ts";
import { createMembership, type Membership } from "./membership.ts";
import { type Envelope, RoomcastError, type State } from "./protocol.ts";
import { renewal } from "./renewal.ts";
import { address, ask, message, readToken, scrub } from "./token.ts";
import { createTimers } from "./timers.ts";
import { offline, watch } from "./wake.ts";

export interface Session extends Pick<Emitter, "on" | "off"> {
  readonly state: State;
  readonly rooms: Membership;
  dispatch(event: Event): void;
  send(frame: Frame): Promise<unknown>;
}

/** A connection and what this side knows of it. */
export interface Line {
  connection: Connection;
  token: string;
  /** Epoch milliseconds at which the right to it ends, as far as is known. */
  ends: number | undefined;
  /** Something was answered on it. */
  answered: boolean;
  /** A ping after this many idle milliseconds has no answer yet. */
  idle: number;
}

export const SUBPROTOCOL = "landinghub.v1";
/** How long `getToken` and `url` may take. */
export const CALLBACK_TIMEOUT = 30_000;
/** A new connection on which nothing at all is answered for this long is of no use. */
const SILENCE = 10_000;
/** When the other rooms have been answered for, those that have not are waited for this much longer. */
const STRAGGLERS = 2_000;
/** How long a replaced connection stays open: messages may be on their way to it alone. */
const OVERLAP = 30_000;
/** A connection over which the client has nothing to say asks after a while for what the server says of it. */
const INTRODUCE = 5_000;
/** Of a server that does not say how many clients it has: right for 10,000 at API Gateway's 500 connects a second. */
const UNKNOWN_SPREAD = 32_000;
const MAX_SPREAD = 60 * 60_000;
const REMEMBERED_IDS = 1_000;

const isAmount = (value: unknown): value is number => typeof value === "number" && value >= 0;

export function createSession(options: ClientOptions): Session {
  const { on, off, emit: hand } = createEmitter();
  const timers = createTimers();
  const lines = new Map<number, Line>();
  const seen = new Set<string>();
  const emissions: Parameters<Emitter["emit"]>[] = [];
  let queue: Request[] = [];
  let model = start;
  let target: unknown;
  let token = "";
  let user: string | undefined;
  let quiet = true;
  let alive = idleness.keepalive();
  let spreadKnown = false;
  let unwatch: (() => void) | undefined;

  const replyTimeout = () => options.replyTimeout ?? 10_000;
  const current = () => lines.get(model.current);
  const world = () => ({
    random: Math.random,
    offline: offline(),
    maxRefusals: options.maxRefusals ?? 3,
    spread: options.reconnectWindow,
  });

  /** Every listener hears the events in one order, whatever a listener does meanwhile. */
  function emit(...emission: Parameters<Emitter["emit"]>) {
    emissions.push(emission);
    if (!quiet) return;
    quiet = false;
    for (let next = emissions.shift(); next; next = emissions.shift()) hand(...next);
    quiet = true;
  }

  function dispatch(event: Event) {
    const [next, effects] = step(model, event, world());
    const previous = publicState(model);
    model = next;
    for (const effect of effects) carryOut(effect, previous);
  }

  const rooms = createMembership({
    replyTimeout,
    emit,
    completed: ({ id }) => dispatch({ type: "ready", id }),
  });

  function carryOut(effect: Effect, previous: State) {
    switch (effect.do) {
      case "watch":
        unwatch?.();
        unwatch = effect.on ? watch(wake) : undefined;
        return;
      case "wait":
        return timers.start("wait", effect.milliseconds, () => dispatch({ type: "waited" }));
      case "ask":
        return void credentials(effect.id);
      case "open":
        return open(effect.id, effect.explain);
      case "check":
        return check(lines.get(effect.id)!);
      case "join":
        return join(lines.get(effect.id)!);
      case "adopt":
        return adopt(lines.get(effect.id)!, lines.get(effect.replaces));
      case "end":
        return lines.get(effect.id)?.connection.end(effect.reason);
      case "forget":
        seen.clear();
        return reject("user_changed", effect.reason, true);
      case "stop":
        timers.stop();
        if (effect.code === "requested") user = undefined;
        for (const { connection } of lines.values()) connection.end("disconnected");
        return reject(
          effect.code === "requested" ? "disconnected" : effect.code,
          effect.reason,
          effect.code === "requested",
        );
      case "rotate":
        return timers.start("rotate", effect.milliseconds, () => dispatch({ type: "rotate" }));
      case "retry":
        return emit("client:retry", { delay: effect.delay, reason: scrub(effect.reason, token) });
      case "state": {
        const { state, code, reason } = effect;
        return emit("client:state", { state, previous, code, reason: scrub(reason, token) });
      }
    }
  }

  function reject(code: string, reason: string, forget: boolean) {
    const error = new RoomcastError(code, reason);
    for (const { frame, done } of queue.splice(0)) {
      timers.stop(frame.id);
      done(error);
    }
    rooms.reject(error, forget);
  }

  function wake(shown: boolean) {
    dispatch({ type: "wake", shown });
    current()?.connection.probe();
  }

  async function credentials(id: number) {
    try {
      const { url } = options;
      target = typeof url === "function" ? await ask(url, "url", timers, CALLBACK_TIMEOUT) : url;
      const given = await ask(() => options.getToken(), "getToken", timers, CALLBACK_TIMEOUT);
      if (id !== model.next) return;
      if (!given) return dispatch({ type: "no_token", id });
      token = `${given}`;
      const before = user;
      user = readToken(token).user ?? user;
      dispatch({ type: "credentials", id, otherUser: before !== undefined && user !== before });
    } catch (error) {
      dispatch({ type: "failed", id, reason: message(error) });
    }
  }

  function open(id: number, explain: boolean) {
    const way = options.sendTokenAs ?? "token";
    const WebSocket = options.WebSocket ?? globalThis.WebSocket;
    const line: Line = { connection: undefined!, token, ends: readToken(token).ends, answered: false, idle: 0 };
    // Two connections are enough.
    for (const { connection } of lines.values()) if (connection.id !== model.current) connection.end("replaced");
    try {
      const url = address(
        target,
        ...(way === "subprotocol" ? [] : [`${way}=${encodeURIComponent(token)}`]),
        ...(explain ? ["explain=1"] : []),
      );
      if (!WebSocket) throw new TypeError("there is no WebSocket here: give one to createClient");
      line.connection = openConnection(
        id,
        () => {
          try {
            return way === "subprotocol" ? new WebSocket(url, [SUBPROTOCOL, token]) : new WebSocket(url);
          } catch {
            // The browser's own words may hold the token.
            throw new TypeError(
              `the WebSocket could not be made: is the url right, and the token one that fits into ${way === "subprotocol" ? "a header" : "an address"}?`,
            );
          }
        },
        {
          opened: () => dispatch({ type: "opened", id }),
          message: (text) => receive(line, text),
          traffic: () => keepAlive(line),
          ended: (code, reason, unsent) => ended(line, code, reason, unsent),
        },
      );
      lines.set(id, line);
    } catch (error) {
      dispatch({ type: "failed", id, reason: message(error) });
    }
  }

  /** Whether it was the token that earlier handshakes were refused for. */
  function check({ connection, token }: Line) {
    connection.request({
      frame: frame("auth:check", options.sendTokenAs === "ticket" ? { ticket: token } : { token }),
      timeout: replyTimeout(),
      quiet: true,
      done(error, data) {
        const { id } = connection;
        // A server that does not know the question has let this token in.
        if (error?.code === "unknown_action") dispatch({ type: "checked", id, valid: true, reason: "" });
        else if (error || typeof data?.valid !== "boolean") connection.end("the server has not said why it refused");
        else
          dispatch({
            type: "checked",
            id,
            valid: data.valid,
            reason: `the token is refused: ${data.code ?? "invalid"}`,
          });
      },
    });
  }

  function join({ connection }: Line) {
    const { id, timers } = connection;
    const silent = () => connection.end("no answer: the rooms could not be joined");
    timers.start("gate", Math.min(replyTimeout(), SILENCE), silent);
    rooms.enter(connection, !!model.current);
    // Not at once: a connection that is closed as soon as it is open is not told as one.
    if (rooms.complete(connection)) void Promise.resolve().then(() => dispatch({ type: "ready", id }));
  }

  function adopt(line: Line, old: Line | undefined) {
    const { connection } = line;
    connection.timers.stop("gate");
    timers.stop("wait");
    if (old) old.connection.timers.start("overlap", OVERLAP, () => old.connection.end("replaced"));
    rooms.use(connection);
    for (const request of queue.splice(0)) {
      timers.stop(request.frame.id);
      connection.request(request);
    }
    const left = (line.ends ?? Infinity) - Date.now();
    // A token that has just been let in and seems past is one that this machine's clock is wrong about.
    if (left > 0) renew(line, left);
    connection.timers.start("introduce", INTRODUCE, () => line.answered || connection.ping());
  }

  const renew = renewal({
    askToken: (own, milliseconds) => ask(() => options.getToken(), "getToken", own, milliseconds),
    rotate: () => dispatch({ type: "rotate" }),
    isCurrent: (line) => line === current(),
    handover: () => options.sendTokenAs === "ticket",
  });

  function keepAlive(line: Line) {
    const interval = options.keepalive ?? alive.interval;
    line.connection.timers.start("keepalive", interval, () => {
      line.idle = interval;
      line.connection.ping(() => {
        line.idle = 0;
        alive = idleness.survived(alive, interval);
      });
    });
  }

  function ended(line: Line, code: number, reason: string, unsent: Request[]) {
    const { id, since, busy } = line.connection;
    lines.delete(id);
    rooms.drop(line.connection);
    for (const request of unsent) enqueue(request);
    const now = Date.now();
    if (line.idle) alive = idleness.died(alive, line.idle, false);
    else if (code === 1006 && since && !offline()) alive = idleness.died(alive, now - busy, true);
    dispatch({ type: "closed", id, code, reason, lasted: since ? Math.abs(now - since) : 0 });
  }

  function receive(line: Line, text: string) {
    const { connection } = line;
    let envelope: any;
    try {
      envelope = JSON.parse(text);
    } catch {
      // Reported just below, as everything else that is not an envelope.
    }
    if (typeof envelope?.event !== "string") {
      // API Gateway's own words, when the function failed: it does not say for which action.
      const told = scrub(envelope?.message ?? "not an envelope", token);
      return emit("error", { code: "internal_error", message: told }, envelope);
    }
    const { event, data, id } = envelope as Envelope<any>;
    if (id) {
      if (seen.has(id)) return;
      seen.add(id);
      for (const oldest of seen) {
        if (seen.size <= REMEMBERED_IDS) break;
        seen.delete(oldest);
      }
    }
    if (envelope.replyTo) hear(line, envelope);
    const settled = connection.settle(envelope);
    if (!settled && event === "error" && !id) {
      if (data?.code === "connection_limit") return dispatch({ type: "replaced", reason: `${data.message}` });
      // No send finds such a connection any more: a new one, with a token asked for anew, is what helps.
      if (isEnd(data?.code)) return connection.end(`${data.message}`, 0);
    }
    if (connection.timers.has("gate")) {
      connection.timers.start("gate", STRAGGLERS, () => dispatch({ type: "ready", id: connection.id }));
    }
    if (settled) return;
    if (!/^(client:|\*$)/.test(event)) emit(event, data, envelope);
    emit("*", data, envelope);
  }

  /** What the server says about the connection. */
  function hear(line: Line, { event, connection: facts }: Envelope) {
    if (!facts) {
      // These carry it, where the server knows of it at all.
      if (/^(pong$|\w+:joined)/.test(event)) {
        line.answered = true;
        if (!spreadKnown) dispatch({ type: "spread", milliseconds: UNKNOWN_SPREAD });
      }
      return;
    }
    line.answered = true;
    const { expiresIn, spread } = facts;
    if (isAmount(spread)) {
      spreadKnown = true;
      dispatch({ type: "spread", milliseconds: Math.min(MAX_SPREAD, spread) });
    }
    if (isAmount(expiresIn)) {
      line.ends = Date.now() + expiresIn * 1_000;
      renew(line, expiresIn * 1_000);
    }
  }

  /** Keeps an action until there is a connection, for as long as a reply may take. */
  function enqueue(request: Request) {
    if (publicState(model) === "disconnected")
      return request.done(new RoomcastError("disconnected", `${request.frame.action}: the client is not connecting`));
    queue.push(request);
    timers.start(request.frame.id, request.expires! - Date.now(), () => {
      queue = queue.filter((one) => one !== request);
      request.done(new RoomcastError("timeout", `${request.frame.action}: there was no connection in time`));
    });
  }

  return {
    on,
    off,
    rooms,
    dispatch,
    get state() {
      return publicState(model);
    },
    send: (frame) =>
      new Promise((resolve, reject) => {
        const request: Request = {
          frame,
          timeout: replyTimeout(),
          expires: Date.now() + replyTimeout(),
          lasts: true,
          done: (error, data) => (error ? reject(error) : resolve(data)),
        };
        const line = current();
        if (line) return line.connection.request(request);
        const limit = options.queueLimit ?? 100;
        if (queue.length >= limit)
          return reject(new RoomcastError("queue_full", `${queue.length} actions are waiting already`));
        enqueue(request);
      }),
  };
}
