/** React hooks. Nothing else of the package loads React. */
import { useEffect, useRef, useState, useSyncExternalStore } from "react";
import type { Client } from "./client.ts";
import type { Envelope, RoomcastError, Room, State } from "./protocol.ts";

type AnyClient = Client<any, any>;

/** `disconnected`, `connecting` or `connected`, and a new render when it changes. */
export function useConnectionState(client: AnyClient): State {
  return useSyncExternalStore(
    (changed) => client.on("client:state", changed),
    () => client.state,
    () => "disconnected",
  );
}

/** Hears an event while the component stands. The listener of the latest render is called. */
export function useEvent<Data = any>(
  client: AnyClient,
  event: string,
  listener: (data: Data, envelope: Envelope<Data>) => void,
): void {
  const latest = useRef(listener);
  useEffect(() => {
    latest.current = listener;
  });
  useEffect(() => client.on(event, (data: any, envelope: any) => latest.current(data, envelope)), [client, event]);
}

/** How many components are in a room: the last to go leaves it. */
const users = new WeakMap<AnyClient, Map<string, number>>();

/** Is in a room while the component stands; `null` for none. */
export function useRoom(client: AnyClient, room: Room | null): { joined: boolean; error: RoomcastError | null } {
  const [status, setStatus] = useState<{ room: Room | null; joined: boolean; error: RoomcastError | null }>(outside);
  useEffect(() => {
    if (room === null) return;
    let here = true;
    const tell = (joined: boolean, error: RoomcastError | null) => here && setStatus({ room, joined, error });
    const counts = users.get(client) ?? new Map<string, number>();
    users.set(client, counts);
    counts.set(room, (counts.get(room) ?? 0) + 1);
    client.join(room).then(
      () => tell(true, null),
      (error) => tell(false, error),
    );
    const cleanup = client.on("client:room_lost", (lost: any) => lost.room === room && tell(false, lost));
    return () => {
      here = false;
      cleanup();
      counts.set(room, counts.get(room)! - 1);
      // React's strict mode goes and comes back at once: that is not to be two messages.
      queueMicrotask(() => {
        if (counts.get(room) !== 0) return;
        counts.delete(room);
        client.leave(room).catch(() => {});
      });
    };
  }, [client, room]);
  const { joined, error } = status.room === room ? status : outside;
  return { joined, error };
}

const outside = { room: null, joined: false, error: null };
