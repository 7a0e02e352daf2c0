/**
 * What `socket.io-client` documents, name by name: what works here, and what is refused with the advice that its
 * error gives. The tables of docs/migrating-from-socketio.md are made of these, and a test holds both
 * against the package `socket.io-client` itself.
 */

/** Names that work, with what differs, if anything does. Only the documentation reads it, so no bundle holds it. */
export const WORKS = {
  options: {
    ackTimeout: "",
    auth: "`{ token }`, or a function; other fields are refused",
    autoConnect: "",
    forceNew: "each `io()` has a connection of its own",
    forceBase64: "no effect: there is no binary data",
    multiplex: "each `io()` has a connection of its own",
    query: "added to the URL; `token` and `ticket` are refused, use `auth`",
    reconnection: "",
    reconnectionAttempts: "",
    rememberUpgrade: "no effect: every connection is a WebSocket",
    requestTimeout: "no effect: it is for HTTP requests",
    timestampParam: "no effect: it is for HTTP requests",
    timestampRequests: "no effect: it is for HTTP requests",
    tryAllTransports: "no effect: every connection is a WebSocket",
    upgrade: "no effect: every connection is a WebSocket",
  },
  socket: {
    active: "",
    auth: "",
    close: "",
    compress: "no effect, as in browsers",
    connect: "",
    connected: "",
    disconnect: "",
    disconnected: "",
    emit: "one value, which becomes the fields of one JSON object; see above",
    emitWithAck: "",
    hasListeners: "",
    id: "the client's own name for this connection, not the backend's",
    io: "",
    listeners: "",
    listenersAny: "",
    listenersAnyOutgoing: "",
    off: "",
    offAny: "",
    offAnyOutgoing: "",
    on: "a listener gets one value, the event's data",
    onAny: "",
    onAnyOutgoing: "",
    once: "",
    open: "",
    prependAny: "",
    prependAnyOutgoing: "",
    recovered: "always `false`",
    send: '`emit("message", ...)`',
    timeout: "",
    volatile: "",
    addEventListener: "",
    removeAllListeners: "",
    removeEventListener: "",
    removeListener: "",
  },
  events: {
    connect: "",
    connect_error: "also a refused token: `error.code` is `auth_failed`, and `socket.active` is `false`",
    disconnect: "`io server disconnect` also when the token is refused or a newer connection of this user takes over",
  },
  manager: {
    connect: "",
    open: "",
    reconnection: "",
    reconnectionAttempts: "",
    on: "",
    once: "",
    off: "",
    listeners: "",
    hasListeners: "",
    addEventListener: "",
    removeAllListeners: "",
    removeEventListener: "",
    removeListener: "",
  },
  managerEvents: {
    close: "",
    error: "",
    open: "",
    reconnect: "",
    reconnect_attempt: "",
    reconnect_error: "",
    reconnect_failed: "",
  },
} satisfies Record<string, Record<string, string>>;

export interface Refusal {
  /** What to do instead, as the end of a sentence. */
  instead: string;
  /** Values that ask for nothing that is missing here: those that Socket.IO has by default, for the most part. */
  harmless?: (value: any) => boolean;
}

const is = (usual: unknown) => (value: unknown) => value === usual;
const IN_URL = 'write it into the URL: `io("wss://host:port/path")`';
const OWN_WEBSOCKET =
  "give the option `WebSocket` a class that sets it, such as one that extends that of the package `ws`";
const SPREAD =
  "leave it out: the server says how far its clients spread; `reconnectWindow` (milliseconds) overrides that";
const REQUEST = "leave it out: every connection is a WebSocket";
const ONE_MANAGER = "call `io()` again: each call makes its own connection";

export const REFUSED_OPTIONS: Record<string, Refusal> = {
  addTrailingSlash: { instead: IN_URL, harmless: is(true) },
  agent: { instead: OWN_WEBSOCKET, harmless: is(false) },
  autoUnref: { instead: "call `socket.disconnect()` when the process is to end", harmless: is(false) },
  binaryType: { instead: "send JSON; upload binary data over HTTP and send its URL" },
  ca: { instead: OWN_WEBSOCKET },
  cert: { instead: OWN_WEBSOCKET },
  ciphers: { instead: OWN_WEBSOCKET },
  closeOnBeforeunload: { instead: "leave it out: a browser closes the connection with its page", harmless: is(false) },
  extraHeaders: {
    instead: "put it into `query` or the token's claims: a browser sends no headers of yours with a WebSocket",
  },
  host: { instead: IN_URL },
  hostname: { instead: IN_URL },
  key: { instead: OWN_WEBSOCKET },
  localAddress: { instead: OWN_WEBSOCKET },
  parser: { instead: "leave it out: every message is one JSON object" },
  passphrase: { instead: OWN_WEBSOCKET },
  path: { instead: IN_URL, harmless: is("/socket.io") },
  perMessageDeflate: { instead: OWN_WEBSOCKET, harmless: is(false) },
  pfx: { instead: OWN_WEBSOCKET },
  port: { instead: IN_URL },
  protocols: { instead: 'leave it out; `sendTokenAs: "subprotocol"` sends the token there' },
  randomizationFactor: { instead: SPREAD, harmless: is(0.5) },
  reconnectionDelay: { instead: SPREAD, harmless: is(1_000) },
  reconnectionDelayMax: { instead: SPREAD, harmless: is(5_000) },
  rejectUnauthorized: { instead: OWN_WEBSOCKET, harmless: is(true) },
  retries: {
    instead: "emit again yourself where that is right: an action is carried out at most once",
    harmless: is(0),
  },
  secure: { instead: "begin the URL with `wss://` or `ws://`" },
  timeout: { instead: "leave it out: an attempt to connect has 15 seconds", harmless: is(20_000) },
  transportImplementations: { instead: REQUEST },
  transportOptions: { instead: REQUEST },
  transports: {
    instead: 'give `["websocket"]` or leave it out: there is no long polling and no WebTransport',
    harmless: (value) => Array.isArray(value) && value.length > 0 && value.every(is("websocket")),
  },
  useNativeTimers: { instead: "leave it out", harmless: is(false) },
  withCredentials: { instead: "send a token with `auth`: cookies are not looked at", harmless: is(false) },
};

const NO_BUFFER = "use `socket.volatile` for what is not to wait, or the option `queueLimit`";

export const REFUSED_SOCKET: Record<string, Refusal> = {
  nsp: { instead: "use rooms: there are no namespaces" },
  receiveBuffer: { instead: NO_BUFFER },
  sendBuffer: { instead: NO_BUFFER },
};

export const REFUSED_MANAGER: Record<string, Refusal> = {
  emit: { instead: "call `socket.emit()`" },
  engine: { instead: "listen to `client:state` of `socket.client`: every connection is a WebSocket" },
  opts: { instead: `${ONE_MANAGER}; \`socket.auth\` can be replaced` },
  randomizationFactor: { instead: SPREAD },
  reconnectionDelay: { instead: SPREAD },
  reconnectionDelayMax: { instead: SPREAD },
  socket: { instead: "use rooms: there are no namespaces" },
  timeout: { instead: "leave it out: an attempt to connect has 15 seconds" },
};

export const REFUSED_MANAGER_EVENTS: Record<string, Refusal> = {
  packet: { instead: "use `socket.onAny()` and `socket.onAnyOutgoing()`" },
  ping: { instead: "leave it out: here the client pings, after a time without traffic" },
};

export const REFUSED_EXPORTS: Record<string, Refusal> = {
  Manager: { instead: ONE_MANAGER },
};

export function refuse(what: string, { instead }: Refusal): never {
  throw new TypeError(`roomcast/io does not have ${what}: ${instead}`);
}

/** Gives an object members that say why they are not there when somebody uses them. */
export function refuseMembers(target: object, name: string, refusals: Record<string, Refusal>): void {
  for (const [member, refusal] of Object.entries(refusals)) {
    const say = () => refuse(`${name}.${member}`, refusal);
    // Not enumerable: a debugger that prints the object is not to fail.
    Object.defineProperty(target, member, { get: say, set: say });
  }
}
