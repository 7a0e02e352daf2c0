/** Keeps each connection in the rooms that the application wants: asks, hears the answers, asks again. */
import { type Connection, frame } from "./connection.ts";
import type { Resumption } from "./resume.ts";
import { type Joined, RoomcastError, type Room, type RoomsChange } from "./protocol.ts";
import { type Fact, type Intent, isRoom, plan, type Verb, waiting } from "./rooms.ts";

/** A question that was not answered in time is put again after this many milliseconds. */
const AGAIN = 5_000;

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
  const intents = new Map<string, Intent>();
  let told = " ";

  /** Asks for what is missing, on every connection, and tells what has changed. */
  function sync() {
    for (const connection of connections.values()) {
      const steps = plan(intents, connection.facts, connection.joins);
      const rest = resume ? resume.plan(connection, steps, handover(connection), heard, sync) : steps;
      for (const [room, verb] of rest) ask(connection, room, verb);
    }
    for (const [room, { wanted, leave }] of intents) {
      if (wanted || [...connections.values()].some(({ facts }) => facts.has(room))) continue;
      leave?.resolve();
      intents.delete(room);
    }
    const { wanted, joined } = own;
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
    answered(connection, room, verb, error, reply);
    // Refused now, but an earlier question may have been carried out unheard: it is left to be sure.
    if (verb === "join" && before === "unknown" && !connection.facts.has(room)) connection.facts.set(room, before);
    sync();
    if (own.complete(connection)) completed(connection);
  }

  function ask(connection: Connection, room: string, verb: Verb) {
    const before = connection.facts.get(room);
    connection.facts.set(room, "asked");
    const [action, data] =
      room === "dashboard" ? [`dashboard:${verb}`] : [`chat:${verb}_room`, { roomId: room.slice(10) }];
    connection.request({
      ...frame(action, data),
      timeout: replyTimeout(),
      // At a handover the application hears nothing.
      quiet: handover(connection),
      done(error, reply) {
        if (error?.code === "connection_lost") return;
        heard(connection, room, verb, before, error, reply);
      },
    });
  }

  function answered(
    { facts, timers }: Connection,
    room: string,
    verb: Verb,
    error: RoomcastError | undefined,
    reply: unknown,
  ) {
    const intent = intents.get(room)!;
    const late = error?.code === "timeout" || error?.code === "unavailable";
    if (late) {
      // It may have been carried out or not: it is asked about again, but not at once.
      timers.start(room, AGAIN, () => {
        facts.set(room, "unknown");
        sync();
      });
    } else if (verb === "join" && !error) {
      facts.set(room, "joined");
    } else {
      facts.delete(room);
    }
    if (verb === "leave") {
      if (!error) return;
      intent.leave?.reject(error);
      delete intent.leave;
    } else if (intent.wanted) {
      // Whoever waits now, not who waited when it was asked.
      if (!error) {
        intent.confirmed = true;
        intent.join!.resolve(reply);
      } else if (!late || !intent.confirmed) {
        lose(room, intent, error);
      }
    }
  }

  function lose(room: string, intent: Intent, error: RoomcastError) {
    intent.wanted = false;
    intent.join!.reject(error);
    emit("client:room_lost", { room, code: error.code, message: error.message });
  }

  const own = {
    get wanted() {
      return [...intents.keys()].filter((room) => intents.get(room)!.wanted) as Room[];
    },
    /** Of the wanted rooms those that the connection in use is in. */
    get joined() {
      return own.wanted.filter((room) => current()?.facts.get(room) === "joined");
    },
    sync,
    /** Whether a connection has an answer for every wanted room. */
    complete: ({ facts }: Connection) => own.wanted.every((room) => facts.get(room) === "joined"),
    join(room: Room): Promise<Joined> {
      if (!isRoom(room)) {
        const refused = waiting();
        refused.reject(new RoomcastError("unknown_room", `unknown room: ${room}`));
        return refused.promise;
      }
      const intent = intents.get(room) ?? ({} as Intent);
      if (!intent.wanted) {
        intent.leave?.resolve();
        intents.set(room, { wanted: true, join: waiting() });
        sync();
      }
      return intents.get(room)!.join!.promise;
    },
    leave(room: Room): Promise<void> {
      const intent = intents.get(room) ?? { wanted: false, leave: waiting() };
      if (intent.wanted) {
        intent.wanted = false;
        intent.join!.reject(new RoomcastError("left", `${room} was left`));
        intent.leave = waiting();
      }
      // A room that nothing is known of is left already.
      intents.set(room, intent);
      const { promise } = (intent.leave ??= waiting());
      sync();
      return promise;
    },
    /** Rejects whoever waits. The rooms are wanted still, or forgotten. */
    reject(error: RoomcastError, forget: boolean) {
      for (const [room, intent] of intents) {
        if (!intent.wanted) continue;
        intent.join!.reject(error);
        if (!forget) intents.set(room, { wanted: true, join: waiting() });
        else if (error.code === "disconnected") intent.wanted = false;
        else lose(room, intent, error);
      }
      sync();
    },
  };
  return own;
}
