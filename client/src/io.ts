/** The usual uses of `socket.io-client`, over the same client. What does not carry over throws, and says so. */
import { type Client, type ClientOptions, createClient } from "./client.ts";
import { RoomcastError, type Room, type StateChange } from "./protocol.ts";

type Auth = { token?: string };

export interface IoOptions extends Omit<ClientOptions, "url" | "getToken"> {
  /** As in Socket.IO: an object, or a function that is asked before every attempt. */
  auth: Auth | ((callback: (auth: Auth) => void) => void);
}

type Listener = (...values: any[]) => void;

export interface IoSocket {
  readonly connected: boolean;
  readonly disconnected: boolean;
  /** New with each connection the application is told of; undefined without one. Not the backend's connection id. */
  readonly id: string | undefined;
  auth: IoOptions["auth"];
  /** The client underneath. */
  readonly client: Client<Record<string, any>>;
  connect(): IoSocket;
  disconnect(): IoSocket;
  on(event: string, listener: Listener): IoSocket;
  once(event: string, listener: Listener): IoSocket;
  off(event?: string, listener?: Listener): IoSocket;
  emit(action: string, ...values: unknown[]): IoSocket;
  emitWithAck(action: string, data?: unknown): Promise<any>;
}

export function io(url: string, { auth, autoConnect = true, ...options }: IoOptions): IoSocket {
  const client = createClient<Record<string, any>>({
    ...options,
    url: url.replace(/^http/, "ws"),
    getToken: () =>
      new Promise((resolve) => {
        const { auth } = socket;
        if (typeof auth === "function") auth(({ token }) => resolve(token));
        else resolve(auth.token);
      }),
    autoConnect: false,
  });
  let id: string | undefined;
  /** Which of the client's registrations stand for a listener: Socket.IO's own events are made of others. */
  let registered: { event: string; listener: Listener; cleanup: () => void }[] = [];

  client.on("client:state", ({ state }) => {
    id = state === "connected" ? newId() : undefined;
  });

  function listen(event: string, listener: Listener, once: boolean) {
    const hear = (...values: unknown[]) => {
      if (once) forget((one) => one === own);
      listener(...values);
    };
    const onState = (told: (change: StateChange) => void) => client.on("client:state", told);
    const own = {
      event,
      listener,
      cleanup:
        event === "connect"
          ? onState(({ state }) => state === "connected" && hear())
          : event === "disconnect"
            ? onState(({ previous, code }) => previous === "connected" && hear(reasons[code] ?? "transport close"))
            : event === "connect_error"
              ? both(
                  client.on("client:retry", ({ reason }) => hear(new Error(reason))),
                  onState(({ code, reason }) => code === "auth_failed" && hear(new RoomcastError(code, reason))),
                )
              : client.on(event, hear),
    };
    registered.push(own);
    return socket;
  }

  function forget(gone: (one: (typeof registered)[number]) => boolean) {
    for (const one of registered.filter(gone)) one.cleanup();
    registered = registered.filter((one) => !gone(one));
  }

  function complain(error: { code: string; message: string }) {
    const listeners = registered.filter(({ event }) => event === "error");
    if (!listeners.length) console.error(`${error.code}: ${error.message}`);
    for (const { listener } of listeners) listener(error);
  }

  /** A room that is joined here is joined again after a reconnect. */
  function ask(action: string, data: unknown): Promise<any> {
    const fields = data === undefined ? {} : typeof data === "object" && data && !Array.isArray(data) ? data : { data };
    const { roomId } = fields as { roomId?: string };
    const room: Room = action.startsWith("dashboard:") ? "dashboard" : `chat_room_${roomId}`;
    if (action === "dashboard:join" || (action === "chat:join_room" && roomId)) return client.join(room);
    if (action === "dashboard:leave" || (action === "chat:leave_room" && roomId)) {
      return client.leave(room).then(() => ({ success: true, ...fields }));
    }
    return client.send(action, fields);
  }

  const socket: IoSocket = {
    get connected() {
      return client.connected;
    },
    get disconnected() {
      return !client.connected;
    },
    get id() {
      return id;
    },
    auth,
    client,
    connect() {
      client.connect();
      return socket;
    },
    disconnect() {
      client.disconnect();
      return socket;
    },
    on: (event, listener) => listen(event, listener, false),
    once: (event, listener) => listen(event, listener, true),
    off(event, listener) {
      forget((one) => (!event || one.event === event) && (!listener || one.listener === listener));
      return socket;
    },
    emit(action, ...values) {
      const ack = typeof values.at(-1) === "function" ? (values.pop() as Listener) : undefined;
      if (values.length > 1) {
        throw new TypeError(`emit("${action}") takes one value: an action is one JSON object, put the values into it`);
      }
      ask(action, values[0]).then(
        (data) => ack?.(data),
        ({ code, message, data }) => {
          if (ack) ack({ error: { code, message } });
          // What the server refuses, its `error` event has told already; the rest has only this way.
          else if (!data) complain({ code, message });
        },
      );
      return socket;
    },
    emitWithAck: ask,
  };
  if (autoConnect) client.connect();
  return socket;
}

const reasons: Partial<Record<StateChange["code"], string>> = {
  requested: "io client disconnect",
  no_reply: "ping timeout",
};

/** Not a secret, and `crypto.randomUUID` is missing on http:// pages and in React Native. */
const newId = () => Array.from({ length: 20 }, () => Math.floor(Math.random() * 36).toString(36)).join("");

const both = (first: () => void, second: () => void) => () => {
  first();
  second();
};
