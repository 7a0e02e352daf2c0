/** Carries out what the state machine decides: sockets, timers, questions to the application, events. */
import type { ClientOptions } from "./client.ts";
import {
  type Connection,
  frame,
  type Handlers,
  isEnd,
  openConnection,
  refuse,
  type Request,
  type WebSocketClass,
} from "./connection.ts";
import { createEmitter, type Emitter } from "./emitter.ts";
import * as idleness from "./keepalive.ts";
import { QUICK } from "./backoff.ts";
import { ANOTHER, type Effects, type Events, publicState, start, step } from "./lifecycle.ts";
import { createMembership } from "./membership.ts";
import { type Envelope, RoomcastError, type State } from "./protocol.ts";
import { renewal } from "./renewal.ts";
import { waiting } from "./rooms.ts";
import { address, ask, message, readToken, scrub } from "./token.ts";
import { createTimers } from "./timers.ts";
import { offline, watch } from "./wake.ts";

const SUBPROTOCOL = "landinghub.v1";
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
/** A page that is woken hears within this time that its connection has ended, as in the back/forward cache. */
const AWAKE = 5_000;

/** Without the browser's own words about what it does not take: they may hold the token. */
function makeSocket(WebSocket: WebSocketClass, url: string, protocols: string[] | undefined) {
  try {
    return new WebSocket(url, protocols);
  } catch {
    throw new TypeError("the url or the token is not valid");
  }
}

export function createSession(options: ClientOptions) {
  const { on, off, emit: hand } = createEmitter();
  const timers = createTimers();
  const connections = new Map<number, Connection>();
  const seen = new Set<string>();
  const emissions: Parameters<Emitter["emit"]>[] = [];
  let queue: Request[] = [];
  let model = start;
  let target: unknown;
  let token = "";
  let user: string | undefined;
  let alive = idleness.start;
  let spread: number | undefined;
  let asked = 0;
  let unwatch: (() => void) | undefined;

  const replyTimeout = () => options.replyTimeout ?? 10_000;
  const current = () => connections.get(model.current);

  /** Every listener hears the events in one order, whatever a listener does meanwhile. */
  function emit(...emission: Parameters<Emitter["emit"]>) {
    emissions.push(emission);
    if (emissions.length > 1) return;
    for (; emissions[0]; emissions.shift()) hand(...emissions[0]);
  }

  function dispatch<E extends keyof Events>(event: E, ...values: Events[E]) {
    const world = {
      random: Math.random,
      offline: offline(),
      maxRefusals: options.maxRefusals ?? 3,
      spread: options.reconnectWindow ?? spread ?? QUICK,
      awake: timers.has("awake"),
      rested: Math.abs(Date.now() - asked),
    };
    const previous = publicState(model);
    const [next, effects] = step(model, world, event, ...values);
    model = next;
    const listens = next.phase !== "off";
    if (listens !== !!unwatch) {
      unwatch?.();
      unwatch = listens ? watch(wake) : undefined;
    }
    for (const [effect, ...values] of effects) {
      (carryOut[effect] as (...values: unknown[]) => void)(...values, previous);
    }
  }

  const carryOut: { [E in keyof Effects]: (...values: [...Effects[E], previous: State]) => void } = {
    later: (event, milliseconds) => timers.start(event, milliseconds, () => dispatch(event)),
    retry: (delay, reason) => emit("client:retry", { delay, reason: scrub(reason, token) }),
    state: (state, code, reason, previous) =>
      emit("client:state", { state, previous, code, reason: scrub(reason, token) }),
    forget(id, reason) {
      seen.clear();
      resume?.reset();
      connections.get(id)?.end(reason);
      reject("user_changed", reason, true);
    },
    stop(code, reason) {
      timers.stop();
      for (const connection of connections.values()) connection.end("disconnected");
      if (code !== "requested") return reject(code, reason, false);
      user = undefined;
      resume?.reset();
      reject("disconnected", reason, true);
    },
    async ask(id) {
      asked = Date.now();
      try {
        target = await ask(options, "url", timers);
        const given = await ask(options, "getToken", timers);
        if (id !== model.next) return;
        if (!given) return dispatch("no_token", id);
        token = `${given}`;
        const before = user;
        user = readToken(token).user ?? user;
        dispatch("credentials", id, before !== undefined && user !== before);
      } catch (error) {
        dispatch("failed", id, message(error));
      }
    },
    open,
    /** Whether it was the token that earlier handshakes were refused for. */
    check(id) {
      const connection = connections.get(id)!;
      const credential = { [options.sendTokenAs === "ticket" ? "ticket" : "token"]: token };
      connection.ask("auth:check", credential, replyTimeout(), (error, data) => {
        // A server that does not know the question has let this token in.
        const valid = error?.code === "unknown_action" || data?.valid;
        if (typeof valid !== "boolean") connection.end("refused without a reason");
        else dispatch("checked", id, valid, `the token is refused: ${data?.code}`);
      });
    },
    join(id) {
      const connection = connections.get(id)!;
      connection.timers.start("gate", Math.min(replyTimeout(), SILENCE), () =>
        connection.ping(() => dispatch("ready", id)),
      );
      connection.joins = true;
      rooms.sync();
      // Not at once: a connection that is closed as soon as it is open is not told as one.
      if (rooms.complete(connection)) void Promise.resolve().then(() => dispatch("ready", id));
    },
    adopt(id, replaces) {
      const connection = connections.get(id)!;
      const old = connections.get(replaces);
      timers.stop("waited");
      connection.timers.stop("gate");
      if (old) {
        old.joins = false;
        old.timers.start("overlap", OVERLAP, () => old.end("replaced"));
      }
      rooms.sync();
      for (const request of queue.splice(0)) {
        timers.stop(request.id);
        connection.request(request);
      }
      const left = readToken(token).ends! - Date.now();
      // A token that has just been let in and seems past is one that this machine's clock is wrong about.
      if (!connection.ends && left > 0) renew(connection, left);
      connection.timers.start("introduce", INTRODUCE, () => connection.answered || connection.ping());
    },
  };

  const resume = options.resume?.({
    timers,
    timeout: replyTimeout,
    connection: () => current() ?? connections.get(model.next),
    emit,
    deliver,
    otherUser: () => carryOut.forget(0, ANOTHER, "connecting"),
  });
  const rooms = createMembership(connections, current, replyTimeout, emit, ({ id }) => dispatch("ready", id), resume);
  const renew = renewal(options, current, () => dispatch("rotate"));

  function reject(code: string, reason: string, forget: boolean) {
    const error = new RoomcastError(code, reason);
    for (const { id, done } of queue.splice(0)) {
      timers.stop(id);
      done(error);
    }
    rooms.reject(error, forget);
  }

  function wake(shown: boolean) {
    timers.start("awake", AWAKE, () => {});
    dispatch("wake", shown);
    // What was sent last may be lost without leaving a hole: the server is asked how far it is.
    if (resume?.heads()) current()?.ping();
    else current()?.probe();
  }

  function open(id: number, explain: boolean) {
    const way = options.sendTokenAs ?? "token";
    // Two connections are enough.
    for (const connection of connections.values()) if (connection.id !== model.current) connection.end("replaced");
    try {
      const protocols = way === "subprotocol" ? [SUBPROTOCOL, token] : undefined;
      const url = address(target, !protocols && `${way}=${encodeURIComponent(token)}`, explain && "explain=1");
      const WebSocket = options.WebSocket ?? globalThis.WebSocket;
      if (!WebSocket) throw new TypeError("there is no WebSocket");
      connections.set(id, openConnection(id, token, makeSocket(WebSocket, url, protocols), handlers));
    } catch (error) {
      dispatch("failed", id, message(error));
    }
  }

  const handlers: Handlers = {
    opened: ({ id }) => dispatch("opened", id),
    heads: () => resume?.heads(),
    message: receive,
    traffic(connection) {
      const interval = options.keepalive ?? alive.interval;
      connection.timers.start("keepalive", interval, () => {
        connection.idle = interval;
        connection.ping(() => {
          connection.idle = 0;
          alive = idleness.survived(alive, interval);
        });
      });
    },
    ended(connection, code, reason, unsent) {
      const { id, since, busy, idle } = connection;
      connections.delete(id);
      if (![...connections.values()].some(({ since }) => since)) resume?.closed();
      for (const request of unsent) enqueue(request);
      const now = Date.now();
      if (idle) alive = idleness.died(alive, idle, false);
      else if (code === 1006 && since && !offline()) alive = idleness.died(alive, now - busy, true);
      dispatch("closed", id, code, reason, since && Math.abs(now - since));
      rooms.sync();
    },
  };

  function receive(connection: Connection, text: string) {
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
    if (resume?.message(envelope)) return;
    if (id) {
      if (seen.has(id)) return;
      seen.add(id);
      if (seen.size > REMEMBERED_IDS) seen.delete(seen.values().next().value!);
    }
    if (envelope.replyTo) hear(connection, envelope);
    const settled = connection.settle(envelope);
    if (settled === undefined && event === "error" && !id) {
      if (data?.code === "connection_limit") return dispatch("replaced", `${data.message}`);
      // No send finds such a connection any more: a new one, with a token asked for anew, is what helps.
      if (isEnd(data?.code)) return connection.end(`${data.message}`, 0);
    }
    if (connection.timers.has("gate")) {
      connection.timers.start("gate", STRAGGLERS, () => dispatch("ready", connection.id));
    }
    if (!settled) deliver(envelope);
  }

  function deliver(envelope: Envelope) {
    const { event, data } = envelope;
    if (!/^(client:|\*$)/.test(event)) emit(event, data, envelope);
    emit("*", data, envelope);
  }

  /** What the server says about the connection. */
  function hear(connection: Connection, { event, connection: facts }: Envelope) {
    // These carry it, where the server knows of it at all.
    if (!facts && !/^(pong$|\w+:joined)/.test(event)) return;
    connection.answered = true;
    const { expiresIn, spread: told } = facts ?? {};
    spread = told! > 0 ? Math.min(MAX_SPREAD, told!) : (spread ?? UNKNOWN_SPREAD);
    if (typeof expiresIn === "number") renew(connection, expiresIn * 1_000);
  }

  /** Keeps an action until there is a connection, for as long as a reply may take. */
  function enqueue(request: Request) {
    if (client.state === "disconnected") return refuse(request, "disconnected", "not connecting");
    const limit = options.queueLimit ?? 100;
    if (queue.length >= limit) return refuse(request, "queue_full", `${limit} actions are waiting already`);
    queue.push(request);
    timers.start(request.id, request.expires! - Date.now(), () => {
      queue = queue.filter((one) => one !== request);
      refuse(request, "timeout", "no connection in time");
    });
  }

  const client = {
    get state() {
      return publicState(model);
    },
    get connected() {
      return client.state === "connected";
    },
    get rooms() {
      return rooms.wanted;
    },
    get joined() {
      return rooms.joined;
    },
    connect: () => dispatch("connect"),
    disconnect: () => dispatch("disconnect"),
    on: (event: string, listener: (data: any, envelope?: any) => void) => on(event, listener),
    once: (event: string, listener: (data: any, envelope?: any) => void) => on(event, listener, true),
    off,
    join: rooms.join,
    leave: rooms.leave,
    send(action: string, data?: object) {
      const { promise, resolve, reject } = waiting();
      const timeout = replyTimeout();
      const done: Request["done"] = (error, data) => (error ? reject(error) : resolve(data));
      try {
        const request = { ...frame(action, data), timeout, expires: Date.now() + timeout, done };
        const connection = current();
        if (connection) connection.request(request);
        else enqueue(request);
      } catch (error) {
        reject(error as Error);
      }
      return promise;
    },
  };
  return Object.assign(client, resume?.calls(rooms));
}
