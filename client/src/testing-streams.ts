/** The streams of the fake server: rooms that number and keep what is sent to them. */
import type { Action, FakeConnection, FakeServer } from "./testing.ts";

interface Kept {
  event: string;
  data: unknown;
  id: string;
  room: string;
  epoch: string;
  seq: number;
}

/** How many messages a page or a room's part of an answer holds, so that tests meet further pages. */
const PAGE = 10;

/**
 * `new FakeStreams(server)` makes a `FakeServer` answer `rooms:join`, `rooms:history` and the positions of a ping, for
 * chat rooms and the inbox `user_u1`. `send` numbers and keeps a message, and posts it to the members.
 */
export class FakeStreams {
  /** How many messages a room keeps. */
  keeps = 1_000;
  /** Of all streams; another one is another life of them. */
  epoch = "a";
  /** Whether a copy for this connection is posted; a lost post is one that nobody hears of. */
  posts: (connection: FakeConnection) => boolean = () => true;
  /** Milliseconds until a copy is there. */
  delay: () => number = () => 1;
  /** Rooms that are refused. */
  readonly forbidden = new Set<string>();
  readonly members = new WeakMap<FakeConnection, Set<string>>();
  private readonly rooms = new Map<string, { epoch: string; seq: number; kept: Kept[] }>();
  private readonly server: FakeServer;

  constructor(server: FakeServer) {
    this.server = server;
    const before = server.answer;
    server.answer = (action, connection) => this.answer(action, connection) ?? before(action, connection);
  }

  of(connection: FakeConnection): Set<string> {
    const own = this.members.get(connection) ?? new Set();
    this.members.set(connection, own);
    return own;
  }

  send(room: string, event: string, data: unknown): number {
    const stream = this.stream(room);
    const message = {
      event,
      data,
      id: `${room} ${stream.epoch} ${++stream.seq}`,
      room,
      epoch: stream.epoch,
      seq: stream.seq,
    };
    stream.kept.push(message);
    stream.kept.splice(0, stream.kept.length - this.keeps);
    for (const connection of this.server.open) {
      if (!this.of(connection).has(room) || !this.posts(connection)) continue;
      connection.after(this.delay(), () => connection.text(JSON.stringify(message)));
    }
    return message.seq;
  }

  /** The position of a room's newest message. */
  head(room: string): { epoch: string; seq: number } {
    const { epoch, seq } = this.stream(room);
    return { epoch, seq };
  }

  private stream(room: string) {
    let stream = this.rooms.get(room);
    if (stream?.epoch !== this.epoch) this.rooms.set(room, (stream = { epoch: this.epoch, seq: 0, kept: [] }));
    return stream!;
  }

  /** What comes after a position: all of it, page by page, or nothing. */
  private page(room: string, since: { epoch: string; seq: number } | undefined) {
    const { epoch, seq, kept } = this.stream(room);
    const after = since ? kept.filter((message) => message.seq > since.seq) : [];
    const recovered = !!since && since.epoch === epoch && since.seq <= seq && after.length === seq - since.seq;
    const messages = recovered ? after.slice(0, PAGE) : [];
    return { room, epoch, seq, recovered, messages, more: recovered && messages.length < after.length };
  }

  answer(action: Action, connection: FakeConnection): object | undefined {
    const say = (event: string, data: unknown) => ({ event, data, replyTo: action.id });
    switch (action.action) {
      case "rooms:join":
        return say("rooms:joined", {
          rooms: (action["rooms"] as { room: string; since?: any }[]).map(({ room: asked, since }) => {
            const room = asked === "user" ? "user_u1" : asked;
            if (this.forbidden.has(room)) return { room, success: false, code: "forbidden", message: "no" };
            this.of(connection).add(room);
            if (asked === "dashboard") return { room: "dashboard_user_u1", asked, success: true };
            return {
              ...this.page(room, since),
              success: true,
              wasRecovering: !!since,
              history: { seconds: 86_400, messages: this.keeps },
              ...(room !== asked && { asked }),
            };
          }),
        });
      case "rooms:history": {
        const room = action["room"] === "user" ? "user_u1" : `${action["room"]}`;
        if (this.of(connection).has(room)) return say("rooms:history", this.page(room, action["since"] as any));
        return say("error", { code: "not_a_member", message: "no" });
      }
      case "ping": {
        const heads = ((action["rooms"] as string[]) ?? [])
          .map((room) => (room === "user" ? "user_u1" : room))
          .filter((room) => this.of(connection).has(room))
          .map((room) => [room, this.head(room)]);
        return say("pong", { timestamp: "2025-01-17T10:30:00.000Z", rooms: Object.fromEntries(heads) });
      }
      case "chat:leave_room":
        this.of(connection).delete(`chat_room_${action["roomId"]}`);
        return undefined;
      case "dashboard:leave":
        this.of(connection).delete("dashboard");
        return undefined;
    }
    return undefined;
  }
}
