/** Carries out what the state machine decides: sockets, timers, questions to the application, events. */
import type { ClientOptions } from "./client.ts";
import { type Connection, frame, type Handlers, isEnd, openConnection, refuse, type Request } from "./connection.ts";
import { createEmitter } from "./emitter.ts";
import { createKeepalive } from "./keepalive.ts";
import { QUICK } from "./backoff.ts";
import {
  ANOTHER,
  type Effects,
  type Events,
  type Handler,
  publicState,
  start,
  transitions,
  type World,
} from "./lifecycle.ts";
import { createMembership } from "./membership.ts";
import { type Envelope, RoomcastError, type State } from "./protocol.ts";
import { renewal } from "./renewal.ts";
import { quiet } from "./rooms.ts";
import { address, ask, message, NO_REASON, readToken, scrub } from "./token.ts";
import { createTimers } from "./timers.ts";
import { offline, watch } from "./wake.ts";

export function createSession(options: ClientOptions) {
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
  const { emit: hand, ...listening } = createEmitter();
  const timers = createTimers();
  const model = { ...start };
  const connections = new Map<number, Connection>();
  const seen = new Set<string>();
  const emissions: Parameters<typeof hand>[] = [];
  /** How much of what it does is being done at the moment. */
  let depth = 0;
  let queue: Request[] = [];
  let told: State = "disconnected";
  let target = "";
  let token = "";
  let user: string | undefined;
  let spread: number | undefined;
  let asked = 0;
  let unwatch: (() => void) | void;

  const replyTimeout = () => options.replyTimeout ?? 10_000;
  const way = () => options.sendTokenAs ?? "token";
  const protocols = () => (way() === "subprotocol" ? [SUBPROTOCOL, token] : undefined);
  const current = () => connections.get(model.current_);

  /**
   * Every listener hears the events in one order, whatever a listener does meanwhile, and when all is done that the
   * machine has decided: what a listener then asks for is not undone by the rest of it.
   */
  function emit(...emission: Parameters<typeof hand>) {
    emissions.push(emission);
    tell();
  }
  function tell() {
    if (!depth++) for (; emissions[0]; emissions.shift()) hand(...emissions[0]);
    depth--;
  }

  function dispatch<E extends keyof Events>(event: E, ...values: Events[E]) {
    const world: World = {
      ...effects,
      dice_: Math.random(),
      offline_: offline(),
      maxRefusals_: options.maxRefusals ?? 3,
      spread_: options.reconnectWindow ?? spread ?? QUICK,
      awake_: timers.has_("awake"),
      rested_: Math.abs(Date.now() - asked),
    };
    depth++;
    (transitions[model.phase_][event] as Handler<E> | undefined)?.(model, world, ...values);
    if (model.phase_ === "off") unwatch &&= unwatch();
    else unwatch ??= watch(wake);
    depth--;
    tell();
  }

  /** The same, of an attempt that may have been given up meanwhile. */
  function attempted<E extends keyof Events>(id: number, event: E, ...values: Events[E]) {
    if (id === model.next_) dispatch(event, ...values);
  }
  const ready = ({ id }: Connection) => attempted(id, "ready");

  const effects: Effects = {
    later_: (event, milliseconds) => timers.start_(event, milliseconds, () => dispatch(event)),
    retry_(delay, reason) {
      emit("client:retry", { delay, reason: scrub(reason, token) });
      effects.later_("waited", delay);
    },
    state_(code, reason) {
      const previous = told;
      told = client.state;
      emit("client:state", { state: told, previous, code, reason: scrub(reason, token) });
    },
    forget_(id, reason) {
      seen.clear();
      connections.get(id)?.end_(reason);
      reject("user_changed", reason, true);
    },
    stop_(code, reason) {
      timers.stop_();
      for (const connection of connections.values()) connection.end_("disconnected");
      if (code !== "requested") return reject(code, reason, false);
      user = undefined;
      reject("disconnected", reason, true);
    },
    async ask_(explain) {
      const id = model.next_;
      asked = Date.now();
      try {
        const url = await ask(options, "url", timers);
        const given = await ask(options, "getToken", timers);
        if (id !== model.next_) return;
        if (!given) return dispatch("checked", false, "no token");
        token = `${given}`;
        target = address(url, !protocols() && `${way()}=${encodeURIComponent(token)}`, explain && "explain=1");
        const before = user;
        user = readToken(token).user_ ?? user;
        dispatch("credentials", !!before && user !== before);
      } catch (error) {
        attempted(id, "failed", message(error));
      }
    },
    open_() {
      const { next_: next } = model;
      // Two connections are enough.
      for (const connection of connections.values()) if (connection.id !== model.current_) connection.end_("replaced");
      try {
        const socket = new (options.WebSocket ?? globalThis.WebSocket)(target, protocols());
        connections.set(next, openConnection(next, token, socket, handlers));
      } catch {
        // Without the browser's own words about what it does not take: they may hold the token.
        dispatch("failed", "no WebSocket takes the url and token");
      }
    },
    /** Whether it was the token that earlier handshakes were refused for. */
    check_() {
      const { next_: next } = model;
      const connection = connections.get(next)!;
      connection.ask_("auth:check", { [protocols() ? "token" : way()]: token }, replyTimeout(), (error, data) => {
        // A server that does not know the question has let this token in.
        const valid = error?.code === "unknown_action" || data?.valid;
        if (valid == null) connection.end_(NO_REASON);
        else attempted(next, "checked", valid, `the token is refused: ${data?.code}`);
      });
    },
    async join_() {
      const { next_: next } = model;
      const connection = connections.get(next)!;
      connection.timers_.start_("gate", Math.min(replyTimeout(), SILENCE), () =>
        connection.ping_(() => ready(connection)),
      );
      connection.joins_ = true;
      rooms.sync();
      // Not at once: a connection that is closed as soon as it is open is not told as one.
      if (!rooms.complete_(connection)) return;
      await 0;
      ready(connection);
    },
    adopt_(replaces) {
      const connection = current()!;
      const old = connections.get(replaces);
      connection.timers_.stop_("gate");
      if (old) {
        old.joins_ = false;
        old.timers_.start_("overlap", OVERLAP, () => old.end_("replaced"));
      }
      rooms.sync();
      connection.flush_();
      const left = readToken(token).ends_! - Date.now();
      // A token that has just been let in and seems past is one that this machine's clock is wrong about.
      if (!connection.ends_ && left > 0) renew(connection, left);
      connection.timers_.start_("introduce", INTRODUCE, () => connection.answered_ || connection.ping_());
    },
  };

  const resume = options.resume?.({
    timers_: timers,
    timeout_: replyTimeout,
    connection_: () => current() ?? connections.get(model.next_),
    emit,
    deliver_: deliver,
    otherUser_: () => effects.forget_(0, ANOTHER),
  });
  const rooms = createMembership(connections, current, replyTimeout, emit, ready, resume);
  const renew = renewal(options, current, () => dispatch("rotate"));

  function reject(code: string, reason: string, forget: boolean) {
    const error = new RoomcastError(code, reason);
    if (forget) resume?.reset_();
    for (const request of queue) {
      taken(request);
      request.done_(error);
    }
    rooms.reject_(error, forget);
  }

  function wake(shown: boolean) {
    timers.start_("awake", AWAKE, () => {});
    dispatch("wake", shown);
    // What was sent last may be lost without leaving a hole: the server is asked how far it is.
    if (resume?.heads_()) current()?.ping_();
    else current()?.probe_();
  }

  const handlers: Handlers = {
    alive_: createKeepalive(() => options.keepalive),
    opened_: ({ id }) => attempted(id, "opened"),
    heads_: () => resume?.heads_(),
    message_: receive,
    queue_: (connection) => (connection === current() ? queue : []),
    taken_: taken,
    ended_({ id }, code, reason, lasted) {
      connections.delete(id);
      if (![...connections.values()].some(({ joins_: joins }) => joins)) resume?.closed_();
      dispatch("closed", id, code, reason, lasted);
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
    if (resume?.message_(envelope)) return;
    if (id) {
      if (seen.has(id)) return;
      const [oldest] = seen.add(id);
      if (seen.size > REMEMBERED_IDS) seen.delete(oldest!);
    }
    if (envelope.replyTo) hear(connection, envelope);
    const settled = connection.settle_(envelope);
    if (settled === undefined && event === "error" && !id) {
      if (data?.code === "connection_limit") return dispatch("replaced", `${data.message}`);
      // No send finds such a connection any more: a new one, with a token asked for anew, is what helps.
      if (isEnd(data?.code)) return connection.end_(`${data.message}`);
    }
    if (connection.timers_.has_("gate")) {
      connection.timers_.start_("gate", STRAGGLERS, () => ready(connection));
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
    if (!facts && event !== "pong") return;
    connection.answered_ = true;
    const { expiresIn, spread: told } = facts ?? {};
    spread = told! > 0 ? Math.min(MAX_SPREAD, told!) : (spread ?? UNKNOWN_SPREAD);
    if (expiresIn! > 0) renew(connection, expiresIn! * 1_000);
  }

  /** Ends the wait of an action. */
  function taken(request: Request) {
    queue = queue.filter((one) => one !== request);
    timers.stop_(request.id);
  }

  const client = {
    get state(): State {
      return publicState(model);
    },
    get connected() {
      return !!model.current_;
    },
    get rooms() {
      return rooms.wanted_;
    },
    get joined() {
      return rooms.joined_;
    },
    ...listening,
    connect: () => dispatch("connect"),
    disconnect: () => dispatch("disconnect"),
    join: rooms.join,
    leave: rooms.leave,
    send: (action: string, data?: object, id?: string) =>
      quiet((resolve, reject) => {
        const timeout = replyTimeout();
        const expires = Date.now() + timeout;
        const request: Request = {
          ...frame(action, data, id),
          timeout_: timeout,
          done_: (error, data) => (error ? reject(error) : resolve(data)),
          back_: () => wait("unshift"),
        };
        /** Until there is a connection, for as long as a reply may take. */
        const wait = (verb: "push" | "unshift") => {
          queue[verb](request);
          timers.start_(request.id, expires - Date.now(), () => {
            taken(request);
            refuse(request, "timeout", "not sent in time");
          });
          current()?.flush_();
        };
        const limit = options.queueLimit ?? 100;
        if (client.state === "disconnected") refuse(request, "disconnected", "disconnected");
        else if (!current() && queue.length >= limit) refuse(request, "queue_full", `${limit} actions wait`);
        else wait("push");
      }),
    ...resume?.calls_(rooms),
  };
  if (options.autoConnect !== false) client.connect();
  return client;
}
