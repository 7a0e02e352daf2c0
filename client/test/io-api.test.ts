/** roomcast/io against the package socket.io-client itself: no name of its documented API is missing or silent. */
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import * as original from "socket.io-client";
import { afterEach, beforeEach, expect, expectTypeOf, test, vi } from "vitest";
import * as api from "../src/io-api.ts";
import * as adapter from "../src/io.ts";
import { FakeServer } from "../src/testing.ts";
import { table, update } from "./io-table.ts";

let server: FakeServer;
beforeEach(() => {
  vi.useFakeTimers();
  server = new FakeServer();
});
afterEach(() => vi.useRealTimers());
const make = (options: object = {}) =>
  adapter.io("wss://example.test/prod", {
    auth: { token: "t" },
    autoConnect: false,
    WebSocket: server.WebSocket,
    ...options,
  });

/** Every member that an object has, by itself or inherited, but for what only it uses. */
function members(object: object): string[] {
  const names = new Set<string>();
  for (let one = object; one !== Object.prototype; one = Object.getPrototypeOf(one)) {
    for (const name of Object.getOwnPropertyNames(one)) names.add(name);
  }
  return [...names].filter((name) => !/^(_.*|constructor)$/.test(name));
}
/** Not in the documentation of socket.io-client. */
const INSIDE = {
  socket:
    /^(acks|ack|destroy|emitBuffered|emitEvent|emitReserved|flags|ids|notifyOutgoingListeners|on(ack|close|connect|disconnect|error|event|open|packet)|packet|subEvents|subs|event)$/,
  manager:
    /^(backoff|cleanup|clearTimeoutFn|decoder|encoder|disconnect|emitReserved|maybeReconnectOnOpen|nsps|on(close|data|decoded|error|open|packet|ping|reconnect)|reconnect|setTimeoutFn|subs|uri|events|readyState)$/,
};

function declared(file: string, ...interfaces: string[]): string[] {
  const require = createRequire(createRequire(import.meta.url).resolve("socket.io-client"));
  const [, name, path] = /^((?:@[\w-]+\/)?[\w.-]+)\/(.*)$/.exec(file)!;
  const root = join(dirname(require.resolve(name!)), "..", "..");
  const text = readFileSync(join(root, path!), "utf8");
  return interfaces.flatMap((one) => {
    const [body] = new RegExp(`interface ${one}\\b[^{]*\\{[^]*?\\n\\}`).exec(text)!;
    return [...body.matchAll(/^ {4}(\w+)\??:/gm)].map(([, option]) => option!);
  });
}
const sorted = (names: string[]) => [...new Set(names)].sort();

test("every option that socket.io-client declares is honoured or refused, and no other", () => {
  const options = [
    ...declared("engine.io-client/build/esm/socket.d.ts", "SocketOptions"),
    ...declared("socket.io-client/build/esm/manager.d.ts", "ManagerOptions"),
    ...declared("socket.io-client/build/esm/socket.d.ts", "SocketOptions"),
  ];
  const ours = [...Object.keys(api.WORKS.options), ...Object.keys(api.REFUSED_OPTIONS)];
  expect(ours).toHaveLength(new Set(ours).size);
  expect(options.filter((name) => !ours.includes(name))).toEqual([]);
  // In the documentation, but not in the declarations.
  expect(sorted(ours.filter((name) => !options.includes(name)))).toEqual(["binaryType", "localAddress"]);
});

test("a refused option throws what to do instead, unless it asks for what is so anyway", () => {
  for (const [name, { instead }] of Object.entries(api.REFUSED_OPTIONS)) {
    expect(() => make({ [name]: ["something"] }), name).toThrow(
      `roomcast/io does not have the option "${name}": ${instead}`,
    );
    expect(() => make({ [name]: undefined }), name).not.toThrow();
  }
  const usual = {
    path: "/socket.io",
    reconnectionDelay: 1_000,
    transports: ["websocket"],
    withCredentials: false,
    timeout: 20_000,
  };
  expect(() => make(usual)).not.toThrow();
  expect(() => make({ transports: ["websocket", "polling"] })).toThrow(/no long polling/);
  expect(() => make({ reconectionDelay: 1 })).toThrow('roomcast/io does not know the option "reconectionDelay"');
});

test("an honoured option throws nothing", () => {
  for (const name of Object.keys(api.WORKS.options)) {
    const value = { auth: { token: "t" }, query: { a: 1 }, ackTimeout: 1_000, reconnectionAttempts: 2 }[name] ?? false;
    expect(() => make({ [name]: value }), name).not.toThrow();
  }
});

test.each([
  ["socket", api.REFUSED_SOCKET],
  ["manager", api.REFUSED_MANAGER],
] as const)("every member of socket.io-client's %s works or throws what to do instead", (kind, refused) => {
  const theirs = original.io("http://localhost:1", { autoConnect: false });
  const ours = make();
  const [their, our] = kind === "socket" ? [theirs, ours] : [theirs.io, ours.io];
  const listed = [...Object.keys(api.WORKS[kind]), ...Object.keys(refused)];
  expect(listed).toHaveLength(new Set(listed).size);
  const missing = members(their).filter((name) => !INSIDE[kind].test(name) && !listed.includes(name));
  expect(missing).toEqual([]);
  for (const name of Object.keys(api.WORKS[kind])) {
    expect(name in our, name).toBe(true);
    // A method is a method, an attribute an attribute.
    if (name in their && typeof (their as any)[name] !== "undefined") {
      expect(typeof (our as any)[name], name).toBe(typeof (their as any)[name]);
    }
  }
  for (const [name, { instead }] of Object.entries(refused)) {
    expect(() => (our as any)[name], name).toThrow(instead);
    expect(() => ((our as any)[name] = 1), name).toThrow(instead);
  }
});

test("the exports are there, or say what to do", () => {
  const known = ["Manager", "Socket", "connect", "default", "io", "protocol"];
  const engine = ["Fetch", "NodeWebSocket", "NodeXHR", "WebSocket", "WebTransport", "XHR"]; // transports, to be put together by hand
  expect(sorted(Object.keys(original))).toEqual(sorted([...known, ...engine]));
  expect(adapter.default).toBe(adapter.io);
  expect([adapter.connect, adapter.io.connect]).toEqual([adapter.io, adapter.io]);
  expect([adapter.protocol, adapter.io.protocol]).toEqual([original.protocol, original.protocol]);
  expect(() => new adapter.Manager()).toThrow(api.REFUSED_EXPORTS.Manager!.instead);
  expect(() => new adapter.io.Manager()).toThrow(api.REFUSED_EXPORTS.Manager!.instead);
});

test("the manager's events that do not exist say so", () => {
  for (const [event, { instead }] of Object.entries(api.REFUSED_MANAGER_EVENTS)) {
    expect(() => make().io.on(event, () => {})).toThrow(instead);
  }
  const declaredEvents = declared("socket.io-client/build/esm/manager.d.ts", "ManagerReservedEvents");
  const listed = [...Object.keys(api.WORKS.managerEvents), ...Object.keys(api.REFUSED_MANAGER_EVENTS)];
  expect(sorted(listed)).toEqual(sorted(declaredEvents));
});

test("the tables of the migration page are those of the code", () => {
  const path = join(import.meta.dirname, "..", "..", "docs", "migrating-from-socketio.md");
  const page = readFileSync(path, "utf8");
  const made = update(page, table());
  if (process.env.UPDATE_TABLES) return writeFileSync(path, made);
  expect(made, "run `npm run tables --workspace client`").toBe(page);
});

test("an application's types for socket.io-client go on working", () => {
  interface ServerToClient {
    notice: (data: { text: string }) => void;
  }
  interface ClientToServer {
    "order:cancel": (data: { orderId: string }, ack: (reply: { cancelled: boolean }) => void) => void;
    ping: () => void;
  }
  const use = (socket: adapter.Socket<ServerToClient, ClientToServer>) => {
    socket.on("notice", ({ text }) => expectTypeOf(text).toEqualTypeOf<string>());
    socket.on("connect_error", (error) => expectTypeOf(error.message).toEqualTypeOf<string>());
    socket.once("disconnect", (reason) => expectTypeOf(reason).toEqualTypeOf<string>());
    socket.emit("order:cancel", { orderId: "7" }, ({ cancelled }) => expectTypeOf(cancelled).toEqualTypeOf<boolean>());
    socket.timeout(500).emit("ping").off("notice");
    // @ts-expect-error no such event
    socket.on("notise", () => {});
    // @ts-expect-error orderId is a string
    socket.emit("order:cancel", { orderId: 7 }, () => {});
    return socket.emitWithAck("order:cancel", { orderId: "7" });
  };
  const made: adapter.Socket<ServerToClient, ClientToServer> = make();
  expectTypeOf(use).parameter(0).toEqualTypeOf(made);
  const untyped = make();
  untyped.on("anything", (data) => expectTypeOf(data).toBeAny()).emit("anything", { a: 1 });
});
