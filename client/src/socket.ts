/**
 * LandingHub's `socket.js`: the same functions over one shared client.
 *
 * Every function may be called before `initSocket()`: listeners, rooms and actions wait for it. Arguments that
 * LandingHub's components pass and that the token says better (a user id, a role) are ignored.
 */
import { type Client, type ClientOptions, createClient } from "./client.ts";
import { createEmitter } from "./emitter.ts";
import { type Joined, RoomcastError, type State, type StateChange } from "./protocol.ts";

export interface SocketOptions extends Partial<ClientOptions> {
  /** Instead of `localStorage.token`. */
  token?: string;
}

type Listener = (data: any, envelope?: any) => void;
type AnyClient = Client<Record<string, any>>;

declare const process: { env: Record<string, string | undefined> };

const NO_URL = "no WebSocket URL: set REACT_APP_WEBSOCKET_URL or VITE_WEBSOCKET_URL, or give `url`";
/** As many as the client itself keeps while it connects. */
const WAITING_LIMIT = 100;
const defaults: ClientOptions = {
  url: environmentUrl as () => string,
  getToken() {
    try {
      return globalThis.localStorage?.getItem("token");
    } catch {
      // In a sandboxed or third-party frame even asking for it throws: nobody is logged in there.
      return null;
    }
  },
  autoConnect: false,
};
const options = { ...defaults };
/** The events that `socket.js` makes itself. */
const own = createEmitter();
/** Actions from before `initSocket()`. */
let waiting: (() => void)[] | undefined = [];
let shared: AnyClient | undefined;

function client(): AnyClient {
  if (!shared) {
    shared = createClient(options);
    shared.on("client:state", tell);
  }
  return shared;
}

/** Says in LandingHub's words what has become of the connection. */
function tell({ state, previous, code, reason }: StateChange): void {
  if (state === "connected") own.emit("connected", {});
  else if (previous === "connected") own.emit("disconnected", { code: closeCode(code, reason), reason });
  if (state === "disconnected" && code === "auth_failed") own.emit("reconnect_failed", { code, message: reason });
}

/** The code of the close frame: 1000 where one side has ended it on purpose, 1006 where nobody has said anything. */
function closeCode(code: StateChange["code"], reason: string): number {
  if (code === "no_reply") return 1006;
  return Number(/^closed: (\d+)/.exec(reason)?.[1] ?? 1000);
}

/** What a bundler puts in: both names must be written out here, it replaces them as text. */
function environmentUrl(): string | undefined {
  try {
    const url = process.env.REACT_APP_WEBSOCKET_URL;
    if (url) return url;
  } catch {
    // No `process` in a browser, unless the bundler has replaced it: then Vite's name is the one.
  }
  // @ts-ignore CommonJS does not have `import.meta`: build.mjs takes it out of that build.
  return import.meta.env?.VITE_WEBSOCKET_URL;
}

/**
 * Connects, once: a second call changes nothing while the first connection lasts. Takes options or a token. Without
 * a URL it says so as `not_configured` (or on the console, if nobody listens) and does not connect.
 */
export function initSocket(given: SocketOptions | string = {}): AnyClient {
  if (client().state !== "disconnected") return client();
  const { token, ...rest } = typeof given === "string" ? { token: given } : given;
  Object.assign(options, defaults, token !== undefined && { getToken: () => token }, rest);
  if (options.url === defaults.url && !environmentUrl()) {
    // Whoever calls `on()` right after this is to hear it too.
    void Promise.resolve().then(() => {
      if (registered.some(({ event }) => event === "not_configured"))
        own.emit("not_configured", { code: "not_configured", message: NO_URL });
      else console.error(NO_URL);
    });
    return client();
  }
  client().connect();
  const actions = waiting ?? [];
  waiting = undefined;
  for (const start of actions) start();
  return client();
}

/** The shared client, or null before `initSocket()` and after `disconnectSocket()`. */
export function getSocket(): AnyClient | null {
  return shared && shared.state !== "disconnected" ? shared : null;
}

/** Closes the connection and forgets the rooms. Listeners stay for the next `initSocket()`. */
export function disconnectSocket(): void {
  shared?.disconnect();
}

/** Sends an action; the promise has the reply's data. Before `initSocket()` it waits for that. */
export function sendMessage(action: string, data: object = {}): Promise<any> {
  if (!waiting) return client().send(action, data);
  if (waiting.length >= WAITING_LIMIT) return refuse("queue_full", `${waiting.length} actions are waiting already`);
  const start = new Promise<void>((resolve) => waiting!.push(resolve));
  return quiet(start.then(() => client().send(action, data)));
}

export function joinDashboard(..._: unknown[]): Promise<Joined> {
  return client().join("dashboard");
}

export function leaveDashboard(..._: unknown[]): Promise<void> {
  return quiet(client().leave("dashboard"));
}

/** Asks for `dashboard:refresh_data`; without a connection it is said as soon as there is one. */
export function refreshDashboard(): Promise<{ type: "admin" | "user" }> {
  return sendMessage("dashboard:refresh");
}

/** Joins a chat room, by its id. */
export function joinChatRoom(roomId: string | number, ..._: unknown[]): Promise<Joined> {
  return isId(roomId) ? client().join(`chat_room_${roomId}`) : refuse("unknown_room", NO_ROOM);
}

export function leaveChatRoom(roomId: string | number, ..._: unknown[]): Promise<void> {
  return isId(roomId) ? quiet(client().leave(`chat_room_${roomId}`)) : refuse("unknown_room", NO_ROOM);
}

/** As `joinChatRoom`; the room's whole name is taken too. */
export function joinRoom(room: string | number, ..._: unknown[]): Promise<Joined> {
  return room === "dashboard" ? joinDashboard() : joinChatRoom(roomIdOf(room));
}

export function leaveRoom(room: string | number, ..._: unknown[]): Promise<void> {
  return room === "dashboard" ? leaveDashboard() : leaveChatRoom(roomIdOf(room));
}

/** Hears every `dashboard:update`; returns the cleanup function. */
export function onDashboardUpdate(listener: Listener): () => void {
  return on("dashboard:update", listener);
}

/** Hears every `chat:update`; returns the cleanup function. */
export function onChatUpdate(listener: Listener): () => void {
  return on("chat:update", listener);
}

/** Hears every `room:update`; returns the cleanup function. */
export function onRoomUpdate(listener: Listener): () => void {
  return on("room:update", listener);
}

/** Hears every `admin:status`; returns the cleanup function. */
export function onAdminStatus(listener: Listener): () => void {
  return on("admin:status", listener);
}

/** The two registrations of each listener: with the client, and for the events that this file makes. */
const registered: { event: string; listener: Listener; end: () => void }[] = [];

/**
 * Hears an event of the server, or one of `connected`, `disconnected {code, reason}`, `not_configured` and
 * `reconnect_failed`; returns the cleanup function. As in LandingHub, an event without data is given as its envelope.
 */
export function on(event: string, listener: Listener): () => void {
  const ends = [client().on(event, (data, envelope) => listener(data || envelope, envelope)), own.on(event, listener)];
  const entry = {
    event,
    listener,
    end() {
      const index = registered.indexOf(entry);
      if (index < 0) return;
      registered.splice(index, 1);
      for (const end of ends) end();
    },
  };
  registered.push(entry);
  return entry.end;
}

/** Without a listener: all of that event. */
export function off(event: string, listener?: Listener): void {
  for (const entry of [...registered]) {
    if (entry.event === event && (!listener || entry.listener === listener)) entry.end();
  }
}

export function getStatus(): { connected: boolean; state: State; rooms: string[] } {
  const { connected, state, rooms } = client();
  return { connected, state, rooms };
}

const NO_ROOM = "the id of a chat room is a text or a number";
const isId = (id: unknown) => (typeof id === "string" && id !== "") || typeof id === "number";
const roomIdOf = (room: string | number) => (typeof room === "string" ? room.replace(/^chat_room_/, "") : room);

/** Components call these without awaiting: nobody's failure is to be an unhandled rejection. */
function quiet<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}

const refuse = (code: string, message: string) => quiet(Promise.reject<never>(new RoomcastError(code, message)));

export default {
  initSocket,
  getSocket,
  disconnectSocket,
  sendMessage,
  joinDashboard,
  leaveDashboard,
  refreshDashboard,
  joinChatRoom,
  leaveChatRoom,
  joinRoom,
  leaveRoom,
  onDashboardUpdate,
  onChatUpdate,
  onRoomUpdate,
  onAdminStatus,
  on,
  off,
  getStatus,
};
