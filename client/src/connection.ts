/** One WebSocket, from its handshake to its end: actions in the stage's pace, their replies, and signs of life. */
import { type Envelope, RoomcastError, type ServerError } from "./protocol.ts";
import type { Fact } from "./rooms.ts";
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

/** An action: as text, made once and sent over whichever connection is there, and what becomes of it. */
export interface Request {
  id: string;
  action: string;
  text: string;
  /** Milliseconds to wait for the reply, from the moment of sending. */
  timeout: number;
  /** The application does not hear the reply as an event. */
  quiet?: boolean;
  /** Epoch milliseconds after which it is not sent any more. Until then it outlives a connection that ends before. */
  expires?: number;
  done(error: RoomcastError | undefined, data?: any): void;
}

export interface Connection {
  readonly id: number;
  readonly timers: Timers;
  /** When it opened, when the last message came, and when the last one came or went; epoch milliseconds. */
  since: number;
  heard: number;
  busy: number;
  /** The token that it was opened with, or that was sent on it since. */
  token: string;
  /** Epoch milliseconds at which the right to it ends, as far as is known. */
  ends?: number;
  /** The server has said what it says about a connection. */
  answered?: boolean;
  /** A ping after this many idle milliseconds has no answer yet. */
  idle?: number;
  /** What is known of the rooms on it. */
  readonly facts: Map<string, Fact>;
  /** How many rooms its server takes in one action, as far as has been seen; 0: only the old actions. */
  together?: number;
  /** It is to be in the wanted rooms: from its opening until another takes its place. */
  joins?: boolean;
  request(request: Request): void;
  /** A question of the client itself: quiet, and before whatever waits. */
  ask(action: string, data: object | undefined, timeout: number, done: Request["done"]): void;
  /** Gives a message to the action that it answers, if any; true when the application is not to hear of it. */
  settle(envelope: Envelope): boolean | undefined;
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

export function frame(action: string, data?: object): Pick<Request, "id" | "action" | "text"> {
  const id = `${++sequence}`;
  const text = JSON.stringify({ ...data, action, id });
  // TextEncoder is missing in some test environments and old runtimes.
  const bytes = encodeURIComponent(text).replace(/%../g, "%").length;
  if (bytes > MAX_BYTES) {
    throw new RoomcastError("too_large", `${action} has ${bytes} bytes, the limit is ${MAX_BYTES}`);
  }
  return { id, action, text };
}

export const refuse = ({ action, done }: Request, code: string, why: string, data?: ServerError): void =>
  done(new RoomcastError(code, `${action}: ${why}`, data));

export const isError = ({ event }: Envelope): boolean => /(^|:)error$/.test(event);

/** What the server says to an action that it has not carried out, and that may be sent again on another connection. */
export const isEnd = (code: unknown): boolean => code === "token_expired" || code === "unknown_connection";

export interface Handlers {
  opened(connection: Connection): void;
  message(connection: Connection, text: string): void;
  /** Any traffic, which puts the keepalive off. */
  traffic(connection: Connection): void;
  /** What a ping asks. */
  heads(): object | undefined;
  /** Once; with the actions that were not sent and outlive it. `code` 0: ended by this side. */
  ended(connection: Connection, code: number, reason: string, unsent: Request[]): void;
}

export function openConnection(id: number, token: string, socket: WebSocketLike, on: Handlers): Connection {
  const timers = createTimers();
  const sent = new Map<string, Request>();
  let lane: Request[] = [];
  let allowance = BURST;
  let rate = RATE;
  let counted = Date.now();
  let over = false;

  /** Takes an action back from the wire. */
  const take = ({ id }: Request) => {
    timers.stop(id);
    sent.delete(id);
  };
  const fail = (request: Request, code: string, why: string, data?: ServerError) => {
    take(request);
    refuse(request, code, why, data);
  };

  const lose = (request: Request) => fail(request, "connection_lost", "the connection was lost");

  /** Sends as many as the pace allows. */
  function flush() {
    if (!connection.since || over || timers.has("pause")) return;
    const now = Date.now();
    allowance = Math.min(BURST, allowance + (Math.max(0, now - counted) * rate) / 1_000);
    counted = now;
    while (lane[0] && allowance >= 1) {
      const request = lane.shift()!;
      if (request.expires! <= now) {
        fail(request, "timeout", "not sent in time");
        continue;
      }
      allowance--;
      sent.set(request.id, request);
      timers.start(request.id, request.timeout, () => fail(request, "timeout", `no reply in ${request.timeout} ms`));
      try {
        socket.send(request.text);
      } catch {
        // Its message may hold anything; a socket that does not take a message is of no use.
        return connection.end("cannot send", 0);
      }
    }
    if (lane[0]) timers.start("pause", Math.ceil((1_000 * (1 - allowance)) / rate), flush);
    connection.busy = now;
    on.traffic(connection);
  }

  const connection: Connection = {
    id,
    token,
    timers,
    since: 0,
    heard: 0,
    busy: 0,
    facts: new Map(),

    request(request) {
      if (over) return lose(request);
      lane.push(request);
      flush();
    },

    ask(action, data, timeout, done) {
      lane.unshift({ ...frame(action, data), timeout, quiet: true, done });
      flush();
    },

    settle(envelope) {
      const request = sent.get(envelope.replyTo!);
      if (!request) return;
      const data = (envelope.data ?? {}) as ServerError;
      const { code } = data;
      if (!isError(envelope)) {
        rate = Math.min(RATE, rate + 0.1);
        take(request);
        request.done(undefined, envelope.data);
      } else if (code === "rate_limited" || (envelope.event === "error" && isEnd(code))) {
        // Not carried out: it is as if it had not been sent.
        take(request);
        lane.unshift(request);
        if (isEnd(code)) {
          connection.end(data.message, 0);
        } else {
          // Each of a burst is answered so, which is one reason to slow down.
          const now = Date.now();
          if (counted <= now) rate = Math.max(1, rate / 2);
          allowance = 0;
          const wait = (+data.retryAfter! || 1) * 1_000 * (1 + Math.random() / 2);
          counted = now + wait;
          timers.start("pause", wait, flush);
        }
        return true;
      } else {
        fail(request, `${code}`, data.message, data);
      }
      return !!request.quiet;
    },

    ping(answered) {
      connection.ask("ping", on.heads(), LIVENESS_TIMEOUT, (error) => {
        if (!error) answered?.();
        else if (error.code === "timeout") connection.end("ping timeout", 0);
      });
    },

    probe() {
      const { heard } = connection;
      if (Math.abs(Date.now() - heard) > RECENTLY) connection.ping();
      else if (!timers.has("probe")) {
        timers.start("probe", PROBE_DELAY, () => connection.heard === heard && connection.ping());
      }
    },

    end(reason, code = 1000) {
      if (over) return;
      over = true;
      timers.stop();
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(1000);
      const unsent = lane.filter(({ expires }) => expires);
      for (const request of [...sent.values(), ...lane]) {
        if (!unsent.includes(request)) lose(request);
      }
      on.ended(connection, code, reason, unsent);
    },
  };

  timers.start("handshake", HANDSHAKE_TIMEOUT, () => connection.end("handshake timeout"));
  socket.onopen = () => {
    timers.stop("handshake");
    counted = connection.since = connection.heard = connection.busy = Date.now();
    on.opened(connection);
    on.traffic(connection);
  };
  socket.onmessage = ({ data }) => {
    connection.heard = connection.busy = Date.now();
    on.traffic(connection);
    on.message(connection, data);
  };
  socket.onclose = ({ code, reason }) => connection.end(`closed: ${code} ${reason}`.trim(), code);
  // An error is always followed by a close; in Node an error that nobody hears would end the process.
  socket.onerror = () => {};
  return connection;
}
