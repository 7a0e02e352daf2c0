/** One WebSocket, from its handshake to its end: actions in the stage's pace, their replies, and signs of life. */
import { type Envelope, RoomcastError, type ServerError } from "./protocol.ts";
import type { Fact } from "./rooms.ts";
import { createTimers, type Timers } from "./timers.ts";
import type { Keepalive } from "./keepalive.ts";
import { offline } from "./wake.ts";

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
  action_: string;
  text_: string;
  /** Milliseconds to wait for the reply, from the moment of sending. */
  timeout_: number;
  /** The application does not hear the reply as an event. */
  quiet_?: boolean;
  /** The application's own: what has not been carried out is given back, and outlives the connection. */
  back_?(): void;
  done_(error: RoomcastError | undefined, data?: any): void;
}

export interface Connection {
  readonly id: number;
  readonly timers_: Timers;
  /** The token that it was opened with, or that was sent on it since. */
  token: string;
  /** Epoch milliseconds at which the right to it ends, as far as is known. */
  ends_?: number;
  /** The server has said what it says about a connection. */
  answered_?: boolean;
  /** What is known of the rooms on it. */
  readonly facts_: Map<string, Fact>;
  /** How many rooms its server takes in one action, as far as has been seen; 0: only the old actions. */
  together?: number;
  /** It is to be in the wanted rooms: from its opening until another takes its place. */
  joins_?: boolean;
  request_(request: Request): void;
  /** Sends as many of the actions that wait as the pace allows. */
  flush_(): void;
  /** A question of the client itself: quiet, and before whatever waits. */
  ask_(action: string, data: object | undefined, timeout: number, done: Request["done_"]): void;
  /** Gives a message to the action that it answers, if any; true when the application is not to hear of it. */
  settle_(envelope: Envelope): boolean | undefined;
  /** Pings; without a pong the connection is ended. */
  ping_(answered?: () => void): void;
  /** Asks for a sign of life, unless one comes by itself within some seconds. */
  probe_(): void;
  end_(reason: string, code?: number): void;
}

let sequence = 0;

export function frame(action: string, data?: object, id = `${++sequence}`): Pick<Request, "id" | "action_" | "text_"> {
  /** API Gateway closes a connection (1009) that sends a larger frame. */
  const MAX_BYTES = 32 * 1024;
  const text = JSON.stringify({ ...data, action, id });
  // TextEncoder is missing in some test environments and old runtimes.
  const bytes = encodeURIComponent(text).replace(/%../g, "%").length;
  if (bytes > MAX_BYTES) throw new RoomcastError("too_large", `${action}: over ${MAX_BYTES} bytes`);
  return { id, action_: action, text_: text };
}

export const refuse = (
  { action_: action, done_: done }: Request,
  code: string,
  why: string,
  data?: ServerError,
): void => done(new RoomcastError(code, `${action}: ${why}`, data));

export const isError = ({ event }: Envelope): boolean => event.endsWith("error");

/** What the server says to an action that it has not carried out, and that may be sent again on another connection. */
export const isEnd = (code: unknown): boolean => /^(token_expired|unknown_connection)$/.test(code as string);

export interface Handlers {
  opened_(connection: Connection): void;
  message_(connection: Connection, text: string): void;
  alive_: Keepalive;
  /** The application's actions that may go over it. */
  queue_(connection: Connection): Request[];
  /** Ends the time that an action may wait in that queue. */
  taken_(request: Request): void;
  /** What a ping asks. */
  heads_(): object | undefined;
  /**
   * Once. `code` 0: ended by this side. `lasted`: milliseconds since it opened, 0 if it never did.
   */
  ended_(connection: Connection, code: number, reason: string, lasted: number): void;
}

export function openConnection(id: number, token: string, socket: WebSocketLike, on: Handlers): Connection {
  const LIVENESS_TIMEOUT = 5_000;
  const HANDSHAKE_TIMEOUT = 15_000;
  /** A connection that was heard of so lately gets the chance to show by itself that it lives. */
  const RECENTLY = 20_000;
  const PROBE_DELAY = 10_000;
  /** Actions at once, and then a second: half of what a stage allows by default, so that its own count is never met. */
  const BURST = 20;
  const RATE = 20;
  const timers = createTimers();
  const sent = new Map<string, Request>();
  const lane: Request[] = [];
  let allowance = BURST;
  let rate = RATE;
  let counted = Date.now();
  /** When it opened, when the last message came, and when the last one came or went; epoch milliseconds. */
  let since = 0;
  let heard = 0;
  let busy = 0;
  /** A ping after this many idle milliseconds has no answer yet. */
  let idle = 0;
  let over = false;

  /** Takes an action back from the wire. */
  const take = ({ id }: Request) => {
    timers.stop_(id);
    sent.delete(id);
  };
  const fail = (request: Request, code: string, why: string, data?: ServerError) => {
    take(request);
    refuse(request, code, why, data);
  };

  const lose = (request: Request) => fail(request, "connection_lost", "connection lost");

  /** Any traffic puts the keepalive off. */
  const traffic = () => {
    busy = Date.now();
    const interval = on.alive_.interval_();
    timers.start_("keepalive", interval, () => {
      idle = interval;
      connection.ping_(() => {
        idle = 0;
        on.alive_.survived_(interval);
      });
    });
  };

  function flush() {
    if (!since || over || timers.has_("pause")) return;
    const now = Date.now();
    allowance = Math.min(BURST, allowance + (Math.max(0, now - counted) * rate) / 1_000);
    counted = now;
    for (let request; (request = lane[0] ?? on.queue_(connection)[0]);) {
      if (allowance < 1) {
        timers.start_("pause", Math.ceil((1_000 * (1 - allowance)) / rate), flush);
        break;
      }
      allowance--;
      const { id, timeout_: timeout } = request;
      if (lane[0]) lane.shift();
      else on.taken_(request);
      sent.set(id, request);
      timers.start_(id, timeout, () => fail(request, "timeout", `no reply in ${timeout} ms`));
      try {
        socket.send(request.text_);
      } catch {
        // Its message may hold anything; a socket that does not take a message is of no use.
        return connection.end_("not sent");
      }
    }
    traffic();
  }

  const connection: Connection = {
    id,
    token,
    timers_: timers,
    facts_: new Map(),
    flush_: flush,

    request_(request) {
      if (over) return lose(request);
      lane.push(request);
      flush();
    },

    ask_(action, data, timeout, done) {
      lane.unshift({ ...frame(action, data), timeout_: timeout, quiet_: true, done_: done });
      flush();
    },

    settle_(envelope) {
      const request = sent.get(envelope.replyTo!);
      if (!request) return;
      const data = (envelope.data ?? {}) as ServerError;
      const { code, message } = data;
      if (!isError(envelope)) {
        rate = Math.min(RATE, rate + 0.1);
        take(request);
        request.done_(undefined, envelope.data);
      } else if (code === "rate_limited" || (envelope.event === "error" && isEnd(code))) {
        // Not carried out: it is as if it had not been sent.
        take(request);
        if (!request.back_) lane.unshift(request);
        if (isEnd(code)) {
          connection.end_(message);
        } else {
          // Each of a burst is answered so, which is one reason to slow down.
          const now = Date.now();
          if (counted <= now) rate = Math.max(1, rate / 2);
          allowance = 0;
          const wait = (+data.retryAfter! || 1) * 1_000 * (1 + Math.random() / 2);
          counted = now + wait;
          timers.start_("pause", wait, flush);
        }
        request.back_?.();
        return true;
      } else {
        fail(request, `${code}`, message, data);
      }
      return !!request.quiet_;
    },

    ping_(answered) {
      connection.ask_("ping", on.heads_(), LIVENESS_TIMEOUT, (error) => {
        if (!error) answered?.();
        else if (error.code === "timeout") connection.end_("ping timeout");
      });
    },

    probe_() {
      const before = heard;
      if (Math.abs(Date.now() - heard) > RECENTLY) connection.ping_();
      else if (!timers.has_("probe")) timers.start_("probe", PROBE_DELAY, () => heard === before && connection.ping_());
    },

    end_(reason, code = 0) {
      if (over) return;
      over = true;
      timers.stop_();
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(1000);
      for (const request of [...sent.values(), ...lane]) lose(request);
      const now = Date.now();
      if (idle) on.alive_.died_(idle, false);
      else if (code === 1006 && since && !offline()) on.alive_.died_(now - busy, true);
      on.ended_(connection, code, reason, since && Math.abs(now - since));
    },
  };

  timers.start_("handshake", HANDSHAKE_TIMEOUT, () => connection.end_("handshake timeout"));
  socket.onopen = () => {
    timers.stop_("handshake");
    counted = since = heard = Date.now();
    on.opened_(connection);
    traffic();
  };
  socket.onmessage = ({ data }) => {
    heard = Date.now();
    traffic();
    on.message_(connection, data);
  };
  socket.onclose = ({ code, reason }) => connection.end_(`closed: ${code} ${reason}`.trim(), code);
  // An error is always followed by a close; in Node an error that nobody hears would end the process.
  socket.onerror = () => {};
  return connection;
}
