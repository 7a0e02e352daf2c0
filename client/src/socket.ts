/**
 * LandingHub's `socket.js`: the same functions over one shared client.
 *
 * Every function may be called before `initSocket()`: listeners and rooms wait for it. Arguments that
 * LandingHub's components pass and that the token says better (a user id, a role) are ignored.
 */
import { type Client, type ClientOptions, createClient } from "./client.ts";
import type { Joined, State } from "./protocol.ts";

export interface SocketOptions extends Partial<ClientOptions> {
  /** Instead of `localStorage.token`. */
  token?: string;
}

declare const process: { env: Record<string, string | undefined> };

const defaults: ClientOptions = {
  url() {
    const address = environmentUrl();
    if (!address) throw new Error("no WebSocket URL: set REACT_APP_WEBSOCKET_URL or VITE_WEBSOCKET_URL, or give `url`");
    return address;
  },
  getToken: () => globalThis.localStorage?.getItem("token"),
  autoConnect: false,
};
const options = { ...defaults };
let shared: Client<Record<string, any>> | undefined;

const client = (): Client<Record<string, any>> => (shared ??= createClient(options));

/** What a bundler puts in: both names must stand here whole, it replaces them as text. */
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

/** Connects, once: a second call changes nothing while the first connection stands. Takes options or a token. */
export function initSocket(given: SocketOptions | string = {}): Client<Record<string, any>> {
  if (client().state === "disconnected") {
    const { token, ...rest } = typeof given === "string" ? { token: given } : given;
    Object.assign(options, defaults, token !== undefined && { getToken: () => token }, rest);
    client().connect();
  }
  return client();
}

/** The shared client, or null before `initSocket()` and after `disconnectSocket()`. */
export function getSocket(): Client<Record<string, any>> | null {
  return shared && shared.state !== "disconnected" ? shared : null;
}

/** Closes the connection and forgets the rooms. Listeners stay for the next `initSocket()`. */
export function disconnectSocket(): void {
  shared?.disconnect();
}

export function joinDashboard(..._: unknown[]): Promise<Joined> {
  return client().join("dashboard");
}

export function leaveDashboard(..._: unknown[]): Promise<void> {
  return quiet(client().leave("dashboard"));
}

/** Asks for `dashboard:refresh_data`; without a connection it is said as soon as there is one. */
export function refreshDashboard(): Promise<{ type: "admin" | "user" }> {
  return quiet(client().send("dashboard:refresh", {}));
}

export function joinChatRoom(roomId: string): Promise<Joined> {
  return client().join(`chat_room_${roomId}`);
}

export function leaveChatRoom(roomId: string): Promise<void> {
  return quiet(client().leave(`chat_room_${roomId}`));
}

/** Hears every `dashboard:update`; returns the cleanup function. */
export function onDashboardUpdate(listener: (data: any) => void): () => void {
  return on("dashboard:update", listener);
}

/** Hears an event; returns the cleanup function. */
export function on(event: string, listener: (data: any, envelope: any) => void): () => void {
  return client().on(event, listener);
}

export function off(event: string, listener?: (data: any, envelope: any) => void): void {
  client().off(event, listener);
}

export function getStatus(): { connected: boolean; state: State; rooms: string[] } {
  const { connected, state, rooms } = client();
  return { connected, state, rooms };
}

/** Components call these without awaiting: nobody's failure is to be an unhandled rejection. */
function quiet<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}
