/**
 * Streams: one position per room, held by this page; messages are handed out in order and once.
 *
 * Pure: no clock, no socket. What is to be done is said to `Outputs`. `tests/scenarios/streams.json` holds the rules,
 * which a model in Python follows too.
 */
import type { Envelope } from "./protocol.ts";

/** A place in a room's stream. The two belong together: a number means nothing in another epoch. */
export interface Position {
  epoch: string;
  seq: number;
}

/** A room's part of the answer to `rooms:join`, or a page of `rooms:history`. */
export interface StreamAnswer extends Partial<Position> {
  room: string;
  success?: boolean;
  code?: string;
  message?: string;
  history?: { seconds: number; messages: number };
  members?: number;
  recovered?: boolean;
  messages?: Envelope[];
  more?: boolean;
}

export interface Outputs {
  deliver(envelope: Envelope, room: string): void;
  /** Asks the server for what comes after `since`; the answer is for `history` or `failed`. */
  ask(room: string, since: Position): void;
  /** Calls `waited` after so many milliseconds. */
  wait(room: string, milliseconds: number): void;
  /** A rejoin is complete, after this many messages. */
  recovered(room: string, count: number): void;
  /** Messages are missing and cannot be had any more. */
  gap(room: string): void;
  now(): number;
  random(): number;
}

/** How long posts may overtake each other, in milliseconds, until it is known better. */
const WINDOW = 1_000;
const SHORTEST = 250;
/** What takes longer than this is taken for lost. */
const SLOWEST = 5_000;
const LONGEST = 30_000;

interface Stream {
  room: string;
  position?: Position | undefined;
  /** The join is not answered yet, or has further pages. */
  joining?: boolean;
  inside?: boolean;
  lastValue?: boolean;
  members: number;
  /** What came out of turn, by epoch and number. */
  held: Map<string, Envelope & Position>;
  /** The newest position that is known of. */
  head?: Position | undefined;
  /** Since when something is missing that may still come by itself. */
  missing?: number | undefined;
  asking?: boolean;
  /** The position that the last question was put with. */
  asked?: Position;
  recovering?: boolean;
  count: number;
  failures: number;
}

const place = ({ epoch, seq }: Partial<Position>): Position => ({ epoch: epoch!, seq: seq! });
const ahead = (a: Position, b: Position) => a.epoch !== b.epoch || a.seq > b.seq;

export function createStreams(out: Outputs) {
  const streams = new Map<string, Stream>();
  const make = (room: string): Stream => ({ room, held: new Map(), members: 0, count: 0, failures: 0 });
  /** What overtaking has been seen to take. */
  let overtaking = WINDOW / 2;

  function forgetConnection(stream: Stream) {
    stream.joining = stream.inside = stream.asking = false;
    stream.missing = stream.head = undefined;
    stream.held.clear();
    stream.failures = 0;
  }

  function deliver(stream: Stream, envelope: Envelope, position: Position) {
    stream.position = position;
    if (stream.joining) stream.count++;
    out.deliver(envelope, stream.room);
  }

  /** Hands out what is next, and waits for what may still come. */
  function flush(stream: Stream) {
    for (const [key, envelope] of [...stream.held].sort(([, a], [, b]) => a.seq - b.seq)) {
      const { epoch, seq } = stream.position!;
      if (envelope.epoch !== epoch) continue;
      if (envelope.seq === seq + 1 || (stream.lastValue && envelope.seq > seq))
        deliver(stream, envelope, place(envelope));
      if (envelope.seq <= stream.position!.seq) stream.held.delete(key);
    }
    const { position, head, missing } = stream;
    const behind = stream.held.size > 0 || (head && ahead(head, position!));
    if (!behind && missing) {
      overtaking = Math.min(SLOWEST, Math.max(overtaking * 0.95, Math.abs(out.now() - missing)));
    }
    if (!behind || stream.asking) stream.missing = undefined;
    else if (!missing) wait(stream);
  }

  /** Not all members of a large room are to ask at one moment. */
  function wait(stream: Stream) {
    stream.missing = out.now();
    const window = Math.max(SHORTEST, 2 * overtaking) * 2 ** stream.failures;
    const spread = (window + stream.members) * out.random();
    out.wait(stream.room, Math.min(LONGEST, window) + Math.min(LONGEST, spread));
  }

  function ask(stream: Stream) {
    stream.asking = true;
    stream.asked = stream.position!;
    stream.missing = undefined;
    out.ask(stream.room, stream.position!);
  }

  function learn(stream: Stream, head: Position) {
    if (!stream.head || ahead(head, stream.head)) stream.head = head;
    flush(stream);
  }

  /** Takes a page, or that there is none. */
  function answer(stream: Stream, page: StreamAnswer) {
    const head = place(page);
    const known = stream.position;
    stream.head = undefined;
    stream.failures = 0;
    if (!known || stream.lastValue) {
      for (const message of stream.lastValue ? (page.messages ?? []) : []) {
        const at = { epoch: head.epoch, seq: message.seq as number };
        if (!stream.position || ahead(at, stream.position)) deliver(stream, message, at);
      }
      if (!stream.position || ahead(head, stream.position)) stream.position = head;
    } else if (!page.recovered || head.epoch !== known.epoch) {
      out.gap(stream.room);
      stream.position = head;
      stream.recovering = false;
    } else {
      for (const message of page.messages ?? []) {
        const seq = message.seq as number;
        if (seq === stream.position!.seq + 1) deliver(stream, message, { epoch: head.epoch, seq });
      }
      if (page.more) return ask(stream);
      if (ahead(head, stream.position!)) stream.head = head;
    }
    if (stream.joining) {
      stream.inside = true;
      stream.joining = false;
      if (stream.recovering) out.recovered(stream.room, stream.count);
    }
    for (const [key, { epoch }] of stream.held) if (epoch !== stream.position!.epoch) stream.held.delete(key);
    flush(stream);
  }

  function failed(room: string) {
    const stream = streams.get(room);
    if (!stream?.asking) return;
    stream.asking = false;
    stream.failures = Math.min(5, stream.failures + 1);
    wait(stream);
  }

  return {
    /** What a join of the room is to say. `handover`: another connection is still open, and brings everything. */
    join(room: string, handover: boolean): { since?: Position } {
      const stream = streams.get(room) ?? make(room);
      streams.set(room, stream);
      if (handover && stream.inside) return {};
      forgetConnection(stream);
      stream.joining = true;
      stream.count = 0;
      stream.recovering = !!stream.position;
      return stream.position ? { since: stream.position } : {};
    },
    /**
     * The application wants to be in the room: what comes from now on is held until a join is answered, which may be one
     * that was asked for before it left. `since`: the position of an earlier life of the page.
     */
    want(room: string, since?: Position) {
      const stream = streams.get(room) ?? { ...make(room), joining: true };
      stream.position ??= since;
      streams.set(room, stream);
    },
    joined(room: string, entry: StreamAnswer) {
      const stream = streams.get(room);
      if (!stream) return;
      if (entry.success === false) {
        forgetConnection(stream);
        if (entry.code !== "unavailable") stream.position = undefined;
      } else if (entry.epoch === undefined) {
        stream.joining = false;
        stream.inside = true;
      } else if (stream.inside && stream.position) {
        learn(stream, place(entry));
      } else {
        stream.lastValue = entry.history?.messages === 1;
        stream.members = entry.members ?? 0;
        answer(stream, entry);
      }
    },
    /** True: the message has been taken, and will be handed out in its turn or not at all. */
    message(room: string | undefined, envelope: Envelope): boolean {
      const { seq, epoch } = envelope as Envelope & Position;
      const stream = streams.get(room!);
      // Every connection gets what is sent to `all`, also where the application has not joined it.
      if (typeof seq !== "number" || !room || (room === "all" && !stream)) return false;
      if (stream?.joining || stream?.inside) {
        stream.held.set(`${epoch} ${seq}`, envelope as Envelope & Position);
        if (stream.inside && stream.position) flush(stream);
      }
      return true;
    },
    history(room: string, page: StreamAnswer) {
      const stream = streams.get(room);
      if (!stream?.asking) return;
      // An empty page that promises more would be asked for again and again.
      if (page.more && !page.messages?.length) return failed(room);
      stream.asking = false;
      const asked = stream.asked!;
      const head = place(page);
      const passed = stream.position !== asked && head.epoch === asked.epoch && head.seq >= asked.seq;
      // Late messages have come meanwhile: what is still missing is asked for again.
      if (!page.recovered && passed && stream.inside) learn(stream, head);
      else answer(stream, page);
    },
    failed,
    waited(room: string) {
      const stream = streams.get(room);
      if (stream?.missing) ask(stream);
    },
    pong(heads: Record<string, Position>) {
      for (const [room, head] of Object.entries(heads)) {
        const stream = streams.get(room);
        if (stream?.inside && stream.position) learn(stream, head);
      }
    },
    /** There is no open connection any more. */
    closed() {
      for (const stream of streams.values()) forgetConnection(stream);
    },
    left(room: string) {
      streams.delete(room);
    },
    /** Another user's positions are nobody's. */
    reset() {
      streams.clear();
    },
    get positions(): Record<string, Position> {
      const all = [...streams.values()].filter(({ position }) => position);
      return Object.fromEntries(all.map(({ room, position }) => [room, place(position!)]));
    },
  };
}
