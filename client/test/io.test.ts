/** The uses of Socket.IO that carry over, and that the others say so. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { io, type IoOptions, type IoSocket } from "../src/io.ts";
import { FakeServer, forbidden, reply } from "../src/testing.ts";

let server: FakeServer;
let socket: IoSocket;

beforeEach(() => {
  vi.useFakeTimers();
  server = new FakeServer();
});
afterEach(() => {
  socket.disconnect();
  vi.useRealTimers();
});
const pass = (milliseconds: number) => vi.advanceTimersByTimeAsync(milliseconds);
const start = (options: Partial<IoOptions> = {}) =>
  (socket = io("https://example.test/prod", { auth: { token: "t" }, WebSocket: server.WebSocket, ...options }));

test("connects with auth.token, and knows connected and id", async () => {
  start();
  const connect = vi.fn(() => expect(socket.id).toMatch(/^[0-9a-z]{20}$/));
  socket.on("connect", connect);
  expect([socket.connected, socket.disconnected, socket.id]).toEqual([false, true, undefined]);
  await pass(10);
  expect(connect).toHaveBeenCalledTimes(1);
  expect([socket.connected, socket.disconnected]).toEqual([true, false]);
  expect(server.last.url).toBe("wss://example.test/prod?token=t");
});

test("asks an auth function before every attempt; socket.auth can be replaced", async () => {
  let number = 0;
  start({ auth: (callback) => callback({ token: `t${++number}` }) });
  await pass(10);
  server.cut();
  await pass(33_000);
  socket.disconnect();
  socket.auth = { token: "new" };
  socket.connect();
  await pass(10);
  expect(server.attempts.map(({ url }) => url.split("=")[1])).toEqual(["t1", "t2", "new"]);
});

test("disconnect has Socket.IO's reasons, and connect comes again by itself", async () => {
  start();
  const heard: string[] = [];
  socket.on("connect", () => heard.push("connect"));
  socket.on("disconnect", (reason) => heard.push(reason));
  await pass(10);
  server.cut();
  await pass(33_000);
  socket.disconnect();
  expect(heard).toEqual(["connect", "transport close", "connect", "io client disconnect"]);
  expect(socket.id).toBeUndefined();
});

test("connect_error hears each failed attempt, and at last that the token is refused", async () => {
  server.admit = "refuse";
  start();
  const errors: Error[] = [];
  socket.on("connect_error", (error) => errors.push(error));
  await pass(60_000);
  expect(errors).toHaveLength(4);
  expect(errors.at(-1)).toMatchObject({ code: "auth_failed" });
});

test("on, once and off, with listeners that get the data", async () => {
  start();
  await pass(10);
  const heard: unknown[] = [];
  const listener = (data: unknown) => heard.push(data);
  socket.on("a", listener).once("a", (data) => heard.push(`once ${data}`));
  server.say("a", 1);
  server.say("a", 2);
  socket.off("a", listener);
  server.say("a", 3);
  socket.on("a", listener).on("b", listener).off();
  server.say("a", 4);
  server.say("b", 5);
  expect(heard).toEqual([1, "once 1", 2]);
});

test("emit with an acknowledgement gets the reply's data, or the error", async () => {
  start();
  await pass(10);
  const acks: unknown[] = [];
  socket.emit("ping", (data: unknown) => acks.push(data));
  socket.emit("nothing", { a: 1 }, (data: unknown) => acks.push(data));
  socket.emit("text", "hello");
  await pass(10);
  expect(acks).toEqual([
    { timestamp: "2025-01-17T10:30:00.000Z" },
    { error: { code: "unknown_action", message: "nothing: Unknown action" } },
  ]);
  expect(server.last.received).toMatchObject([{ action: "ping" }, { action: "nothing", a: 1 }, { data: "hello" }]);
  const refreshed = socket.emitWithAck("dashboard:refresh");
  await pass(10);
  expect(await refreshed).toEqual({ type: "user" });
});

test("a room that is joined by emit is joined again after a reconnect, until it is left", async () => {
  start();
  await pass(10);
  const acks: unknown[] = [];
  socket.emit("dashboard:join");
  socket.emit("chat:join_room", { roomId: "7" }, (data: unknown) => acks.push(data));
  await pass(10);
  server.cut();
  await pass(43_000); // and ten seconds of good connection, so that the next wait is a first one
  expect(server.last.actions).toEqual(["dashboard:join", "chat:join_room"]);
  socket.emit("chat:leave_room", { roomId: "7" }, (data: unknown) => acks.push(data));
  await pass(10);
  server.cut();
  await pass(33_000);
  expect(server.last.actions).toEqual(["dashboard:join"]);
  expect(acks).toEqual([
    { roomId: "7", success: true },
    { roomId: "7", success: true },
  ]);
});

test("a refused room is told to the acknowledgement", async () => {
  start();
  await pass(10);
  server.answer = forbidden;
  const ack = vi.fn();
  socket.emit("chat:join_room", { roomId: "7" }, ack);
  await pass(10);
  expect(ack.mock.calls[0]![0]).toMatchObject({ error: { code: "forbidden" } });
});

test("an emit that fails without anybody asking is still told", async () => {
  const printed = vi.spyOn(console, "error").mockImplementation(() => {});
  server.answer = () => undefined;
  start({ replyTimeout: 100 });
  await pass(10);
  socket.emit("ping");
  await pass(200);
  expect(printed.mock.calls).toEqual([["timeout: ping: no reply in 100 ms"]]);
  const errors: unknown[] = [];
  socket.on("error", (error) => errors.push(error));
  socket.emit("ping");
  await pass(200);
  expect(errors).toMatchObject([{ code: "timeout" }]);
  expect(printed).toHaveBeenCalledTimes(1);
});

test("what is emitted before connect() and after disconnect() waits for the next connect()", async () => {
  start({ autoConnect: false });
  const acks: unknown[] = [];
  socket.emit("dashboard:refresh", (data: unknown) => acks.push(data));
  await pass(60_000);
  socket.connect();
  await pass(10);
  expect(acks).toEqual([{ type: "user" }]);
  socket.disconnect();
  socket.emit("ping");
  await pass(60_000);
  socket.connect();
  await pass(10);
  expect(server.connections.map(({ actions }) => actions)).toEqual([["dashboard:refresh"], ["ping"]]);
});

test("what waits is limited, by number and by the emit's own time", async () => {
  start({ autoConnect: false, queueLimit: 1 });
  const acks: unknown[] = [];
  socket.timeout(500).emit("ping", (...values: unknown[]) => acks.push(values));
  socket.emit("ping", (data: unknown) => acks.push(data));
  await pass(1_000);
  expect(acks).toMatchObject([
    { error: { code: "queue_full" } },
    [{ code: "timeout", message: "operation has timed out" }],
  ]);
  socket.connect();
  await pass(10);
  expect(server.last.actions).toEqual([]);
});

test("timeout() and ackTimeout: the acknowledgement gets an error first, in time", async () => {
  server.answer = (action) => (action.action === "slow" ? undefined : reply(action));
  start({ ackTimeout: 2_000 });
  await pass(10);
  const acks: unknown[] = [];
  const note = (name: string) => (error: any, data: unknown) =>
    acks.push([name, error?.code ?? error, data, Date.now() - began]);
  const began = Date.now();
  socket.timeout(300).emit("slow", note("timeout"));
  socket.emit("slow", note("ackTimeout"));
  socket.emit("ping", note("ping"));
  socket.emit("unknown", note("unknown"));
  const refused = socket
    .timeout(100)
    .emitWithAck("slow")
    .catch((error) => error.code);
  await pass(20_000);
  expect(acks).toEqual([
    ["ping", null, { timestamp: "2025-01-17T10:30:00.000Z" }, 1],
    ["unknown", "unknown_action", undefined, 1],
    ["timeout", "timeout", undefined, 300],
    ["ackTimeout", "timeout", undefined, 2_000],
  ]);
  expect(await refused).toBe("timeout");
});

test("a timeout longer than replyTimeout is honoured too", async () => {
  server.answer = (action, connection) => {
    if (action.action !== "dashboard:refresh") return reply(action);
    connection.after(20_000, () => connection.text(JSON.stringify(reply(action))));
    return undefined;
  };
  start();
  await pass(10);
  const ack = vi.fn();
  socket.timeout(30_000).emit("dashboard:refresh", ack);
  await pass(25_000);
  expect(ack).toHaveBeenCalledExactlyOnceWith(null, { type: "user" });
});

test("volatile is dropped without a connection, and sent with one", async () => {
  start();
  const ack = vi.fn();
  socket.volatile.emit("dashboard:refresh");
  socket.volatile.emit("dashboard:refresh", ack);
  await pass(10);
  expect(ack).toHaveBeenCalledExactlyOnceWith({ error: { code: "disconnected", message: expect.any(String) } });
  socket.volatile.emit("ping");
  await pass(10);
  expect(server.last.actions).toEqual(["ping"]);
});

test("onAny, onAnyOutgoing and their kin hear everything, in their order", async () => {
  start();
  await pass(10);
  const heard: unknown[] = [];
  const any = (event: string, data: unknown) => heard.push(["any", event, data]);
  socket.onAny(any).prependAny(() => heard.push("first"));
  socket.onAnyOutgoing((action: string, data: unknown) => heard.push(["out", action, data]));
  socket.on("a", () => heard.push("a"));
  server.say("a", 1);
  socket.emit("b", { c: 2 }, () => {});
  socket.offAny(any).offAnyOutgoing();
  expect([socket.listenersAny().length, socket.listenersAnyOutgoing().length]).toEqual([1, 0]);
  server.say("b", 1);
  expect(heard).toEqual(["first", ["any", "a", 1], "a", ["out", "b", { c: 2 }], "first"]);
});

test("listeners() and the emitter's other names", async () => {
  start();
  await pass(10);
  const listener = vi.fn();
  socket.addEventListener("a", listener);
  expect([socket.listeners("a"), socket.hasListeners("a"), socket.hasListeners("b")]).toEqual([
    [listener],
    true,
    false,
  ]);
  socket.removeListener("a", listener).once("a", listener).removeAllListeners();
  server.say("a", 1);
  expect(listener).not.toHaveBeenCalled();
});

test("a listener or an acknowledgement that throws harms nobody", async () => {
  const printed = vi.spyOn(console, "error").mockImplementation(() => {});
  start();
  await pass(10);
  const heard = vi.fn();
  socket.on("a", () => {
    throw undefined;
  });
  socket.on("a", async () => Promise.reject(new Error("mine")));
  socket.on("a", heard);
  server.say("a", 1);
  socket.emit("ping", () => {
    throw new Error("ack");
  });
  await pass(10);
  expect(heard).toHaveBeenCalledTimes(1);
  expect(printed).toHaveBeenCalledTimes(3);
});

test("reconnection: false ends with the first failure or the first loss", async () => {
  start({ reconnection: false });
  const heard: string[] = [];
  socket.on("disconnect", (reason) => heard.push(reason));
  await pass(10);
  server.cut();
  await pass(60_000);
  expect(heard).toEqual(["transport close"]);
  expect([socket.active, server.attempts.length]).toEqual([false, 1]);
  server.admit = "down";
  socket.on("connect_error", () => heard.push("connect_error"));
  socket.connect();
  await pass(60_000);
  expect(heard).toEqual(["transport close", "connect_error"]);
  expect([socket.active, server.attempts.length]).toEqual([false, 2]);
});

test("reconnectionAttempts, and what the manager tells of them", async () => {
  start({ reconnectionAttempts: 2 });
  const heard: unknown[] = [];
  for (const event of [
    "open",
    "close",
    "error",
    "reconnect_attempt",
    "reconnect_error",
    "reconnect_failed",
    "reconnect",
  ]) {
    socket.io.on(event, (value: unknown) => heard.push(typeof value === "number" ? `${event} ${value}` : event));
  }
  await pass(10);
  server.cut();
  await pass(60_000);
  expect(heard.splice(0)).toEqual(["open", "close", "reconnect_attempt 1", "open", "reconnect 1"]);
  server.admit = "down";
  server.cut();
  await pass(600_000);
  const failed = (number: number) => [`reconnect_attempt ${number}`, "error", "reconnect_error"];
  expect(heard.splice(0)).toEqual(["close", ...failed(1), ...failed(2), "reconnect_failed"]);
  expect(socket.active).toBe(false);
  expect([socket.io.reconnection(), socket.io.reconnectionAttempts()]).toEqual([true, 2]);
});

test("a connect() of the application begins the count anew, and no attempts are no attempts", async () => {
  start({ reconnectionAttempts: 1 });
  const attempts = vi.fn();
  const failed = vi.fn();
  socket.io.on("reconnect_attempt", attempts).on("reconnect_failed", failed);
  await pass(10);
  server.admit = "down";
  server.cut();
  await pass(100);
  socket.disconnect().connect();
  await pass(10);
  expect([attempts.mock.calls.length, failed.mock.calls.length]).toEqual([0, 0]);
  server.admit = "open";
  await pass(60_000);
  socket.io.reconnectionAttempts(0);
  const tried = server.attempts.length;
  server.cut();
  await pass(60_000);
  expect([failed.mock.calls.length, server.attempts.length - tried, socket.active]).toEqual([1, 0, false]);
});

test("the manager's open() says how the first attempt went", async () => {
  start({ autoConnect: false });
  const done = vi.fn();
  socket.io.open(done);
  await pass(10);
  expect(done).toHaveBeenCalledExactlyOnceWith();
  socket.disconnect();
  server.admit = "down";
  socket.io.connect(done);
  await pass(10);
  expect(done.mock.lastCall).toEqual([expect.any(Error)]);
});

test("query is added to the URL", async () => {
  start({ query: { version: 2, name: "a b" } });
  await pass(10);
  expect(server.last.url).toBe("wss://example.test/prod?version=2&name=a%20b&token=t");
});

test("without a token it throws what to do, and socket.auth may come later", async () => {
  expect(() => io("wss://example.test", { WebSocket: server.WebSocket })).toThrow(
    /there is no token: set `socket.auth = { token }`/,
  );
  expect(() => io("wss://example.test", { query: { token: "SECRET" } })).toThrow(/^give the token with `auth/);
  start({ auth: undefined as any, autoConnect: false });
  expect(() => socket.connect()).toThrow(/there is no token/);
  socket.auth = { token: "later" };
  socket.connect();
  await pass(10);
  expect(server.last.url).toMatch(/token=later$/);
});

test("what auth holds beside the token is refused, and the token is not told", async () => {
  start({ auth: { token: "SECRET", room: "7" } as any });
  const errors: Error[] = [];
  socket.on("connect_error", (error) => errors.push(error));
  await pass(10);
  expect(errors[0]!.message).toMatch(/^auth holds more than the token \(room\)/);
  expect(`${errors}`).not.toContain("SECRET");
});

test.each([[undefined], ["/admin"], [{ auth: { token: "t" } }], [""], ["wss://x/prod#a"]])(
  "io(%j) says what is wrong",
  (url: any) => {
    expect(() => io(url, { auth: { token: "SECRET" } })).toThrow(/wss:\/\//);
  },
);

test("fields that would not be sent are refused", () => {
  start();
  expect(() => socket.emit("chat:join_room", { roomId: "7", password: "p" })).toThrow(
    /takes { roomId } and nothing else: password/,
  );
  expect(() => socket.emit("dashboard:join", { room: "x" })).toThrow(/dashboard:join takes nothing: room/);
  expect(() => socket.emit("a", { file: new Uint8Array(1) })).toThrow(/upload binary data over HTTP/);
  expect(() => socket.emit("connect")).toThrow(/reserved event name/);
  expect(() => socket.emit(undefined as any)).toThrow(/name of an action/);
  expect(() => socket.on("client:state", () => {})).toThrow(/socket.client.on/);
});

test("what JSON cannot hold is told", async () => {
  start();
  const circle: Record<string, unknown> = {};
  circle.self = circle;
  const ack = vi.fn();
  socket.emit("a", circle, ack);
  socket.emit("a", { big: 1n }, ack);
  await pass(10);
  expect(ack.mock.calls).toMatchObject([[{ error: { code: "invalid_data" } }], [{ error: { code: "invalid_data" } }]]);
});

test("several values in one emit are refused with what to do instead", async () => {
  start();
  expect(() => socket.emit("a", 1, 2)).toThrow(/one JSON object/);
  await expect(socket.emitWithAck("a", 1, 2)).rejects.toThrow(/one JSON object/);
});
