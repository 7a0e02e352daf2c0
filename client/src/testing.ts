/**
 * A server of the protocol inside a test, given to the client as `server.WebSocket`: no network, no other process.
 *
 * By itself it lets everybody in and answers every action of the protocol. A test says what else is to happen:
 * `server.admit = "refuse"`, `server.answer = (action) => ...`, `server.cut()`, `server.say(...)`. Each connection keeps
 * what it received, so that a test can look at what the client has sent. Nothing is ever answered synchronously, as on a
 * real network; it works with real and with fake timers.
 */
import type { ConnectionFacts, WebSocketLike } from "./index.ts";

/**
 * What becomes of a handshake: `open`; `flash`, open and closed at once; `refuse`, since the token is not good (a
 * handshake with `explain=1` is then let in as nobody); `busy` or `down`, as behind a 5xx, a 429 or a dead network, which
 * are all the same to a page; `hang`, never answered.
 */
export type Admit = "open" | "flash" | "refuse" | "busy" | "down" | "hang";
/** What a client has sent. */
type Answer = { event: string; data: { [field: string]: unknown } };
export type Action = { action: string; id: string; [field: string]: unknown };

export class FakeServer {
  admit: Admit = "open";
  /** Milliseconds until a handshake or an action is answered. */
  latency = 1;
  /** What is said about each connection; `undefined` plays a server that does not know of it. */
  facts: ConnectionFacts | undefined = { expiresIn: 86_400, spread: 1_000 };
  /** Whether it knows `explain=1` and `auth:check`. */
  explains = true;
  /** Why a token is refused. */
  refusal = "expired";
  /** What `auth:check` is answered with, whether or not the token is good. */
  check: (action: Action, connection: FakeConnection) => object | undefined = ({ id }, { nobody }) =>
    envelope("auth:checked", nobody ? { valid: false, code: this.refusal } : { valid: true }, id);
  /** Every handshake ever tried, refused or not. */
  attempts: { at: number; url: string }[] = [];
  /** Every connection ever made, the latest last. */
  connections: FakeConnection[] = [];
  /** What an action is answered with: `reply(action)`, an `envelope(...)` of your own, or `undefined` for silence. */
  answer: (action: Action, connection: FakeConnection) => object | undefined = (action) => reply(action);
  /** Give this to the client. */
  readonly WebSocket: new (url: string, protocols?: string[]) => WebSocketLike;

  constructor() {
    const server = this;
    this.WebSocket = class extends FakeConnection {
      constructor(url: string, protocols?: string[]) {
        super(server, url, protocols);
      }
    };
  }

  /** What is published goes to every other connection, and a message to the sender too; `from` is who publishes. */
  from: { id: string; name?: string } = { id: "u1", name: "Ann" };
  /** How everybody hears what an action has published, if it was one and was answered well. */
  published({ action, id, ...given }: Action, { event, data }: Answer): ((this: void) => void) | undefined {
    const own = this.open.find(({ received }) => received.some((one) => one.id === id));
    if (event === "rooms:signaled") {
      const others = this.open.filter((one) => one !== own);
      const rest = { room: given.room, from: this.from };
      return () => others.forEach((one) => one.say(`${given.event}`, given.data, rest));
    }
    if (event !== "rooms:sent" && event !== "chat:sent_message") return undefined;
    const chat = action === "chat:send_message";
    const room = chat ? `chat_room_${given.roomId}` : given.room;
    const rest = { room, id: data.id, from: { ...this.from, replyTo: id } };
    const said = chat ? { roomId: given.roomId, message: given.message } : given.data;
    return () => this.say(chat ? "chat:message" : `${given.event}`, said, rest);
  }

  get open(): FakeConnection[] {
    return this.connections.filter((connection) => connection.state === "open");
  }

  get last(): FakeConnection {
    return this.connections.at(-1)!;
  }

  /** Ends every connection, as when a network or a gateway fails. */
  cut(code = 1006, reason = ""): void {
    for (const connection of this.open) connection.cut(code, reason);
  }

  /** Sends an event to every open connection; `rest` are further keys of the envelope, such as `id` and `room`. */
  say(event: string, data: unknown, rest: object = {}): void {
    for (const connection of this.open) connection.say(event, data, rest);
  }
}

export class FakeConnection implements WebSocketLike {
  onopen: WebSocketLike["onopen"] = null;
  onmessage: WebSocketLike["onmessage"] = null;
  onclose: WebSocketLike["onclose"] = null;
  onerror: WebSocketLike["onerror"] = null;
  state: "connecting" | "open" | "closed" = "connecting";
  /** Every action that the client has sent over it. */
  received: Action[] = [];
  /** Let in to be told why it is refused, and for nothing else. */
  nobody = false;
  /** When the right to it ends. */
  private ends = 0;
  private readonly timers = new Set<ReturnType<typeof setTimeout>>();
  readonly server: FakeServer;
  readonly url: string;
  readonly protocols: string[] | undefined;

  constructor(server: FakeServer, url: string, protocols?: string[]) {
    this.protocols = protocols;
    this.server = server;
    this.url = url;
    server.connections.push(this);
    server.attempts.push({ at: Date.now(), url });
    if (server.admit === "hang") return;
    this.after(server.latency, () => {
      this.nobody = server.admit === "refuse" && server.explains && /[?&]explain=1(&|$)/.test(url);
      if (server.admit === "open" || server.admit === "flash" || this.nobody) {
        this.state = "open";
        this.ends = Date.now() + (server.facts?.expiresIn ?? 0) * 1_000;
        this.onopen?.({});
      }
      if (server.admit !== "open" && !this.nobody) this.cut(1006);
    });
  }

  /** The names of what was received. */
  get actions(): string[] {
    return this.received.map(({ action }) => action);
  }

  send(text: string): void {
    if (this.state !== "open") throw new Error("send on a connection that is not open");
    const action = JSON.parse(text) as Action;
    this.received.push(action);
    const { answer: answerTo, explains, check, facts } = this.server;
    if (action.action === "auth:refresh" && facts) this.ends = Date.now() + facts.expiresIn! * 1_000;
    const answer =
      explains && action.action === "auth:check"
        ? check(action, this)
        : this.nobody
          ? envelope("error", { code: "unknown_connection", message: "It has ended; connect again" }, action.id)
          : answerTo(action, this);
    const said = answer && this.server.published(action, answer as Answer);
    if (said) this.after(this.server.latency, said);
    if (answer) this.after(this.server.latency, () => this.text(JSON.stringify(answer)));
  }

  /** Does something later, unless the connection is closed by then. */
  after(milliseconds: number, task: () => void): void {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      task();
    }, milliseconds);
    this.timers.add(timer);
  }

  /** The client ends it. */
  close(): void {
    this.state = "closed";
    for (const timer of this.timers) clearTimeout(timer);
  }

  /** The server or the network ends it. */
  cut(code = 1006, reason = ""): void {
    this.close();
    this.onerror?.({});
    this.onclose?.({ code, reason });
  }

  say(event: string, data: unknown, rest: object = {}): void {
    this.text(JSON.stringify({ event, data, timestamp: "2025-01-17T10:30:00.000Z", ...rest }));
  }

  /** Sends a message as it is, an envelope or not. */
  text(data: string): void {
    if (this.state !== "open") return;
    const { facts } = this.server;
    const carries = facts && /^{"event":"(pong|auth:refreshed|\w+:joined\w*)"/.test(data);
    const own = {
      ...facts,
      ...(facts?.expiresIn && { expiresIn: Math.max(0, Math.floor((this.ends - Date.now()) / 1_000)) }),
    };
    this.onmessage?.({ data: carries ? `${data.slice(0, -1)},"connection":${JSON.stringify(own)}}` : data });
  }
}

/** A message of the server; with an action's `id` as `replyTo` it is the answer to that. */
export const envelope = (event: string, data: unknown, replyTo?: string): object => ({
  event,
  data,
  timestamp: "2025-01-17T10:30:00.000Z",
  ...(replyTo !== undefined && { replyTo }),
});

/** The answer of a server that grants everything. */
export function reply({ action, id, roomId, room, rooms }: Action): object {
  // A client with `resume` asks for its inbox too, and is told that this server knows no histories.
  const names = (Array.isArray(rooms) ? rooms : []).map((one) => one?.room ?? one);
  const entries = { rooms: names.map((room) => ({ room, success: true })) };
  switch (names.includes("user") ? "" : action) {
    case "rooms:join":
      return envelope("rooms:joined", entries, id);
    case "rooms:leave":
      return envelope("rooms:left", entries, id);
    case "rooms:send":
      return envelope("rooms:sent", { room, id: `m-${id}` }, id);
    case "rooms:signal":
      return envelope("rooms:signaled", { room }, id);
    case "rooms:presence":
      return envelope("rooms:presence", { room, version: 0, count: 0, listed: true, users: [] }, id);
    case "chat:send_message":
      return envelope("chat:sent_message", { roomId, success: true, id: `m-${id}` }, id);
    case "ping":
      return envelope("pong", { timestamp: "2025-01-17T10:30:00.000Z" }, id);
    case "auth:refresh":
      return envelope("auth:refreshed", { success: true, expiresAt: "2025-01-17T12:30:00.000Z" }, id);
    case "dashboard:join":
      return envelope("dashboard:joined", { success: true, userRole: "user", room: "dashboard_user_u1" }, id);
    case "dashboard:leave":
      return envelope("dashboard:left", { success: true, room: "dashboard_user_u1" }, id);
    case "dashboard:refresh":
      return envelope("dashboard:refresh_data", { type: "user" }, id);
    case "chat:join_room":
      return envelope("chat:joined_room", { roomId, success: true }, id);
    case "chat:leave_room":
      return envelope("chat:left_room", { roomId, success: true }, id);
    default:
      return envelope("error", { code: "unknown_action", message: "Unknown action" }, id);
  }
}

/** The answer of a server that grants no room. */
export const forbidden = ({ id, roomId }: Action): object =>
  envelope("chat:error", { code: "forbidden", message: "You may not join this room", roomId }, id);

/** A token that ends this many seconds from now. Its signature is not one. */
export function jwt(seconds: number): string {
  const claims = { userId: "u1", name: "Zoë?>", exp: Math.floor(Date.now() / 1000) + seconds };
  return `${base64url({ alg: "HS256" })}.${base64url(claims)}.x`;
}

function base64url(value: object): string {
  // btoa takes bytes; TextEncoder is missing under jsdom.
  const bytes = encodeURIComponent(JSON.stringify(value)).replace(/%(..)/g, (_, hex: string) =>
    String.fromCharCode(parseInt(hex, 16)),
  );
  return btoa(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}
export { FakeStreams } from "./testing-streams.ts";
