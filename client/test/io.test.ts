/** The uses of Socket.IO that carry over, and that the others say so. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { io, type IoOptions, type IoSocket } from "../src/io.ts";
import { FakeServer, forbidden } from "./fake-server.ts";

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
  start({ autoConnect: false });
  socket.emit("ping");
  await pass(0);
  expect(printed.mock.calls[0]![0]).toMatch(/^disconnected: /);
  const errors: unknown[] = [];
  socket.on("error", (error) => errors.push(error));
  socket.emit("ping");
  await pass(0);
  expect(errors).toMatchObject([{ code: "disconnected" }]);
  expect(printed).toHaveBeenCalledTimes(1);
});

test("several values in one emit are refused with what to do instead", () => {
  start();
  expect(() => socket.emit("a", 1, 2)).toThrow(/one JSON object/);
});
