/** What a client says in its rooms: messages, which are numbered and kept as a backend's are, and signals. */
import { RoomcastError } from "./protocol.ts";

/** What of a client is needed; `publishes` is not there, and only carries the types of a contract. */
export interface Publisher<Publishes = Record<string, unknown>> {
  readonly state: string;
  readonly connected: boolean;
  readonly publishes?: Publishes;
  send(action: any, data?: any, id?: string): Promise<any>;
}

/** The server's answer: `id` is the message's, `seq` and `epoch` its place where the room keeps a history. */
export interface Published {
  room: string;
  id: string;
  seq?: number;
  epoch?: string;
}

/** How long a message is tried, in milliseconds. */
const KEEP = 60_000;
/** Before a message is tried again that the server could not take. */
const AGAIN = 1_000;
/**
 * Signals at once, and then a second: what a stage lets a user send is for all tabs, and half of a connection's pace is
 * for other actions.
 */
const BURST = 10;
const RATE = 5;

const isPassing = (error: unknown): boolean =>
  error instanceof RoomcastError && /^(connection_lost|timeout|unavailable)$/.test(error.code);

const newId = (): string =>
  globalThis.crypto?.randomUUID?.() ?? `p${Date.now().toString(36)}${Math.random().toString(36).slice(1)}`;

/**
 * Says an event in a room that the client is in. Resolves when the server has it, and rejects with its refusal.
 *
 * It is sent again, with the same `id`, after a lost connection or answer, for a minute: where the room keeps a history
 * every member gets it once. A page that was closed meanwhile may send it again itself if it has kept the `id`.
 */
export async function publish<Publishes, Name extends keyof Publishes & string>(
  client: Publisher<Publishes>,
  room: string,
  event: Name,
  data: Publishes[Name],
  { id = newId() }: { id?: string } = {},
): Promise<Published> {
  for (const until = Date.now() + KEEP; ;) {
    try {
      return await client.send("rooms:send", { room, event, data }, id);
    } catch (error) {
      if (!isPassing(error) || Date.now() > until || client.state === "disconnected") throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN));
  }
}

const allowances = new WeakMap<object, { left: number; at: number }>();

/**
 * Says what is worthless a second later, such as a cursor or that somebody types. It is not numbered, not kept, and does
 * not wait: false means that it was dropped, since there is no connection or there were too many.
 */
export function signal<Publishes, Name extends keyof Publishes & string>(
  client: Publisher<Publishes>,
  room: string,
  event: Name,
  data: Publishes[Name],
): boolean {
  if (!client.connected) return false;
  const now = Date.now();
  const { left, at } = allowances.get(client) ?? { left: BURST, at: now };
  const allowed = Math.min(BURST, left + (Math.max(0, now - at) * RATE) / 1_000);
  allowances.set(client, { left: allowed >= 1 ? allowed - 1 : allowed, at: now });
  if (allowed < 1) return false;
  // Nobody misses a signal.
  client.send("rooms:signal", { room, event, data }).catch(() => {});
  return true;
}
