/** One WebSocket, from its handshake to its end: actions in the stage's pace, their replies, and signs of life. */
import { type Envelope, RoomcastError, type ServerError } from "./protocol.ts";
import { createTimers, type Timers } from "./timers.ts";

/** The part of the browser's WebSocket that is used, so that tests and Node can give another. */
export interface WebSocketLike {
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(text: string): void;
  close(code?: number): void;
}
export type WebSocketClass = new (url: string, protocols?: string[]) => WebSocketLike;

/** An action as text, made once and sent over whichever connection is there. */
export interface Frame {
  id: string;
  action: string;
  text: string;
}

/** An action on its way. */
export interface Request {
  frame: Frame;
  /** Milliseconds to wait for the reply, from the moment of sending. */
  timeout: number;
  /** The application does not hear the reply as an event. */
  quiet?: boolean;
  /** Goes before those that wait. */
  urgent?: boolean;
  /** Outlives a connection that ends before it was sent. */
  lasts?: boolean;
  /** Epoch milliseconds after which it is not sent any more. */
  expires?: number;
  done(error: RoomcastError | undefined, data?: any): void;
}

export interface Connection {
  readonly id: number;
  /** When it opened, and when the last message came; epoch milliseconds, 0 before. */
  since: number;
  heard: number;
  /** Epoch milliseconds of the last message in either direction. */
  busy: number;
  readonly over: boolean;
  readonly timers: Timers;
  request(request: Request): void;
  /** Gives a message to the action that it answers; true when the application is not to hear of it. */
  settle(envelope: Envelope): boolean;
  /** Pings; without a pong the connection is ended. */
  ping(answered?: () => void): void;
  /** Asks for a sign of life, unless one comes by itself within some seconds. */
  probe(): void;
  end(reason: string, code?: number): void;
}

const LIVENESS_TIMEOUT = 5_000;
const HANDSHAKE_TIMEOUT = 15_000;
/** A connection that was heard of so lately gets the chance to show by itself that it lives. */
const RECENTLY = 20_000;
const PROBE_DELAY = 10_000;
/** API Gateway closes a connection (1009) that sends a larger frame. */
const MAX_BYTES = 32 * 1024;
/** Actions at once, and then a second: half of what a stage allows by default, so that its own count is never met. */
const BURST = 20;
const RATE = 20;

let sequence = 0;

export function frame(action: string, data?: object): Frame {
  const id = `${++sequence}`;
  const text = JSON.stringify({ ...data, action, id });
  // TextEncoder is missing in some test environments and old runtimes.
  let bytes = 0;
  for (const character of text) {
    const point = character.codePointAt(0)!;
    bytes += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
  }
  if (bytes > MAX_BYTES) {
    throw new RoomcastError("too_large", `${action} has ${bytes} bytes, the limit is ${MAX_BYTES}`);
  }
  return { id, action, text };
}

export const isError = ({ event }: Envelope): boolean => /(^|:)error$/.test(event);

/** What the server says to an action that it has not carried out, and that may be sent again on another connection. */
export const isEnd = (code: unknown): boolean => code === "token_expired" || code === "unknown_connection";

export interface Handlers {
  opened(): void;
  message(text: string): void;
  /** Any traffic, which puts the keepalive off. */
  traffic(): void;
  /** Once; with the actions that were not sent and outlive it. `code` 0: ended by this side. */
  ended(code: number, reason: string, unsent: Request[]): void;
}

export function openConnection(id: number, start: () => WebSocketLike, handlers: Handlers): Connection {
  const timers = createTimers();
  const sent = new Map<string, Request>();
  let lane: Request[] = [];
  let allowance = BURST;
  let rate = RATE;
  let counted = Date.now();
  let over = false;
  let open = false;
  let socket: WebSocketLike | undefined;

  const finish = (request: Request, error?: RoomcastError, data?: any) => {
    const { id } = request.frame;
    timers.stop(id);
    sent.delete(id);
    lane = lane.filter((one) => one !== request);
    request.done(error, data);
  };
  const fail = (request: Request, code: string, why: string, data?: ServerError) =>
    finish(request, new RoomcastError(code, `${request.frame.action}: ${why}`, data));

  /** Sends as many as the pace allows. */
  function flush() {
    if (!open || over || timers.has("pause")) return;
    const now = Date.now();
    allowance = Math.min(BURST, allowance + (Math.max(0, now - counted) * rate) / 1_000);
    counted = now;
    while (lane[0] && allowance >= 1) {
      const request = lane.shift()!;
      const { frame, timeout } = request;
      allowance--;
      sent.set(frame.id, request);
      timers.start(frame.id, timeout, () => fail(request, "timeout", `no reply in ${timeout} ms`));
      try {
        socket!.send(frame.text);
      } catch {
        // Its message may hold anything; a socket that does not take a message is of no use.
        return connection.end("the connection took no message", 0);
      }
    }
    if (lane.length) timers.start("pause", (1_000 * (1 - allowance)) / rate, flush);
    connection.busy = now;
    handlers.traffic();
  }

  function enqueue(request: Request, first = request.urgent) {
    lane[first ? "unshift" : "push"](request);
    if (request.expires) {
      timers.start(request.frame.id, Math.max(0, request.expires - Date.now()), () =>
        fail(request, "timeout", "it could not be sent in time"),
      );
    }
  }

  /** It was not carried out: it is sent again, and everything is sent more slowly. */
  function slowDown(request: Request, data: ServerError) {
    sent.delete(request.frame.id);
    timers.stop(request.frame.id);
    if (request.expires && request.expires <= Date.now()) return fail(request, data.code, data.message, data);
    enqueue(request, true);
    // One answer for each of a burst comes: it is one reason to slow down.
    if (timers.has("limited")) return;
    const wait = (Number(data.retryAfter) || 1) * 1_000 * (1 + Math.random() / 2);
    rate = Math.max(1, rate / 2);
    allowance = 1;
    timers.start("limited", wait, () => {});
    timers.start("pause", wait, flush);
  }

  const connection: Connection = {
    id,
    since: 0,
    heard: 0,
    busy: 0,
    timers,
    get over() {
      return over;
    },

    request(request) {
      if (over) return request.done(new RoomcastError("connection_lost", `${request.frame.action}: it was closed`));
      enqueue(request);
      flush();
    },

    settle(envelope) {
      const request = sent.get(envelope.replyTo!);
      if (!request) return false;
      const data = (envelope.data ?? {}) as ServerError;
      if (!isError(envelope)) {
        rate = Math.min(RATE, rate + 0.1);
        finish(request, undefined, envelope.data);
      } else if (data.code === "rate_limited") {
        slowDown(request, data);
        return true;
      } else if (envelope.event === "error" && isEnd(data.code)) {
        // Not carried out, so it is as if it had not been sent.
        sent.delete(request.frame.id);
        lane.unshift(request);
        connection.end(data.message, 0);
        return true;
      } else {
        fail(request, `${data.code}`, `${data.message}`, data);
      }
      return !!request.quiet;
    },

    ping(answered) {
      connection.request({
        frame: frame("ping"),
        timeout: LIVENESS_TIMEOUT,
        quiet: true,
        urgent: true,
        done(error) {
          if (error?.code === "timeout") connection.end("no reply to a ping", 0);
          else if (!error) answered?.();
        },
      });
    },

    probe() {
      const now = Date.now();
      if (Math.abs(now - connection.heard) > RECENTLY) return connection.ping();
      if (timers.has("probe")) return;
      const { heard } = connection;
      timers.start("probe", PROBE_DELAY, () => connection.heard === heard && connection.ping());
    },

    end(reason, code = 1000) {
      if (over) return;
      over = true;
      timers.stop();
      if (socket) {
        socket.onopen = socket.onmessage = socket.onclose = null;
        socket.close(1000);
      }
      const unsent = lane.filter(({ lasts }) => lasts);
      const lost = [...sent.values(), ...lane.filter(({ lasts }) => !lasts)];
      for (const request of lost) fail(request, "connection_lost", "the connection was lost");
      lane = [];
      handlers.ended(code, reason, unsent);
    },
  };

  socket = start();
  timers.start("handshake", HANDSHAKE_TIMEOUT, () => connection.end("no answer to the handshake"));
  socket.onopen = () => {
    timers.stop("handshake");
    open = true;
    counted = connection.since = connection.heard = connection.busy = Date.now();
    handlers.opened();
    flush();
    handlers.traffic();
  };
  socket.onmessage = ({ data }) => {
    connection.heard = connection.busy = Date.now();
    handlers.traffic();
    handlers.message(data);
  };
  socket.onclose = ({ code, reason }) => connection.end(`closed: ${code} ${reason}`.trim(), code);
  // An error is always followed by a close; in Node an error that nobody hears would end the process.
  socket.onerror = () => {};
  return connection;
}
