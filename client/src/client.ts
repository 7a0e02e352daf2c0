/** The client: one connection that stays, told in three states. */
import { createEmitter } from "./emitter.ts";
import { check, frame, type Frame, isError, type Link, openLink, type WebSocketClass } from "./link.ts";
import {
  type ActionMap,
  type ClientEvents,
  type Envelope,
  type Joined,
  type ProtocolActions,
  type ProtocolEvents,
  RoomcastError,
  type Room,
  type State,
  type StateCode,
} from "./protocol.ts";

export interface ClientOptions {
  /** `wss://...`, or a function that is asked before every attempt. */
  url: string | (() => string | Promise<string>);
  /** Asked before every attempt. Nothing (`null`, `undefined`, `""`) means: not logged in. */
  getToken: () => string | null | undefined | Promise<string | null | undefined>;
  /**
   * How it travels: `token`, the default, as `?token=`; `ticket`, a one-time ticket of the backend as `?ticket=`;
   * `subprotocol`, beside `landinghub.v1` in `Sec-WebSocket-Protocol`, which keeps it out of URLs.
   */
  sendTokenAs?: "token" | "ticket" | "subprotocol";
  /** Where there is no global WebSocket, or a test wants another. */
  WebSocket?: WebSocketClass;
  /** `false`: nothing happens before `connect()`. */
  autoConnect?: boolean;
  /** Milliseconds to wait for a reply: 10,000. */
  replyTimeout?: number;
  /** How many actions wait while there is no connection, 100; the next one is refused with `queue_full`. */
  queueLimit?: number;
  /**
   * A connection that the server or the network cut is opened again at a random moment of so many
   * milliseconds; while that fails, of up to four times as many. API Gateway lets in 500 new connections a second for a whole account, so
   * take 3.2 milliseconds for each client: 32,000, the default, is right for 10,000 that are cut at once.
   */
  reconnectWindow?: number;
  /** After so many refused handshakes in a row, from a server that does answer, it is `auth_failed`: 4. */
  maxRefusals?: number;
}

/** The application's own events are added to the protocol's; by default every name is allowed. */
export interface Client<
  Events extends object = Record<string, unknown>,
  Actions extends object = ActionMap,
  AllEvents = ProtocolEvents & ClientEvents & Events,
  AllActions = ProtocolActions & Actions,
> {
  readonly state: State;
  readonly connected: boolean;
  /** The rooms to be in: joined, being joined, or joined again as soon as there is a connection. */
  readonly rooms: Room[];
  connect(): void;
  /** Closes the connection and forgets the rooms; whatever waits for a reply is rejected. Listeners stay. */
  disconnect(): void;
  on<E extends keyof AllEvents & string>(
    event: E,
    listener: (data: AllEvents[E], envelope: Envelope<AllEvents[E]>) => void,
  ): () => void;
  once<E extends keyof AllEvents & string>(
    event: E,
    listener: (data: AllEvents[E], envelope: Envelope<AllEvents[E]>) => void,
  ): () => void;
  /** Without a listener: all of that event. */
  off<E extends keyof AllEvents & string>(event: E, listener?: (data: AllEvents[E], envelope: any) => void): void;
  /** Resolves with the reply's data. Sent at most once: never repeated after a lost connection. */
  send<A extends keyof AllActions & string>(
    action: A,
    data?: AllActions[A] extends { data: infer Data } ? Data : never,
  ): Promise<AllActions[A] extends { reply: infer Reply } ? Reply : unknown>;
  /** Resolves when the connection is in the room, which from then on is joined again after every reconnect. */
  join(room: Room): Promise<Joined>;
  leave(room: Room): Promise<void>;
}

interface Waiting {
  resolve: (value: any) => void;
  reject: (error: Error) => void;
  promise: Promise<any>;
}

const SUBPROTOCOL = "landinghub.v1";
/** The first delay of an attempt that no fleet makes at the same moment. */
const QUICK = 1_000;
const BACKOFF_FACTOR = 4;
/** A connection that lasted so long was a good one: the next backoff starts from the beginning. */
const MIN_UPTIME = 10_000;
/** API Gateway closes every connection at 2 hours. */
const ROTATE_AFTER = 100 * 60_000;
const ROTATE_SPREAD = 15 * 60_000;
/** How long before the token's end a new one is asked for; a quarter of its time if that is less. */
const RENEW_BEFORE = 60_000;
/** How long a replaced connection stays open: messages may be on their way to it alone. */
const OVERLAP = 30_000;
/** Timers run once a minute in a hidden tab; a longer gap is a machine that slept. */
const SLEPT = 150_000;
/** A connection that was heard of so lately needs no ping to show that it lives. */
const RECENTLY = 20_000;
const REMEMBERED_IDS = 1_000;

const waiting = (): Waiting => {
  const own = {} as Waiting;
  own.promise = new Promise((resolve, reject) => Object.assign(own, { resolve, reject }));
  // Whoever does not await a join hears of its failure by the server's error event.
  own.promise.catch(() => {});
  return own;
};

/** When a JWT ends, in milliseconds; never, for what is no JWT. */
function expiry(token: string): number {
  try {
    return JSON.parse(atob(token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/"))).exp * 1_000 || Infinity;
  } catch {
    return Infinity;
  }
}

/** Milliseconds that the server asks for; a little more, so that not all come back at the same moment. */
const wait = ({ data }: RoomcastError) => (data?.retryAfter ?? 1) * 1_000 * (1 + Math.random());

const roomFrame = (verb: "join" | "leave", room: string): Frame =>
  room === "dashboard" ? frame(`dashboard:${verb}`) : frame(`chat:${verb}_room`, { roomId: room.slice(10) });

/** Makes a client, and lets it connect. Its options are read whenever they are needed. */
export function createClient<Events extends object = Record<string, unknown>, Actions extends object = ActionMap>(
  options: ClientOptions,
): Client<Events, Actions> {
  const { on, off, emit } = createEmitter();
  const wanted = new Map<string, Waiting>();
  const queue: (Waiting & { frame: Frame })[] = [];
  const seen = new Set<string>();
  const links = new Set<Link>();
  let state: State = "disconnected";
  let current: Link | undefined;
  /** From `connect()` to `disconnect()` or `auth_failed`: what it aborts, stops. */
  let session: AbortController | undefined;
  let attempts = 0;
  let refusals = 0;
  let window = QUICK;
  let retry: ReturnType<typeof setTimeout> | undefined;
  let rotation: ReturnType<typeof setTimeout> | undefined;
  let renewal: ReturnType<typeof setTimeout> | undefined;
  let hurry = () => {};

  const setState = (next: State, code: StateCode, reason: string) => {
    const previous = state;
    state = next;
    emit("client:state", { state, previous, code, reason });
  };
  const replyTimeout = () => options.replyTimeout ?? 10_000;
  const reconnectWindow = () => options.reconnectWindow ?? 32_000;
  const offline = () => globalThis.navigator?.onLine === false;

  function receive(link: Link, text: string) {
    let envelope: any;
    try {
      envelope = JSON.parse(text);
    } catch {
      // Reported just below, as everything else that is no envelope.
    }
    if (typeof envelope?.event !== "string") {
      // API Gateway's own words, when the function failed: it does not say for which action.
      return emit("error", { code: "internal_error", message: envelope?.message ?? "not an envelope" }, envelope);
    }
    if (envelope.id) {
      if (seen.has(envelope.id)) return;
      seen.add(envelope.id);
      for (const oldest of seen) {
        if (seen.size <= REMEMBERED_IDS) break;
        seen.delete(oldest);
      }
    }
    // No send finds such a connection any more: a new one, with a token asked for anew, is what helps.
    if (isError(envelope) && /^(unknown_connection|token_expired)$/.test(envelope.data?.code)) {
      return link.end(envelope.data.message, 0);
    }
    if (link.settle(envelope)) return;
    if (!/^(client:|\*$)/.test(envelope.event)) emit(envelope.event, envelope.data, envelope);
    emit("*", envelope.data, envelope);
  }

  /** Brings the rooms that a connection is in to those that are wanted. */
  async function syncRooms(link: Link, opening = false, quiet = false): Promise<void> {
    const join = async (room: string) => {
      const own = wanted.get(room)!;
      try {
        const reply = await link.request(roomFrame("join", room), replyTimeout(), quiet);
        link.rooms.add(room);
        own.resolve(reply);
      } catch (error: any) {
        const { code, message } = error;
        if (code === "connection_lost" || (opening && code === "timeout")) throw error;
        // So many rooms at once: this one is still wanted, and asked for again.
        if (code === "rate_limited") return new Promise((resolve) => setTimeout(resolve, wait(error)));
        if (wanted.get(room) !== own) return;
        wanted.delete(room);
        own.reject(error);
        emit("client:room_lost", { room, code, message });
      }
    };
    const leave = async (room: string) => {
      link.rooms.delete(room);
      await link.request(roomFrame("leave", room), replyTimeout(), quiet);
    };
    for (;;) {
      const missing = [...wanted.keys()].filter((room) => !link.rooms.has(room));
      const extra = [...link.rooms].filter((room) => !wanted.has(room));
      if (!missing.length && !extra.length) return;
      await Promise.all([...missing.map(join), ...extra.map(leave)]);
    }
  }
  /** One such change after the other on each connection: API Gateway keeps no order. */
  const tails = new WeakMap<Link, Promise<void>>();
  const sync = (link: Link) => {
    const tail = (tails.get(link) ?? Promise.resolve()).catch(() => {}).then(() => syncRooms(link));
    tails.set(link, tail);
    return tail;
  };

  /** Opens a connection and joins the rooms on it. */
  async function open(quiet: boolean): Promise<Link> {
    const { signal } = session!;
    const { url, WebSocket = globalThis.WebSocket } = options;
    const address = typeof url === "function" ? await url() : url;
    const token = await options.getToken();
    signal.throwIfAborted();
    if (!token) throw new RoomcastError("auth_failed", "there is no token");
    if (!WebSocket) throw new TypeError("there is no WebSocket here: give one to createClient");
    const way = options.sendTokenAs ?? "token";
    const link: Link = openLink(
      () =>
        way === "subprotocol"
          ? new WebSocket(address, [SUBPROTOCOL, token])
          : new WebSocket(`${address}${address.includes("?") ? "&" : "?"}${way}=${encodeURIComponent(token)}`),
      (text) => receive(link, text),
      (code, reason) => {
        links.delete(link);
        if (link === current) lost(code, reason);
      },
    );
    link.expires = expiry(token);
    links.add(link);
    try {
      await link.opened;
    } catch (error) {
      signal.throwIfAborted();
      // A page never sees the status of a handshake: whether the server is there at all, another request tells.
      const answers = await fetch(address.replace(/^ws/, "http"), {
        mode: "no-cors",
        credentials: "omit",
        cache: "no-store",
        signal: AbortSignal.timeout(5_000),
      }).then(
        () => true,
        () => false,
      );
      refusals = answers ? refusals + 1 : 0;
      throw error;
    }
    refusals = 0;
    try {
      await syncRooms(link, true, quiet);
    } catch (error) {
      link.end("the rooms could not be joined again");
      throw error;
    }
    return link;
  }

  /** Makes a connection the one in use. */
  function adopt(link: Link) {
    if (!links.has(link)) throw new Error("it was closed at once");
    const old = current;
    current = link;
    clearTimeout(retry);
    clearTimeout(rotation);
    rotation = setTimeout(rotate, ROTATE_AFTER + Math.random() * ROTATE_SPREAD);
    renewBefore(link);
    // What was asked for on the old connection a moment ago.
    sync(link).catch(() => {});
    old?.endIn(OVERLAP, "replaced");
    for (const { frame, resolve, reject } of queue.splice(0)) link.request(frame, replyTimeout()).then(resolve, reject);
    if (state !== "connected") setState("connected", "opened", "the connection is open");
  }

  async function rotate() {
    const old = current;
    clearTimeout(rotation);
    try {
      if (offline()) throw new Error();
      adopt(await open(true));
    } catch {
      // The old connection is still good. Should it end, the next attempt has its own words.
      if (current && current === old) rotation = setTimeout(rotate, (0.5 + Math.random()) * 60_000);
    }
  }

  /** Events stop at the token's end, and nothing says so: a while before, a new token is sent on or connected with. */
  function renewBefore(link: Link) {
    clearTimeout(renewal);
    const left = link.expires - Date.now();
    // A token that has just been let in and seems past is one that this machine's clock is wrong about.
    if (left > 0 && left < ROTATE_AFTER + ROTATE_SPREAD) {
      renewal = setTimeout(renew, left - Math.min(left / 4, RENEW_BEFORE));
    }
  }

  async function renew() {
    const link = current!;
    renewal = setTimeout(() => link.end("the token has expired", 0), link.expires - Date.now());
    try {
      const token = await options.getToken();
      if (!token || expiry(token) <= link.expires) return;
      await link.request(frame("auth:refresh", { token }), replyTimeout(), true);
      link.expires = expiry(token);
      if (link === current) renewBefore(link);
    } catch {
      if (link === current) rotate();
    }
  }

  function lost(code: number, reason: string) {
    const lasted = Date.now() - current!.since;
    current = undefined;
    clearTimeout(rotation);
    clearTimeout(renewal);
    if (lasted >= MIN_UPTIME) attempts = 0;
    window = code ? reconnectWindow() : QUICK;
    setState("connecting", code ? "lost" : "no_reply", reason);
    if (session) attempt(session.signal);
  }

  function pause(delay: number): Promise<void> {
    return new Promise((resolve) => {
      const arm = (milliseconds: number) => {
        clearTimeout(retry);
        // Offline it stays here; the browser's `online` sets it going again.
        retry = setTimeout(() => offline() || resolve(), milliseconds);
      };
      hurry = () => arm(Math.random() * QUICK);
      arm(delay);
    });
  }

  async function attempt(signal: AbortSignal, delay = backoff()) {
    for (;;) {
      await pause(delay);
      hurry = () => {};
      try {
        return adopt(await open(false));
      } catch (error: any) {
        if (signal.aborted || current) return;
        if (refusals >= (options.maxRefusals ?? 4)) return stop("auth_failed", `refused ${refusals} times in a row`);
        if (error.code === "auth_failed") return stop("auth_failed", error.message);
        delay = backoff();
        emit("client:retry", { delay, reason: error.message });
      }
    }
  }

  /** Full jitter. */
  function backoff() {
    return Math.random() * Math.min(BACKOFF_FACTOR * reconnectWindow(), window * BACKOFF_FACTOR ** attempts++);
  }

  function stop(code: "requested" | "auth_failed", reason: string) {
    if (!session) return;
    session.abort();
    session = current = undefined;
    hurry = () => {};
    clearTimeout(retry);
    clearTimeout(rotation);
    clearTimeout(renewal);
    for (const link of links) link.end("disconnected");
    const error = new RoomcastError(code === "requested" ? "disconnected" : code, reason);
    for (const { reject } of [...queue.splice(0), ...wanted.values()]) reject(error);
    if (code === "requested") wanted.clear();
    // After a new login the rooms are joined again.
    for (const room of wanted.keys()) wanted.set(room, waiting());
    setState("disconnected", code, reason);
  }

  /** The network has changed or the machine has slept: try now, or see whether the connection outlived it. */
  const wake = () => {
    if (!current) hurry();
    else if (Date.now() - current.heard > RECENTLY) check(current);
  };

  const client: Client<any, any> = {
    get state() {
      return state;
    },
    get connected() {
      return state === "connected";
    },
    get rooms() {
      return [...wanted.keys()] as Room[];
    },
    connect() {
      if (session) return;
      session = new AbortController();
      const { signal } = session;
      attempts = refusals = 0;
      window = QUICK;
      for (const event of ["online", "offline", "pageshow"]) globalThis.addEventListener?.(event, wake, { signal });
      globalThis.document?.addEventListener(
        "visibilitychange",
        () => document.visibilityState === "visible" && wake(),
        { signal },
      );
      (globalThis.navigator as any)?.connection?.addEventListener?.("change", wake, { signal });
      let before = Date.now();
      const clock = setInterval(() => {
        const now = Date.now();
        if (now - before > SLEPT) wake();
        before = now;
      }, 30_000);
      signal.addEventListener("abort", () => clearInterval(clock));
      setState("connecting", "requested", "the application asked for it");
      attempt(signal, 0);
    },
    disconnect: () => stop("requested", "the application asked for it"),
    on: (event, listener) => on(event, listener),
    once: (event, listener) => on(event, listener, true),
    off,
    async send(action, data) {
      const own = { ...waiting(), frame: frame(action, data as object) };
      if (current) return current.request(own.frame, replyTimeout());
      if (!session) throw new RoomcastError("disconnected", `${action}: the client is not connecting`);
      if (queue.length >= (options.queueLimit ?? 100)) {
        throw new RoomcastError("queue_full", `${queue.length} actions are waiting already`);
      }
      queue.push(own);
      return own.promise;
    },
    join(room) {
      if (!/^(dashboard$|chat_room_.)/.test(room)) {
        return Promise.reject(new RoomcastError("unknown_room", `${room} is neither "dashboard" nor "chat_room_..."`));
      }
      let own = wanted.get(room);
      if (!own) wanted.set(room, (own = waiting()));
      if (current) sync(current).catch(() => {});
      return own.promise;
    },
    async leave(room) {
      wanted.get(room)?.reject(new RoomcastError("left", `${room} was left before it was joined`));
      if (wanted.delete(room) && current) {
        // A lost connection is in no room.
        await sync(current).catch((error) => {
          if (error.code !== "connection_lost") throw error;
        });
      }
    },
  };
  if (options.autoConnect ?? true) client.connect();
  return client;
}
