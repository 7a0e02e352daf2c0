/**
 * Rooms: what the application wants, and what a connection is known to be in. Pure.
 *
 * The two are reconciled: `plan` says what to ask the server for until they are equal. At most one question
 * about a room is under way on a connection, since API Gateway keeps no order.
 */
import type { Room } from "./protocol.ts";

/** What the application wants of one room, for as long as that is worth remembering. */
export interface Intent {
  wanted: boolean;
  /** Once in it, a room that does not answer is tried again, not given up. */
  confirmed?: boolean;
  /** Who waits to be in, and out. */
  join?: Waiting;
  leave?: Waiting;
}

/** What is known of one room on one connection; a room that it is not in has no fact. */
export type Fact =
  /** A question is under way. */
  | "asked"
  | "joined"
  /** No answer came: it may be in or out. */
  | "unknown";

export interface Waiting {
  promise: Promise<any>;
  resolve(value?: any): void;
  reject(error: Error): void;
}

export function waiting(): Waiting {
  const own = {} as Waiting;
  own.promise = new Promise((resolve, reject) => Object.assign(own, { resolve, reject }));
  // Whoever does not await it is not to be ended by it.
  own.promise.catch(() => {});
  return own;
}

/** `dashboard` or `chat_room_...`. */
export const isRoom = (room: unknown): room is Room =>
  typeof room === "string" && /^(dashboard$|chat_room_.)/.test(room);

export type Verb = "join" | "leave";

/** What a connection is to be asked for now. A connection that is being replaced only leaves. */
export function plan(
  intents: ReadonlyMap<string, Intent>,
  facts: ReadonlyMap<string, Fact>,
  joins: boolean | undefined,
): [room: string, verb: Verb][] {
  const steps: [string, Verb][] = [];
  for (const [room, { wanted }] of intents) {
    const fact = facts.get(room);
    const open = fact !== "asked";
    if (wanted ? joins && open && fact !== "joined" : open && fact) steps.push([room, wanted ? "join" : "leave"]);
  }
  return steps;
}
