/** Keeps each connection in the rooms that the application wants: asks, hears the answers, asks again. */
import { type Connection, frame } from "./connection.ts";
import { type Joined, RoomcastError, type Room, type RoomsChange } from "./protocol.ts";
import { complete, type Fact, type Intent, isRoom, plan, waiting } from "./rooms.ts";

export interface Membership {
  /** Joins the wanted rooms on a connection; `quiet`: the application does not hear the replies as events. */
  enter(connection: Connection, quiet: boolean): void;
  /** The connection is the one in use: its rooms are those that the application is told of. */
  use(connection: Connection): void;
  /** The connection is gone, and in no room. */
  drop(connection: Connection): void;
  /** Whether a connection has an answer for every wanted room. */
  complete(connection: Connection): boolean;
  join(room: Room): Promise<Joined>;
  leave(room: Room): Promise<void>;
  /** Rejects whoever waits. The rooms are wanted still, or forgotten. */
  reject(error: RoomcastError, forget: boolean): void;
  readonly wanted: Room[];
  readonly joined: Room[];
}

export interface World {
  replyTimeout(): number;
  emit(event: string, data: object): void;
  /** The connection has an answer for every wanted room. */
  completed(connection: Connection): void;
}

interface Line {
  facts: Map<string, Fact>;
  quiet: boolean;
  /** Another connection has taken its place: it only leaves. */
  retired: boolean;
  tries: number;
}

const PAUSE = 1_000;
const MAX_PAUSE = 30_000;

const roomFrame = (verb: string, room: string) =>
  room === "dashboard" ? frame(`dashboard:${verb}`) : frame(`chat:${verb}_room`, { roomId: room.slice(10) });

export function createMembership({ replyTimeout, emit, completed }: World): Membership {
  const intents = new Map<string, Intent>();
  const lines = new Map<Connection, Line>();
  let current: Connection | undefined;
  let told = "[]";

  function sync() {
    for (const [connection, { facts, retired }] of lines) {
      for (const { room, verb } of plan(intents, facts, !retired)) ask(connection, room, verb);
    }
    for (const [room, intent] of intents) {
      if (intent.wanted || [...lines.values()].some(({ facts }) => facts.has(room))) continue;
      intent.leave?.resolve();
      intents.delete(room);
    }
    const { wanted, joined } = own;
    const now = JSON.stringify([wanted, joined]);
    if (now !== told) {
      told = now;
      emit("client:rooms", { wanted, joined } satisfies RoomsChange);
    }
  }

  function ask(connection: Connection, room: string, verb: "join" | "leave") {
    const line = lines.get(connection)!;
    line.facts.set(room, verb === "join" ? "joining" : "leaving");
    connection.request({
      frame: roomFrame(verb, room),
      timeout: replyTimeout(),
      quiet: line.quiet,
      done(error, reply) {
        if (!lines.has(connection) || error?.code === "connection_lost") return;
        answered(connection, line, room, verb, error, reply);
        sync();
        if (own.complete(connection)) completed(connection);
      },
    });
  }

  function answered(
    connection: Connection,
    line: Line,
    room: string,
    verb: "join" | "leave",
    error: RoomcastError | undefined,
    reply: unknown,
  ) {
    const { facts } = line;
    const intent = intents.get(room)!;
    if (!error) {
      if (verb === "leave") {
        facts.delete(room);
      } else {
        facts.set(room, "joined");
        // Whoever waits now, not who waited when it was asked.
        if (intent.wanted) {
          intent.confirmed = true;
          intent.join!.resolve(reply);
        }
      }
      return;
    }
    if (error.code === "timeout") {
      facts.set(room, "paused");
      connection.timers.start(room, Math.min(MAX_PAUSE, PAUSE * 2 ** line.tries++), () => resume(room, line));
      if (verb === "join" && intent.confirmed) return;
    } else {
      facts.delete(room);
    }
    if (verb === "join" && intent.wanted) lose(room, intent, error);
    if (verb === "leave" && intent.leave) {
      intent.leave.reject(error);
      delete intent.leave;
    }
  }

  function resume(room: string, line: Line) {
    if (line.facts.get(room) === "paused") line.facts.set(room, "unknown");
    sync();
  }

  function lose(room: string, intent: Intent, error: RoomcastError) {
    intent.wanted = intent.confirmed = false;
    intent.join!.reject(error);
    emit("client:room_lost", { room, code: error.code, message: error.message });
  }

  const touch = (room: string) => {
    for (const line of lines.values()) resume(room, line);
    sync();
  };

  const own: Membership = {
    get wanted() {
      return [...intents].filter(([, { wanted }]) => wanted).map(([room]) => room as Room);
    },
    get joined() {
      const facts = lines.get(current!)?.facts;
      return own.wanted.filter((room) => facts?.get(room) === "joined");
    },
    enter(connection, quiet) {
      lines.set(connection, { facts: new Map(), quiet, retired: false, tries: 0 });
      sync();
    },
    use(connection) {
      const before = lines.get(current!);
      if (before) before.retired = true;
      current = connection;
      lines.get(connection)!.quiet = false;
      sync();
    },
    drop(connection) {
      lines.delete(connection);
      if (connection === current) current = undefined;
      sync();
    },
    complete: (connection) => complete(intents, lines.get(connection)!.facts),
    join(room) {
      if (!isRoom(room)) {
        const refused = Promise.reject(
          new RoomcastError("unknown_room", `${String(room)} is neither "dashboard" nor "chat_room_..."`),
        );
        refused.catch(() => {});
        return refused;
      }
      const intent = intents.get(room) ?? { wanted: false, confirmed: false };
      if (!intent.wanted) {
        intent.leave?.resolve();
        delete intent.leave;
        Object.assign(intent, { wanted: true, confirmed: false, join: waiting() });
        intents.set(room, intent);
        touch(room);
      }
      return intent.join!.promise;
    },
    leave(room) {
      const intent = intents.get(room);
      if (!intent) return Promise.resolve();
      if (intent.wanted) {
        intent.wanted = false;
        intent.join!.reject(new RoomcastError("left", `${room} was left before it was joined`));
        const { promise } = (intent.leave = waiting());
        touch(room);
        return promise;
      }
      return intent.leave?.promise ?? Promise.resolve();
    },
    reject(error, forget) {
      for (const [room, intent] of intents) {
        intent.join?.reject(error);
        if (!intent.wanted) continue;
        if (forget && error.code === "disconnected") intent.wanted = false;
        else if (forget) lose(room, intent, error);
        else {
          Object.assign(intent, { confirmed: false, join: waiting() });
        }
      }
      sync();
    },
  };
  return own;
}
