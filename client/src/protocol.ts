/** What goes over the wire, as types. The sample envelopes of both languages' tests are the other half of this file. */

/** One message of the server. */
export interface Envelope<Data = unknown> {
  event: string;
  data: Data;
  timestamp?: string;
  /** Who has published it, by the token; none with what a backend sends. `replyTo` is the `id` of the action. */
  from?: { id: string; name?: string; replyTo?: string };
  /** The same for every copy of one send: a receiver drops repeats. */
  id?: string;
  room?: string;
  /** The `id` of the action that this answers. */
  replyTo?: string;
  /** What the server says about this connection, with the answers to joins, `ping` and `auth:refresh`. */
  connection?: ConnectionFacts;
  [key: string]: unknown;
}

/** Relative times, so that a wrong clock on either side does not matter. */
export interface ConnectionFacts {
  /** Seconds until the right to this connection ends: no event comes afterwards. */
  expiresIn?: number;
  /** Milliseconds over which the clients of this stage are to spread their reconnects. */
  spread?: number;
}

export interface ServerError {
  code: string;
  message: string;
  roomId?: string;
  /** Seconds, with `rate_limited`. */
  retryAfter?: number;
}

/** What a room shows of a user. */
export interface User {
  id: string;
  name?: string;
}

/** The events that the protocol itself defines. An application adds its own as `createClient<MyEvents>()`. */
export interface ProtocolEvents {
  "dashboard:joined": { success: boolean; userRole: "admin" | "user"; room: string };
  "dashboard:left": { success: boolean; room: string };
  "dashboard:refresh_data": { type: "admin" | "user" };
  "dashboard:update": { type: string; [key: string]: unknown };
  "chat:joined_room": { roomId: string; success: boolean };
  "chat:left_room": { roomId: string; success: boolean };
  "chat:error": ServerError;
  error: ServerError;
  /** Whether the token of an earlier refused handshake is good; `code` is `expired`, `revoked` or `invalid`. */
  "auth:checked": { valid: boolean; code?: string };
  "rooms:sent": { room: string; id: string; seq?: number; epoch?: string };
  "chat:sent_message": { roomId: string; success: boolean; id: string; seq?: number; epoch?: string };
  "rooms:signaled": { room: string };
  "rooms:presence": { room: string; version: number; count: number; listed: boolean; users?: User[] };
  "presence:joined": { room: string; version: number; user: User };
  "presence:left": { room: string; version: number; user: User };
  "presence:count": { room: string; version: number; count: number; listed: boolean };
  "auth:refreshed": { success: boolean; expiresAt: string };
  pong: { timestamp: string };
}

/** The events of the client itself. No event of the server is given out under these names. */
export interface ClientEvents {
  "client:state": StateChange;
  /** An attempt to connect failed; the next one comes in `delay` milliseconds. */
  "client:retry": { delay: number; reason: string };
  /** A room could not be joined, or not again after a reconnect: the grant is gone, say. */
  "client:room_lost": ServerError & { room: Room };
  /** The rooms that are wanted, or those that the connection is in, have changed. */
  "client:rooms": RoomsChange;
  /** With `resume`: a room is joined again, and its `count` missed messages have been handed out. */
  "client:recovered": { room: string; count: number };
  /** With `resume`: messages of the room are missing and cannot be had any more. The state is to be loaded again. */
  "client:gap": { room: string };
  /** Every message of the server that is not a repeat. */
  "*": unknown;
}

/** What each action takes and what its reply carries. */
export interface ProtocolActions {
  "dashboard:join": { data: object; reply: ProtocolEvents["dashboard:joined"] };
  "dashboard:leave": { data: object; reply: ProtocolEvents["dashboard:left"] };
  "dashboard:refresh": { data: object; reply: ProtocolEvents["dashboard:refresh_data"] };
  "chat:join_room": { data: { roomId: string }; reply: ProtocolEvents["chat:joined_room"] };
  "chat:leave_room": { data: { roomId: string }; reply: ProtocolEvents["chat:left_room"] };
  "chat:send_message": { data: { roomId: string; message: unknown }; reply: ProtocolEvents["chat:sent_message"] };
  "rooms:send": { data: { room: string; event: string; data: unknown }; reply: ProtocolEvents["rooms:sent"] };
  "rooms:signal": { data: { room: string; event: string; data: unknown }; reply: ProtocolEvents["rooms:signaled"] };
  "rooms:presence": { data: { room: string }; reply: ProtocolEvents["rooms:presence"] };
  "auth:check": { data: { token?: string; ticket?: string }; reply: ProtocolEvents["auth:checked"] };
  "auth:refresh": { data: { token: string }; reply: ProtocolEvents["auth:refreshed"] };
  ping: { data: object; reply: ProtocolEvents["pong"] };
}

export type ActionMap = Record<string, { data: object; reply: unknown }>;
/** `dashboard` is the user's own dashboard room; a chat room carries its id; `all` are broadcasts, if they are kept. */
export type Room = "dashboard" | `chat_room_${string}` | "all";
export type Joined = ProtocolEvents["dashboard:joined"] | ProtocolEvents["chat:joined_room"] | RoomJoined;
/** A room's part of the answer to `rooms:join`; the rest of it only where the room has a history. */
export interface RoomJoined {
  room: string;
  success: boolean;
  epoch?: string;
  seq?: number;
  recovered?: boolean;
  members?: number;
}

export type State = "disconnected" | "connecting" | "connected";

/**
 * Why the state changed:
 * `requested` by the application; `opened`; `lost`: the connection was closed, `reason` says how;
 * `no_reply`: it was open and of no use any more; `auth_failed`: there is no token, or the server has said that it
 * is not good; `connection_limit`: the server let a newer connection of this user in instead, and this one stays out
 * until `connect()` or until the page is shown; `user_changed`: `getToken` gave another user's token.
 */
export type StateCode =
  "requested" | "opened" | "lost" | "no_reply" | "auth_failed" | "connection_limit" | "user_changed";

export interface StateChange {
  state: State;
  previous: State;
  code: StateCode;
  reason: string;
}

/** Intent and fact: `wanted` are the rooms of `join()` without a `leave()`, `joined` those that the connection is in. */
export interface RoomsChange {
  wanted: Room[];
  joined: Room[];
}

/**
 * Everything that a promise of this package rejects with. `code` is the server's own (`forbidden`,
 * `unknown_action`, ...) or one of the client's: `timeout`, `connection_lost` (sent, but nobody knows
 * whether it was carried out), `queue_full`, `too_large`, `disconnected`, `auth_failed`, `connection_limit`,
 * `user_changed`, `left`.
 */
export class RoomcastError extends Error {
  declare readonly name: "RoomcastError";
  declare readonly code: string;
  /** The data of the server's error event, when the server said it. */
  declare readonly data: ServerError | undefined;

  constructor(code: string, message: string, data?: ServerError) {
    super(message);
    Object.assign(this, { name: "RoomcastError", code, data });
  }
}
