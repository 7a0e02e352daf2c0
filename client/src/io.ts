/**
 * `socket.io-client` over the same client: its documented names work as there, or throw an error that says what to do.
 * `io-api.ts` has the list of both.
 */
import { type Client, type ClientOptions, createClient } from "./client.ts";
import { refuse, REFUSED_EXPORTS, REFUSED_SOCKET, refuseMembers } from "./io-api.ts";
import {
  type AnyEvents,
  call,
  type EventsMap,
  type Listener,
  Listeners,
  listening,
  type Listening,
} from "./io-listeners.ts";
import { createManager, type IoManager } from "./io-manager.ts";
import { addressOf, checked, type IoOptions, passed, tokenOf } from "./io-options.ts";
import { RoomcastError, type Room, type StateCode } from "./protocol.ts";

export type { IoManager } from "./io-manager.ts";
export type { Auth, IoOptions } from "./io-options.ts";

/** The events that the socket itself makes. */
export interface IoEvents {
  connect: () => void;
  connect_error: (error: Error & { code?: string }) => void;
  disconnect: (reason: string, details: { description: string }) => void;
}

/** As in Socket.IO, the types of an application's events and actions may be given: `IoSocket<ServerToClient, ClientToServer>`. */
export interface IoSocket<Listen extends EventsMap = AnyEvents, Emit extends EventsMap = AnyEvents> extends Listening<
  Omit<Listen, keyof IoEvents> & IoEvents
> {
  readonly connected: boolean;
  readonly disconnected: boolean;
  /** Connected, or trying to be. */
  readonly active: boolean;
  readonly recovered: false;
  /** New with each connection the application is told of; undefined without one. Not the backend's connection id. */
  readonly id: string | undefined;
  readonly io: IoManager;
  auth: IoOptions["auth"];
  /** The client underneath. */
  readonly client: Client<Record<string, any>>;
  /** The next `emit` is dropped if there is no connection. */
  readonly volatile: this;
  connect(): this;
  open(): this;
  disconnect(): this;
  close(): this;
  compress(value: boolean): this;
  /** The acknowledgement of the next `emit` gets an error first, at the latest after this many milliseconds. */
  timeout(milliseconds: number): this;
  emit<Action extends keyof Emit & string>(action: Action, ...values: Parameters<Emit[Action]>): this;
  emitWithAck<Action extends keyof Emit & string>(
    action: Action,
    ...values: AllButLast<Parameters<Emit[Action]>>
  ): Promise<any>;
  send(...values: unknown[]): this;
  onAny(listener: Listener): this;
  prependAny(listener: Listener): this;
  offAny(listener?: Listener): this;
  listenersAny(): Listener[];
  onAnyOutgoing(listener: Listener): this;
  prependAnyOutgoing(listener: Listener): this;
  offAnyOutgoing(listener?: Listener): this;
  listenersAnyOutgoing(): Listener[];
}

/** The values of an action without its acknowledgement. */
type AllButLast<Values extends unknown[]> = Values extends [...infer First, (...values: any[]) => any] ? First : Values;

/** Socket.IO's names for the types. */
export type Socket<Listen extends EventsMap = AnyEvents, Emit extends EventsMap = AnyEvents> = IoSocket<Listen, Emit>;
export type ManagerOptions = IoOptions;
export type SocketOptions = IoOptions;

export const protocol = 5;

/** Why a connection ended, in Socket.IO's words; after the last one it does not come again by itself. */
const REASONS: Partial<Record<StateCode, string>> = {
  requested: "io client disconnect",
  no_reply: "ping timeout",
  auth_failed: "io server disconnect",
  connection_limit: "io server disconnect",
};
const RESERVED = /^(connect|connect_error|disconnect|disconnecting|newListener|removeListener)$/;
const LONGEST = 2 ** 31 - 1;

/** Makes a socket, and lets it connect. */
export function io(url: string, given: IoOptions = {}): IoSocket {
  const options = checked(given);
  const target = addressOf(url, options.query);
  const {
    reconnection = true,
    reconnectionAttempts = Infinity,
    autoConnect = true,
    ackTimeout,
    queueLimit = 100,
  } = options;
  const listeners = new Listeners();
  const incoming = new Listeners();
  const outgoing = new Listeners();
  /** Actions from before `connect()` and after `disconnect()`. */
  const buffer = new Set<() => void>();
  let id: string | undefined;

  const core: ClientOptions = {
    ...passed(options),
    url() {
      if (client.state === "connecting") attempts.begins();
      return target;
    },
    getToken: () => tokenOf(socket.auth),
    autoConnect: false,
  };
  const client = createClient<Record<string, any>>(core);

  const connect = () => {
    if (!socket.auth)
      throw new TypeError("there is no token: set `socket.auth = { token }`, or give io the option `auth`");
    client.connect();
    return socket;
  };
  const attempts = createManager({ reconnection, reconnectionAttempts }, connect, () => client.disconnect());

  client.on("client:state", ({ state, previous, code, reason }) => {
    id = state === "connected" ? newId() : undefined;
    if (state === "connected") {
      attempts.opened();
      listeners.tell("connect");
      return;
    }
    if (previous === "connected") {
      const why = REASONS[code] ?? "transport close";
      const details = { description: reason };
      listeners.tell("disconnect", why, details);
      if (state === "connecting") attempts.closed(why, details);
    }
    if (state === "disconnected" && code === "auth_failed")
      listeners.tell("connect_error", new RoomcastError(code, reason));
    if (state === "connecting" && previous === "disconnected") {
      attempts.start();
      for (const start of [...buffer]) start();
    }
  });
  client.on("client:retry", ({ reason }) => {
    const error = new Error(reason);
    listeners.tell("connect_error", error);
    attempts.failed(error);
  });
  client.on("*", (data, { event }) => {
    if (event.startsWith("client:")) return;
    incoming.tell("", event, data);
    if (event !== "error" && !RESERVED.test(event)) listeners.tell(event, data);
  });
  // Also what API Gateway says without an envelope.
  client.on("error", (error) => listeners.tell("error", error));

  /** Carries out an action, within `limit` milliseconds if there is one. */
  function perform(action: string, fields: Record<string, unknown>, limit: number | undefined): Promise<any> {
    return new Promise((resolve, reject) => {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const start = () => {
        buffer.delete(start);
        ask(action, fields, limit)
          .then(resolve, reject)
          .then(() => clearTimeout(timer));
      };
      if (limit !== undefined) {
        const late = () => {
          buffer.delete(start);
          reject(new RoomcastError("timeout", "operation has timed out"));
        };
        timer = setTimeout(late, Math.min(limit, LONGEST));
      }
      if (client.state !== "disconnected") start();
      else if (buffer.size < queueLimit) buffer.add(start);
      else reject(new RoomcastError("queue_full", `${buffer.size} actions are waiting already`));
    });
  }

  /** A room that is joined here is joined again after a reconnect. */
  function ask(action: string, fields: Record<string, unknown>, limit: number | undefined): Promise<any> {
    const [, verb, kind] = /^(?:dashboard:(join|leave)|chat:(join|leave)_room)$/.exec(action) ?? [];
    const room: Room | undefined = verb
      ? "dashboard"
      : kind && fields.roomId
        ? `chat_room_${fields.roomId}`
        : undefined;
    if (room) {
      if ((verb ?? kind) === "join") return client.join(room);
      return client.leave(room).then(() => ({ success: true, ...fields }));
    }
    const usual = core.replyTimeout;
    // The client reads it when an action is sent.
    if (limit !== undefined) core.replyTimeout = limit;
    const reply = client.send(action, fields);
    if (usual === undefined) delete core.replyTimeout;
    else core.replyTimeout = usual;
    return reply;
  }

  function emit(flags: Flags, action: string, values: unknown[]): void {
    if (typeof action !== "string") throw new TypeError("the first argument of emit is the name of an action");
    if (RESERVED.test(action)) throw new Error(`"${action}" is a reserved event name`);
    const ack = typeof values.at(-1) === "function" ? (values.at(-1) as Listener) : undefined;
    const data = ack ? values.slice(0, -1) : values;
    const fields = oneObject(action, data);
    outgoing.tell("", action, ...data);
    const limit = flags.timeout ?? ackTimeout;
    const dropped = flags.volatile && !client.connected;
    const done = dropped
      ? Promise.reject(new RoomcastError("disconnected", `${action}: there is no connection, and it was volatile`))
      : perform(action, fields, limit);
    done.then(
      (reply) => ack && call(ack, ...(limit === undefined ? [reply] : [null, reply])),
      (error: RoomcastError) => {
        // What JSON cannot hold is refused without a code.
        const { code = "invalid_data", message } = error;
        if (ack) call(ack, limit === undefined ? { error: { code, message } } : error);
        // What the server refuses, its own `error` event has told already; nobody asked about what is volatile.
        else if (!error.data && !dropped) complain({ code, message });
      },
    );
  }

  function complain(error: { code: string; message: string }): void {
    if (listeners.of("error").length) listeners.tell("error", error);
    else console.error(`${error.code}: ${error.message}`);
  }

  const any = (list: Listeners) => ({
    add: (first: boolean) => (listener: Listener) => {
      list.add("", listener, false, first);
      return socket;
    },
    remove: (listener?: Listener) => {
      list.remove(undefined, listener);
      return socket;
    },
    all: () => list.of(""),
  });

  /** The methods that send, with flags for one call. */
  const sender = (flags: Flags) => ({
    get volatile() {
      return flagged({ ...flags, volatile: true });
    },
    timeout: (milliseconds: number) => flagged({ ...flags, timeout: milliseconds }),
    compress: () => flagged(flags),
    emit(action: string, ...values: unknown[]) {
      emit(flags, action, values);
      return socket;
    },
    emitWithAck: (action: string, ...values: unknown[]) =>
      new Promise((resolve, reject) => {
        const first = (flags.timeout ?? ackTimeout) !== undefined;
        const ack = first
          ? (error: unknown, reply: unknown) => (error ? reject(error) : resolve(reply))
          : (reply: any) =>
              reply?.error ? reject(new RoomcastError(reply.error.code, reply.error.message)) : resolve(reply);
        emit(flags, action, [...values, ack]);
      }),
    send(...values: unknown[]) {
      emit(flags, "message", values);
      return socket;
    },
  });
  const flagged = (flags: Flags): IoSocket =>
    Object.create(socket, Object.getOwnPropertyDescriptors(sender(flags))) as IoSocket;

  const check = (event: string) => {
    if (!event.startsWith("client:")) return;
    throw new TypeError(`"${event}" is the client's own event: listen with socket.client.on("${event}", ...)`);
  };
  const disconnect = () => {
    client.disconnect();
    return socket;
  };
  const [before, after] = [any(incoming), any(outgoing)];
  const socket = Object.defineProperties(
    {
      ...listening(() => socket, listeners, check),
      auth: options.auth,
      client,
      io: attempts.manager,
      recovered: false,
      connect,
      open: connect,
      disconnect,
      close: disconnect,
      onAny: before.add(false),
      prependAny: before.add(true),
      offAny: before.remove,
      listenersAny: before.all,
      onAnyOutgoing: after.add(false),
      prependAnyOutgoing: after.add(true),
      offAnyOutgoing: after.remove,
      listenersAnyOutgoing: after.all,
    },
    {
      ...Object.getOwnPropertyDescriptors(sender({})),
      connected: { get: () => client.connected },
      disconnected: { get: () => !client.connected },
      active: { get: () => client.state !== "disconnected" },
      id: { get: () => id },
    },
  ) as unknown as IoSocket;
  refuseMembers(socket, "socket", REFUSED_SOCKET);
  if (autoConnect) connect();
  return socket;
}

interface Flags {
  volatile?: boolean;
  timeout?: number;
}

/** The fields of an action: one JSON object. */
function oneObject(action: string, values: unknown[]): Record<string, unknown> {
  if (values.length > 1) {
    throw new TypeError(`emit("${action}") takes one value: an action is one JSON object, put the values into it`);
  }
  const [value] = values;
  if (hasBinary(value)) {
    throw new TypeError(`emit("${action}") takes JSON: upload binary data over HTTP and send its URL`);
  }
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  const fields = (value === undefined ? {} : isObject ? value : { data: value }) as Record<string, unknown>;
  const allowed = {
    "chat:join_room": "roomId",
    "chat:leave_room": "roomId",
    "dashboard:join": "",
    "dashboard:leave": "",
  }[action];
  const others = allowed === undefined ? [] : Object.keys(fields).filter((name) => name !== allowed);
  if (others.length) {
    throw new TypeError(
      `${action} takes ${allowed ? `{ ${allowed} } and nothing else` : "nothing"}: ${others.join(", ")} would not be sent`,
    );
  }
  return fields;
}

function hasBinary(value: unknown, seen = new Set<unknown>()): boolean {
  // A circle is JSON's to complain of.
  if (typeof value !== "object" || value === null || seen.has(value)) return false;
  seen.add(value);
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return true;
  if (typeof Blob === "function" && value instanceof Blob) return true;
  return Object.values(value).some((one) => hasBinary(one, seen));
}

/** Not a secret, and `crypto.randomUUID` is missing on http:// pages and in React Native. */
const newId = () => Array.from({ length: 20 }, () => Math.floor(Math.random() * 36).toString(36)).join("");

export class Manager {
  constructor() {
    refuse("Manager", REFUSED_EXPORTS.Manager!);
  }
}

io.connect = io;
io.protocol = protocol;
io.Manager = Manager;
export { io as connect, io as default };
