/** Keeps each connection in the rooms that the application wants: asks, hears the answers, asks again. */
import { type Connection, frame } from "./connection.ts";
import type { Resumption } from "./resume.ts";
import { type Joined, RoomcastError, type Room, type RoomsChange } from "./protocol.ts";
import { type Fact, type Intent, plan, type Verb, waiting } from "./rooms.ts";

/**
 * `connections` are all that there are, `current` the one in use; `completed` is told of one that has an answer for every
 * wanted room.
 */
export function createMembership(
  connections: ReadonlyMap<number, Connection>,
  current: () => Connection | undefined,
  replyTimeout: () => number,
  emit: (event: string, data: object) => void,
  completed: (connection: Connection) => void,
  resume: Resumption | undefined,
) {
  /** A question that was not answered in time is put again after this many milliseconds. */
  const AGAIN = 5_000;
  const intents = new Map<string, Intent>();
  let told = " ";

  /** Asks for what is missing, on every connection, and tells what has changed. */
  function sync_() {
    for (const connection of connections.values()) {
      const steps = plan(intents, connection.facts_, connection.joins_);
      const rest = resume?.plan_(connection, steps, handover(connection), heard, sync_) ?? steps;
      for (const [room, verb] of rest) ask(connection, room, verb);
    }
    for (const [room, { wanted_: wanted, leaving_: leave }] of intents) {
      if (wanted || [...connections.values()].some(({ facts_: facts }) => facts.has(room))) continue;
      leave?.resolve_();
      intents.delete(room);
    }
    const { wanted_: wanted, joined_: joined } = own;
    const now = `${wanted} ${joined}`;
    if (now !== told) emit("client:rooms", { wanted, joined } satisfies RoomsChange);
    told = now;
  }

  const handover = (connection: Connection) => !!current() && connection !== current();

  function heard(
    connection: Connection,
    room: string,
    verb: Verb,
    before: Fact | undefined,
    error?: RoomcastError,
    reply?: unknown,
  ) {
    // A listener of an earlier room's answer may have ended everything.
    if (!connections.has(connection.id)) return;
    const { facts_: facts, timers_: timers } = connection;
    const intent = intents.get(room)!;
    const late = /^(timeout|unavailable)$/.test(error?.code!);
    if (late) {
      // It may have been carried out or not: it is asked about again, but not at once.
      timers.start_(room, AGAIN, () => {
        facts.set(room, "unknown");
        sync_();
      });
    } else if (verb === "join" && (!error || before === "unknown")) {
      // Refused now, but an earlier question may have been carried out unheard: it is left to be sure.
      facts.set(room, error ? "unknown" : "joined");
    } else facts.delete(room);
    if (verb === "leave") {
      if (error) {
        intent.leaving_?.reject_(error);
        delete intent.leaving_;
      }
    } else if (intent.wanted_) {
      // Whoever waits now, not who waited when it was asked.
      if (!error) {
        intent.confirmed_ = true;
        intent.entering_!.resolve_(reply);
      } else if (!late || !intent.confirmed_) lose(room, intent, error);
    }
    sync_();
    if (own.complete_(connection)) completed(connection);
  }

  function ask(connection: Connection, room: string, verb: Verb) {
    const { facts_: facts } = connection;
    const before = facts.get(room);
    facts.set(room, "asked");
    const [action, data] = /^chat_room_./.test(room)
      ? [`chat:${verb}_room`, { roomId: room.slice(10) }]
      : room === "dashboard"
        ? [`dashboard:${verb}`]
        : [`rooms:${verb}`, { rooms: [verb === "join" ? { room } : room] }];
    connection.request_({
      ...frame(action, data),
      timeout_: replyTimeout(),
      // At a handover the application hears nothing.
      quiet_: handover(connection),
      done_(error, reply) {
        const entry = reply?.rooms?.[0] ?? reply;
        if (entry?.code) error = new RoomcastError(entry.code, entry.message);
        if (error?.code !== "connection_lost") heard(connection, room, verb, before, error, entry);
      },
    });
  }

  function lose(room: string, intent: Intent, error: RoomcastError) {
    intent.wanted_ = false;
    intent.entering_!.reject_(error);
    emit("client:room_lost", { room, code: error.code, message: error.message });
  }

  const own = {
    get wanted_() {
      return [...intents.keys()].filter((room) => intents.get(room)!.wanted_) as Room[];
    },
    /** Of the wanted rooms those that the connection in use is in. */
    get joined_() {
      return own.wanted_.filter((room) => current()?.facts_.get(room) === "joined");
    },
    sync: sync_,
    /** Whether a connection has an answer for every wanted room. */
    complete_: ({ facts_: facts }: Connection) => own.wanted_.every((room) => facts.get(room) === "joined"),
    join(room: Room): Promise<Joined> {
      const intent = intents.get(room) ?? ({} as Intent);
      if (!intent.wanted_) {
        intent.leaving_?.resolve_();
        intents.set(room, { wanted_: true, entering_: waiting() });
        sync_();
      }
      return intents.get(room)!.entering_!.promise_;
    },
    leave(room: Room): Promise<void> {
      const intent = intents.get(room) ?? { wanted_: false, leaving_: waiting() };
      if (intent.wanted_) {
        intent.wanted_ = false;
        intent.entering_!.reject_(new RoomcastError("left", `${room} was left`));
        intent.leaving_ = waiting();
      }
      // A room that nothing is known of is left already.
      intents.set(room, intent);
      const { promise_: promise } = (intent.leaving_ ??= waiting());
      sync_();
      return promise;
    },
    /** Rejects whoever waits. The rooms are wanted still, or forgotten. */
    reject_(error: RoomcastError, forget: boolean) {
      for (const [room, intent] of intents) {
        if (!intent.wanted_) continue;
        intent.entering_!.reject_(error);
        if (!forget) intents.set(room, { wanted_: true, entering_: waiting() });
        else if (error.code === "disconnected") intent.wanted_ = false;
        else lose(room, intent, error);
      }
      sync_();
    },
  };
  return own;
}
