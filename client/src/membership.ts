/** Keeps each connection in the rooms that the application wants: asks, hears the answers, asks again. */
import { type Connection, frame } from "./connection.ts";
import { type Joined, RoomcastError, type Room, type RoomsChange } from "./protocol.ts";
import { complete, type Intent, isRoom, plan, type Verb, waiting } from "./rooms.ts";

export interface World {
  replyTimeout(): number;
  emit(event: string, data: object): void;
  /** The connection has an answer for every wanted room. */
  completed(connection: Connection): void;
}

const PAUSE = 1_000;
const MAX_PAUSE = 30_000;

export function createMembership({ replyTimeout, emit, completed }: World) {
  const intents = new Map<string, Intent>();
  const connections = new Set<Connection>();
  let current: Connection | undefined;
  let told = " ";

  function sync() {
    for (const connection of connections) {
      for (const [room, verb] of plan(intents, connection.facts, !connection.retired)) ask(connection, room, verb);
    }
    for (const [room, intent] of intents) {
      if (intent.wanted || [...connections].some(({ facts }) => facts.has(room))) continue;
      intent.leave?.resolve();
      intents.delete(room);
    }
    const { wanted, joined } = own;
    const now = `${wanted} ${joined}`;
    if (now !== told) emit("client:rooms", { wanted, joined } satisfies RoomsChange);
    told = now;
  }

  function ask(connection: Connection, room: string, verb: Verb) {
    connection.facts.set(room, "asked");
    const [action, data] =
      room === "dashboard" ? [`dashboard:${verb}`] : [`chat:${verb}_room`, { roomId: room.slice(10) }];
    connection.request({
      ...frame(action, data),
      timeout: replyTimeout(),
      // At a handover the application hears nothing.
      quiet: !!current && connection !== current,
      done(error, reply) {
        if (error?.code === "connection_lost") return;
        answered(connection, room, verb, error, reply);
        sync();
        if (own.complete(connection)) completed(connection);
      },
    });
  }

  function answered(
    connection: Connection,
    room: string,
    verb: Verb,
    error: RoomcastError | undefined,
    reply: unknown,
  ) {
    const { facts } = connection;
    const intent = intents.get(room)!;
    const joins = verb === "join";
    facts.delete(room);
    if (!error) {
      if (!joins) return;
      facts.set(room, "joined");
      // Whoever waits now, not who waited when it was asked.
      if (!intent.wanted) return;
      intent.confirmed = true;
      intent.join!.resolve(reply);
      return;
    }
    if (error.code === "timeout") {
      facts.set(room, "paused");
      connection.timers.start(room, Math.min(MAX_PAUSE, PAUSE * 2 ** connection.tries++), () =>
        touch(room, connection),
      );
      if (joins && intent.confirmed) return;
    }
    if (joins) return void (intent.wanted && lose(room, intent, error));
    intent.leave?.reject(error);
    delete intent.leave;
  }

  function lose(room: string, intent: Intent, error: RoomcastError) {
    intent.wanted = false;
    intent.join!.reject(error);
    emit("client:room_lost", { room, code: error.code, message: error.message });
  }

  /** Asks about a room again that was not answered for. */
  function touch(room: string, ...touched: Connection[]) {
    for (const { facts } of touched) if (facts.get(room) === "paused") facts.set(room, "unknown");
    sync();
  }

  const own = {
    get wanted() {
      return [...intents.keys()].filter((room) => intents.get(room)!.wanted) as Room[];
    },
    /** Of the wanted rooms those that the connection in use is in. */
    get joined() {
      return own.wanted.filter((room) => current?.facts.get(room) === "joined");
    },
    /** Joins the wanted rooms on a connection. */
    enter(connection: Connection) {
      connections.add(connection);
      sync();
    },
    /** The connection is the one in use. */
    use(connection: Connection) {
      if (current) current.retired = true;
      current = connection;
      sync();
    },
    /** The connection is gone, and in no room. */
    drop(connection: Connection) {
      connections.delete(connection);
      if (connection === current) current = undefined;
      sync();
    },
    /** Whether a connection has an answer for every wanted room. */
    complete: ({ facts }: Connection) => complete(intents, facts),
    join(room: Room): Promise<Joined> {
      if (!isRoom(room)) {
        const refused = waiting();
        refused.reject(new RoomcastError("unknown_room", `${room} is neither "dashboard" nor "chat_room_..."`));
        return refused.promise;
      }
      const intent = intents.get(room) ?? ({} as Intent);
      if (!intent.wanted) {
        intent.leave?.resolve();
        intents.set(room, { wanted: true, join: waiting() });
        touch(room, ...connections);
      }
      return intents.get(room)!.join!.promise;
    },
    leave(room: Room): Promise<void> {
      const intent = intents.get(room) ?? { wanted: false, leave: waiting() };
      if (intent.wanted) {
        intent.wanted = false;
        intent.join!.reject(new RoomcastError("left", `${room} was left before it was joined`));
        intent.leave = waiting();
      }
      // A room that nothing is known of is left already.
      intents.set(room, intent);
      const { promise } = (intent.leave ??= waiting());
      touch(room, ...connections);
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
