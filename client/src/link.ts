/** One WebSocket, from its handshake to its end: actions and their replies, and the keepalive. */
import { type Envelope, RoomcastError } from "./protocol.ts";

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

export interface Link {
  /** The rooms that the server has this connection in. */
  rooms: Set<string>;
  since: number;
  /** When its token ends. */
  expires: number;
  /** When the last message came. */
  heard: number;
  opened: Promise<void>;
  request(frame: Frame, timeout: number, quiet?: boolean): Promise<any>;
  /** Gives a message to the action that it answers; true when the application is not to hear of it. */
  settle(envelope: Envelope): boolean;
  end(reason: string, code?: number): void;
  endIn(milliseconds: number, reason: string): void;
}

/** API Gateway closes a connection over which nothing went for 10 minutes. */
const KEEPALIVE = 9 * 60_000;
const LIVENESS_TIMEOUT = 5_000;
const HANDSHAKE_TIMEOUT = 15_000;
/** API Gateway closes a connection (1009) that sends a larger frame. */
const MAX_BYTES = 32 * 1024;

let sequence = 0;

export function frame(action: string, data?: object): Frame {
  const id = `${++sequence}`;
  const text = JSON.stringify({ ...data, action, id });
  const bytes = new TextEncoder().encode(text).length;
  if (bytes > MAX_BYTES) {
    throw new RoomcastError("too_large", `${action} has ${bytes} bytes, the limit is ${MAX_BYTES}`);
  }
  return { id, action, text };
}

export const isError = ({ event }: Envelope): boolean => /(^|:)error$/.test(event);

/** Asks a connection that may be dead for a sign of life, and ends it when there is none. */
export function check(link: Link): void {
  link
    .request(frame("ping"), LIVENESS_TIMEOUT, true)
    .catch((error) => error.code === "timeout" && link.end("no reply to a ping", 0));
}

export function openLink(
  start: () => WebSocketLike,
  onMessage: (text: string) => void,
  onEnd: (code: number, reason: string) => void,
): Link {
  const pending = new Map<string, { quiet: boolean; done: (envelope?: Envelope, code?: string) => void }>();
  const socket = start();
  let over = false;
  let keepalive: ReturnType<typeof setTimeout>;
  let ending: ReturnType<typeof setTimeout>;
  let opened!: () => void;
  let refused!: (error: Error) => void;

  /** Called from the socket's own events, so a browser does not slow this timer down in a hidden tab. */
  const traffic = () => {
    clearTimeout(keepalive);
    keepalive = setTimeout(() => check(link), KEEPALIVE);
  };

  const link: Link = {
    rooms: new Set(),
    since: 0,
    heard: 0,
    expires: Infinity,
    opened: new Promise((resolve, reject) => {
      opened = resolve;
      refused = reject;
    }),

    request: ({ id, action, text }, timeout, quiet = false) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => done(undefined, "timeout"), timeout);
        const done = (envelope?: Envelope, code = "") => {
          clearTimeout(timer);
          pending.delete(id);
          if (!envelope) {
            const why = code === "timeout" ? `no reply in ${timeout} ms` : "the connection was lost";
            reject(new RoomcastError(code, `${action}: ${why}`));
          } else if (isError(envelope)) {
            const data = envelope.data as any;
            reject(new RoomcastError(`${data?.code}`, `${action}: ${data?.message}`, data));
          } else {
            resolve(envelope.data);
          }
        };
        pending.set(id, { quiet, done });
        // A socket that is closing throws or drops it: its end rejects this.
        if (over) return done(undefined, "connection_lost");
        socket.send(text);
        traffic();
      }),

    settle(envelope) {
      const request = pending.get(envelope.replyTo!);
      request?.done(envelope);
      return !!request?.quiet;
    },

    endIn(milliseconds, reason) {
      ending = setTimeout(() => link.end(reason), milliseconds);
    },

    end(reason, code = 1000) {
      if (over) return;
      over = true;
      clearTimeout(keepalive);
      clearTimeout(ending);
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(1000);
      refused(new RoomcastError("connection_lost", reason));
      for (const request of [...pending.values()]) request.done(undefined, "connection_lost");
      onEnd(code, reason);
    },
  };
  // Whether the handshake was refused is asked where it is awaited.
  link.opened.catch(() => {});
  link.endIn(HANDSHAKE_TIMEOUT, "no answer to the handshake");

  socket.onopen = () => {
    clearTimeout(ending);
    link.since = link.heard = Date.now();
    traffic();
    opened();
  };
  socket.onmessage = ({ data }) => {
    link.heard = Date.now();
    traffic();
    onMessage(data);
  };
  socket.onclose = ({ code, reason }) => link.end(`closed: ${code} ${reason}`.trim(), code);
  // An error is always followed by a close; in Node an error that nobody hears would end the process.
  socket.onerror = () => {};
  return link;
}
