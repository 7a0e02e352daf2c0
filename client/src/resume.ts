/**
 * `createClient({ ..., resume })`: nothing of a room with history is lost between two connections. Rooms are joined
 * together, in one action, from the position that this page has in each; what is missing is asked for.
 */
import { type Connection, frame } from "./connection.ts";
import { type Envelope, type Joined, RoomcastError, type Room } from "./protocol.ts";
import type { Fact, Verb } from "./rooms.ts";
import { createStreams, type Position, type StreamAnswer } from "./streams.ts";
import type { Timers } from "./timers.ts";

export type { Position } from "./streams.ts";

/** The server takes this many rooms in one action. */
const TOGETHER = 50;
/** Messages in one page of history. */
const PAGE = 100;
/** An inbox that was not answered for is asked for again after this many milliseconds. */
const AGAIN = 5_000;
/** The room of what is sent to the user. */
const INBOX = "user";

type Step = [room: string, verb: Verb];
type Heard = (
  connection: Connection,
  room: string,
  verb: Verb,
  before: Fact | undefined,
  error: RoomcastError | undefined,
  reply: unknown,
) => void;
export interface Rooms {
  join(room: Room): Promise<Joined>;
  leave(room: Room): Promise<void>;
}

/** What a client with `resume` has in addition. */
export interface ResumeCalls<Name extends string = Room> {
  /** `since`: a position that an earlier page had, so that what came meanwhile is handed out. */
  join(room: Name, options?: { since?: Position }): Promise<Joined>;
  /** How far this page has heard each room that has a history. */
  positions(): Record<string, Position>;
  /**
   * Joins the room, then calls `load`, which fetches the room's state and shows it. What comes meanwhile is handed out
   * when `load` is done, so that nothing falls between the state and the first event.
   */
  sync<T>(room: Name, load: (joined: Joined) => T): Promise<Awaited<T>>;
}

export interface Host {
  timers_: Timers;
  timeout_(): number;
  /** The connection that a question goes over. */
  connection_(): Connection | undefined;
  emit(event: string, data: unknown): void;
  deliver_(envelope: Envelope): void;
  /** The server has named another user than before. */
  otherUser_(): void;
}

/** The server's names of a user's own two rooms become those by which the client asks for them. */
const own = (room: string): string => room.replace(/^(dashboard|user)_.*/, "$1");

export type Resume = typeof resume;
export type Resumption = ReturnType<Resume>;

export function resume(host: Host) {
  /** What came while an application loads the state of a room. */
  const loading = new Map<string, Envelope[]>();
  let inbox: string | undefined;
  const streams = createStreams({
    deliver(envelope, room) {
      const kept = loading.get(room);
      if (kept) kept.push(envelope);
      else host.deliver_(envelope);
    },
    ask(room, since) {
      const connection = host.connection_();
      if (!connection) return streams.failed(room);
      connection.ask_("rooms:history", { room, since, limit: PAGE }, host.timeout_(), (error, page) => {
        if (error) streams.failed(room);
        else streams.history(room, page);
      });
    },
    wait: (room, milliseconds) => host.timers_.start_(`hole ${room}`, milliseconds, () => streams.waited(room)),
    recovered: (room, count) => host.emit("client:recovered", { room, count }),
    gap: (room) => host.emit("client:gap", { room }),
    now: Date.now,
    random: Math.random,
  });

  function hearInbox(
    { facts_: facts, timers_: timers }: Connection,
    entry: StreamAnswer | undefined,
    again: () => void,
  ) {
    facts.set(INBOX, "joined");
    if (entry?.success) {
      if (inbox && inbox !== entry.room) host.otherUser_();
      inbox = entry.room;
    } else if (!entry || entry.code === "unavailable") {
      timers.start_(INBOX, AGAIN, () => {
        facts.delete(INBOX);
        again();
      });
    }
  }

  return {
    /**
     * Joins rooms on a connection, and the user's inbox with the first of them; gives back the steps that are left.
     * `handover`: another connection is in use.
     */
    plan_(connection: Connection, steps: Step[], handover: boolean, heard: Heard, again: () => void): Step[] {
      const { facts_: facts, together = TOGETHER } = connection;
      if (!connection.joins_ || !together) return steps;
      const rooms = steps.filter(([, verb]) => verb === "join").map(([room]) => room);
      if (!facts.has(INBOX)) rooms.push(INBOX);
      while (rooms.length) {
        const part = rooms.splice(0, together);
        const before = part.map((room) => facts.get(room));
        for (const room of part) facts.set(room, "asked");
        const entries = part.map((room) => ({ room, ...streams.join(room, handover) }));
        connection.request_({
          ...frame("rooms:join", { rooms: entries }),
          timeout_: host.timeout_(),
          quiet_: true,
          done_(error, reply) {
            if (error?.code === "connection_lost") return;
            if (error?.code === "unknown_action") {
              connection.together = 0;
              for (const room of part) if (room !== INBOX) facts.delete(room);
              return again();
            }
            // One of them may be what is never answered: the others are not to suffer from it.
            if (error && part[1]) {
              connection.together = 1;
              for (const room of part) {
                if (room === INBOX) facts.delete(room);
                else facts.set(room, "unknown");
              }
              return again();
            }
            part.forEach((room, index) => {
              const entry: StreamAnswer | undefined = reply?.rooms?.[index];
              if (entry) streams.joined(room, entry);
              if (room === INBOX) return hearInbox(connection, entry, again);
              const code = entry?.code ?? "timeout";
              const refused = entry?.success
                ? undefined
                : new RoomcastError(code, entry?.message ?? `${room}: ${code}`);
              heard(connection, room, "join", before[index], refused, entry);
            });
          },
        });
      }
      return steps.filter(([, verb]) => verb === "leave");
    },
    /** True: the message has been taken, and will be handed out in its turn or not at all. */
    message_(envelope: Envelope<any>): boolean {
      const { event, room, data } = envelope;
      if (event === "pong") {
        const heads: [string, Position][] = Object.entries(data?.rooms ?? {});
        streams.pong(Object.fromEntries(heads.map(([room, head]) => [own(room), head])));
      }
      return streams.message(room && own(room), envelope);
    },
    closed_: streams.closed,
    reset_() {
      inbox = undefined;
      loading.clear();
      streams.reset();
    },
    /** What a ping is to say. */
    heads_() {
      const rooms = Object.keys(streams.positions).slice(0, TOGETHER);
      return rooms.length ? { rooms } : undefined;
    },
    /** The client's calls that are other ones with `resume`. */
    calls_(rooms: Rooms): ResumeCalls & Rooms {
      const join: ResumeCalls["join"] = (room, { since } = {}) => {
        streams.want(room, since);
        return rooms.join(room);
      };
      const sync: ResumeCalls["sync"] = async (room, load): Promise<any> => {
        const kept: Envelope[] = loading.get(room) ?? [];
        loading.set(room, kept);
        try {
          return await load(await join(room));
        } finally {
          if (loading.get(room) === kept) loading.delete(room);
          for (const envelope of kept.splice(0)) host.deliver_(envelope);
        }
      };
      return {
        join,
        sync,
        leave(room) {
          streams.left(room);
          return rooms.leave(room);
        },
        positions: () => streams.positions,
      };
    },
  };
}
