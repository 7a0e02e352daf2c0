/**
 * A server of the protocol inside the test, given to the client as `server.WebSocket`.
 *
 * By itself it lets everybody in and answers every action of the protocol. A test says what else is
 * to happen: `server.admit = "refuse"`, `server.answer = (action) => ...`, `server.cut()`, `server.say(...)`.
 * Each connection keeps what it received, so a test can look at what the client said.
 * To play a new behaviour of the gateway, add a value to `Admit` or change `answer`; nothing is ever
 * answered synchronously, as on a real network.
 */
import { vi } from "vitest";
import type { WebSocketLike } from "../src/index.ts";

/** What a handshake comes to: open, open and closed at once, refused as by a 401, down (nobody listens), or never answered. */
export type Admit = "open" | "flash" | "refuse" | "down" | "hang";
type Action = { action: string; id: string; [field: string]: unknown };

export class FakeServer {
  admit: Admit = "open";
  latency = 1;
  /** Every handshake ever tried, refused or not. */
  attempts: { at: number; url: string }[] = [];
  connections: FakeConnection[] = [];
  /** What an action is answered with; `undefined` is silence. */
  answer: (action: Action, connection: FakeConnection) => object | undefined = (action) => reply(action);
  readonly WebSocket: new (url: string, protocols?: string[]) => WebSocketLike;

  constructor() {
    const server = this;
    this.WebSocket = class extends FakeConnection {
      constructor(url: string, protocols?: string[]) {
        super(server, url, protocols);
      }
    };
    // The client asks by HTTP whether the server is there at all.
    vi.stubGlobal("fetch", async () => {
      if (this.admit === "down" || this.admit === "hang") throw new TypeError("fetch failed");
      return new Response();
    });
  }

  get open(): FakeConnection[] {
    return this.connections.filter((connection) => connection.state === "open");
  }

  get last(): FakeConnection {
    return this.connections.at(-1)!;
  }

  /** Every connection goes at once, as when a network or a gateway fails. */
  cut(code = 1006, reason = ""): void {
    for (const connection of this.open) connection.cut(code, reason);
  }

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
  received: Action[] = [];
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
      if (server.admit === "open" || server.admit === "flash") {
        this.state = "open";
        this.onopen?.({});
      }
      if (server.admit !== "open") {
        this.cut(1006);
      }
    });
  }

  get actions(): string[] {
    return this.received.map(({ action }) => action);
  }

  send(text: string): void {
    if (this.state !== "open") throw new Error("send on a connection that is not open");
    const action = JSON.parse(text) as Action;
    this.received.push(action);
    const answer = this.server.answer(action, this);
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

  close(): void {
    this.state = "closed";
    for (const timer of this.timers) clearTimeout(timer);
  }

  cut(code = 1006, reason = ""): void {
    this.close();
    this.onerror?.({});
    this.onclose?.({ code, reason });
  }

  say(event: string, data: unknown, rest: object = {}): void {
    this.text(JSON.stringify({ event, data, timestamp: "2025-01-17T10:30:00.000Z", ...rest }));
  }

  text(data: string): void {
    if (this.state === "open") this.onmessage?.({ data });
  }
}

export function reply({ action, id, roomId }: Action): object {
  const envelope = (event: string, data: object) => ({
    event,
    data,
    timestamp: "2025-01-17T10:30:00.000Z",
    replyTo: id,
  });
  switch (action) {
    case "ping":
      return envelope("pong", { timestamp: "2025-01-17T10:30:00.000Z" });
    case "auth:refresh":
      return envelope("auth:refreshed", { success: true, expiresAt: "2025-01-17T12:30:00.000Z" });
    case "dashboard:join":
      return envelope("dashboard:joined", { success: true, userRole: "user", room: "dashboard_user_u1" });
    case "dashboard:leave":
      return envelope("dashboard:left", { success: true, room: "dashboard_user_u1" });
    case "dashboard:refresh":
      return envelope("dashboard:refresh_data", { type: "user" });
    case "chat:join_room":
      return envelope("chat:joined_room", { roomId, success: true });
    case "chat:leave_room":
      return envelope("chat:left_room", { roomId, success: true });
    default:
      return envelope("error", { code: "unknown_action", message: "Unknown action" });
  }
}

/** A JWT of which the client reads the end, in seconds from now. */
export function jwt(seconds: number): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "HS256" })}.${part({ userId: "u1", name: "Zoë?>", exp: Math.floor(Date.now() / 1000) + seconds })}.x`;
}

export const forbidden = ({ id, roomId }: Action): object => ({
  event: "chat:error",
  data: { code: "forbidden", message: "You may not join this room", roomId },
  timestamp: "2025-01-17T10:30:00.000Z",
  replyTo: id,
});
