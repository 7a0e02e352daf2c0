/** React hooks, which follow the client's state. Nothing else of the package loads React. */
import { useCallback, useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import type { Client } from "./client.ts";
import { type Presence, presence } from "./presence.ts";
import { publish, type Published, signal } from "./publish.ts";
import { type Envelope, RoomcastError, type Room, type State } from "./protocol.ts";

type AnyClient = Client<any, any, any, any, any, any>;
/** The rooms of a client, by its contract. */
type RoomOf<C extends AnyClient> = C["rooms"][number];
type Nobody = null | undefined;

/** `disconnected`, `connecting` or `connected`, with a new render when it changes. Without a client: `disconnected`. */
export function useConnectionState(client: AnyClient | Nobody): State {
  return useSyncExternalStore(
    useCallback((changed) => client?.on("client:state", changed) ?? nothing, [client]),
    () => client?.state ?? "disconnected",
    () => "disconnected",
  );
}

/**
 * Hears an event while the component is mounted. The listener of the latest render is called. Events and their data
 * are those of the client's type.
 */
export function useEvent<AllEvents extends object, Event extends keyof AllEvents & string>(
  client: Client<any, any, AllEvents, any, any, any> | Nobody,
  event: Event,
  listener: (data: AllEvents[Event], envelope: Envelope<AllEvents[Event]>) => void,
): void {
  const latest = useRef(listener);
  useEffect(() => {
    latest.current = listener;
  });
  useEffect(() => client?.on(event, (data, envelope) => latest.current(data, envelope)), [client, event]);
}

export interface RoomState {
  /** The client is to be in the room: it is joined, or will be as soon as there is a connection. */
  wanted: boolean;
  /** The connection is in the room. */
  joined: boolean;
  /**
   * No event of the room was missed since the component mounted, as far as is known. It is `false` after the connection
   * was lost, unless the server has given what was missed: load the present state again then.
   */
  recovered: boolean;
  /** Why the room may not be joined, until it is wanted again. */
  error: RoomcastError | null;
}

const OUTSIDE: RoomState = { wanted: false, joined: false, recovered: false, error: null };

/**
 * Is in a room while the component is mounted; `null` for no client or no room. The last of several components to go
 * leaves the room. A refused room is asked for again with the next connection, or when the application calls `join`.
 */
export function useRoom<C extends AnyClient>(client: C | Nobody, room: RoomOf<C> | Nobody): RoomState {
  return useSyncExternalStore(
    useCallback((changed) => (client && room ? roomsOf(client).enter(room, changed) : nothing), [client, room]),
    () => (client && room ? roomsOf(client).state(room) : OUTSIDE),
    () => OUTSIDE,
  );
}

/** Who is in a room that the client is in, by `useRoom` or otherwise; nothing until the server has said it. */
export function usePresence<C extends AnyClient>(client: C | Nobody, room: RoomOf<C> | Nobody): Presence | undefined {
  const [state, setState] = useState<Presence>();
  useEffect(() => {
    setState(undefined);
    return client && room ? presence(client, room, setState) : undefined;
  }, [client, room]);
  return state;
}

export interface Publish {
  publish(event: string, data: unknown, options?: { id?: string }): Promise<Published>;
  signal(event: string, data: unknown): boolean;
}

/** `publish` and `signal` of `roomcast/publish`, for one room; the same functions at every render. */
export function usePublish<C extends AnyClient>(client: C | Nobody, room: RoomOf<C> | Nobody): Publish {
  return useMemo(
    () => ({
      publish: (event, data, options) =>
        client && room
          ? publish(client, room, event, data, options)
          : Promise.reject(new RoomcastError("disconnected", "there is no client or no room")),
      signal: (event, data) => !!client && !!room && signal(client, room, event, data),
    }),
    [client, room],
  );
}

/** What the components that use a room share. */
interface Entry {
  changed: Set<() => void>;
  state: RoomState;
  /** It was joined since the first component came; `missed`: and then was not, for a while. */
  joinedOnce: boolean;
  missed: boolean;
  /** What was missed has been given, since the connection was lost. */
  given: boolean;
}

interface Rooms {
  enter(room: Room, changed: () => void): () => void;
  state(room: Room): RoomState;
}

const all = new WeakMap<AnyClient, Rooms>();

function roomsOf(client: AnyClient): Rooms {
  const known = all.get(client);
  if (known) return known;
  const entries = new Map<Room, Entry>();
  let unwatch: (() => void)[] = [];

  function update(room: Room, entry: Entry, error = entry.state.error) {
    const wanted = client.rooms.includes(room);
    const joined = client.joined.includes(room);
    if (!joined) entry.missed ||= entry.joinedOnce;
    else if (entry.given) entry.missed = entry.given = false;
    entry.joinedOnce ||= joined;
    const next: RoomState = {
      wanted,
      joined,
      recovered: joined && !entry.missed,
      error: wanted ? null : error,
    };
    if (Object.entries(next).every(([key, value]) => entry.state[key as keyof RoomState] === value)) return;
    entry.state = next;
    for (const changed of [...entry.changed]) changed();
  }

  function join(room: Room, entry: Entry) {
    // A refusal is told as `client:room_lost`.
    client.join(room).catch(nothing);
    update(room, entry);
  }

  function watch() {
    const updateAll = () => entries.forEach((entry, room) => update(room, entry));
    const recovered = (room: string, given: boolean) => {
      const entry = entries.get(room as Room);
      if (!entry) return;
      // The room may be joined a moment after what was missed is given.
      entry.given = given;
      if (!given) entry.missed = true;
      update(room as Room, entry);
    };
    unwatch = [
      client.on("client:rooms", updateAll),
      client.on("client:state", ({ state }: { state: State }) => {
        if (state !== "connected") for (const entry of entries.values()) entry.given = false;
        updateAll();
        // `disconnect()` has forgotten the rooms, and a room that was refused may be granted by now.
        if (state === "connecting") entries.forEach((entry, room) => join(room, entry));
      }),
      client.on("client:room_lost", ({ room, code, message }: { room: Room; code: string; message: string }) => {
        const entry = entries.get(room);
        if (entry) update(room, entry, new RoomcastError(code, message));
      }),
      client.on("client:recovered", ({ room }) => recovered(room, true)),
      client.on("client:gap", ({ room }) => recovered(room, false)),
    ];
  }

  const rooms: Rooms = {
    state: (room) => entries.get(room)?.state ?? OUTSIDE,
    enter(room, changed) {
      if (!entries.size) watch();
      let entry = entries.get(room);
      if (!entry) {
        entry = { changed: new Set(), state: OUTSIDE, joinedOnce: false, missed: false, given: false };
        entries.set(room, entry);
        entry.changed.add(changed);
        join(room, entry);
      }
      entry.changed.add(changed);
      const own = entry;
      return () => {
        own.changed.delete(changed);
        // Strict mode and a hot reload go and come back at once: that is not to be two messages.
        queueMicrotask(() => {
          if (own.changed.size || entries.get(room) !== own) return;
          entries.delete(room);
          client.leave(room).catch(nothing);
          if (!entries.size) for (const end of unwatch) end();
        });
      };
    },
  };
  all.set(client, rooms);
  return rooms;
}

function nothing(): void {}
