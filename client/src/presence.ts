/** Who is in a room: the state that the server gives, and then its changes, one version after the other. */
import type { Envelope, User } from "./protocol.ts";

/** `listed`: the users are known. Otherwise the room is too large, or of a kind that only counts. */
export interface Presence {
  count: number;
  listed: boolean;
  users: User[];
}

interface Change {
  room: string;
  version: number;
  user?: User;
  count?: number;
  listed?: boolean;
}

export interface Watched {
  readonly joined: readonly string[];
  on(event: any, listener: (data: any, envelope: Envelope<any>) => void): () => void;
  send(action: any, data?: any): Promise<any>;
}

/** A version that is missing may still come: events overtake each other. */
const WINDOW = 1_000;
/** After a question that was not answered. */
const AGAIN = 5_000;

/**
 * Calls back with who is in a room, now and at each change, for as long as the client is in the room. `room` is its name
 * at the server. Returns the function that ends it.
 */
export function presence(client: Watched, room: string, listener: (presence: Presence) => void): () => void {
  let version = -1;
  let users = new Map<string, User>();
  let state: Presence = { count: 0, listed: false, users: [] };
  let held: { name: string; change: Change }[] = [];
  let asking = false;
  let inside = false;
  let over = false;
  let timer: ReturnType<typeof setTimeout> | undefined;

  function tell(count: number, listed: boolean) {
    state = { count, listed, users: [...users.values()] };
    listener(state);
  }

  function later(milliseconds: number) {
    clearTimeout(timer);
    if (!over && inside) timer = setTimeout(ask, milliseconds);
  }

  async function ask() {
    if (asking || over || !inside) return;
    asking = true;
    const answer = await client.send("rooms:presence", { room }).catch((error) => ({ refused: error.code }));
    asking = false;
    if (over || !inside) return;
    if (answer.refused) {
      // Another refusal, such as `no_presence`, is the last word.
      if (/^(timeout|unavailable)$/.test(answer.refused)) later(AGAIN);
      return;
    }
    if (answer.version >= version) {
      version = answer.version;
      users = new Map((answer.users ?? []).map((user: User) => [user.id, user]));
      tell(answer.count, answer.listed && !!answer.users);
    }
    apply();
  }

  /** Applies what is next, drops what is known, and asks if something is missing. */
  function apply() {
    for (const { name, change } of held.sort((a, b) => a.change.version - b.change.version)) {
      if (change.version !== version + 1) continue;
      version = change.version;
      if (name === "count") {
        users.clear();
        tell(change.count ?? 0, false);
        // The users of a room that has become smaller are listed again.
        if (change.listed) later(Math.random() * WINDOW);
      } else {
        if (name === "joined") users.set(change.user!.id, change.user!);
        else users.delete(change.user!.id);
        tell(users.size, true);
      }
    }
    held = held.filter(({ change }) => change.version > version);
    if (held.length) later(WINDOW * (1 + Math.random()));
  }

  const stops = ["joined", "left", "count"].map((name) =>
    client.on(`presence:${name}`, (change: Change) => {
      if (change?.room !== room) return;
      held.push({ name, change });
      if (!asking && version >= 0) apply();
    }),
  );
  /** Each time that the client comes into the room, since changes were missed. */
  function follow() {
    const before = inside;
    inside = client.joined.includes(room);
    if (inside === before) return;
    clearTimeout(timer);
    version = -1;
    held = [];
    void ask();
  }
  stops.push(client.on("client:rooms", follow), client.on("client:state", follow));
  follow();
  return () => {
    over = true;
    clearTimeout(timer);
    for (const stop of stops) stop();
  };
}
