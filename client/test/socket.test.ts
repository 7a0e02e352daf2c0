/** LandingHub's functions, used as its components use them. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { FakeServer } from "../src/testing.ts";

let server: FakeServer;
let socket: typeof import("../src/socket.ts");

beforeEach(async () => {
  vi.useFakeTimers();
  server = new FakeServer();
  vi.stubGlobal("WebSocket", server.WebSocket);
  vi.stubGlobal("localStorage", { getItem: (key: string) => (key === "token" ? "stored" : null) });
  vi.stubEnv("REACT_APP_WEBSOCKET_URL", "wss://react.test/prod");
  vi.resetModules(); // one shared client each
  socket = await import("../src/socket.ts");
});
afterEach(() => {
  socket.disconnectSocket();
  vi.unstubAllEnvs();
  vi.useRealTimers();
});
const pass = (milliseconds: number) => vi.advanceTimersByTimeAsync(milliseconds);

test("initSocket() takes the URL from the environment and the token from localStorage", async () => {
  expect(socket.getSocket()).toBeNull();
  const made = socket.initSocket();
  expect(socket.initSocket()).toBe(made);
  await pass(10);
  expect(socket.getSocket()).toBe(made);
  expect(made.connected).toBe(true);
  expect(server.attempts.map(({ url }) => url)).toEqual(["wss://react.test/prod?token=stored"]);
});

test("Vite's variable serves where React's is not set", async () => {
  vi.stubEnv("REACT_APP_WEBSOCKET_URL", undefined);
  vi.stubEnv("VITE_WEBSOCKET_URL", "wss://vite.test/prod");
  socket.initSocket();
  await pass(10);
  expect(server.last.url).toBe("wss://vite.test/prod?token=stored");
});

test("without any URL it is told which key to set, and nothing is tried", async () => {
  vi.stubEnv("REACT_APP_WEBSOCKET_URL", undefined);
  const printed = vi.spyOn(console, "error").mockImplementation(() => {});
  socket.initSocket();
  await pass(10);
  expect(printed.mock.calls).toEqual([[expect.stringMatching(/set REACT_APP_WEBSOCKET_URL or VITE_WEBSOCKET_URL/)]]);
  const told = vi.fn();
  socket.initSocket();
  socket.on("not_configured", told);
  await pass(60_000);
  expect(told).toHaveBeenCalledTimes(1);
  expect(told.mock.calls[0]![0]).toMatchObject({ code: "not_configured", message: expect.stringMatching(/REACT_APP/) });
  expect([printed.mock.calls.length, socket.getSocket(), server.attempts]).toEqual([1, null, []]);
  vi.stubEnv("REACT_APP_WEBSOCKET_URL", "wss://react.test/prod");
  socket.initSocket();
  await pass(10);
  expect(socket.getStatus().connected).toBe(true);
});

test("what is told otherwise counts: a token, or options", async () => {
  socket.initSocket("mine");
  await pass(10);
  socket.disconnectSocket();
  expect(socket.getSocket()).toBeNull();
  socket.initSocket({ url: "wss://other.test/dev", getToken: async () => "asked" });
  await pass(10);
  socket.disconnectSocket();
  socket.initSocket();
  await pass(10);
  expect(server.attempts.map(({ url }) => url)).toEqual([
    "wss://react.test/prod?token=mine",
    "wss://other.test/dev?token=asked",
    "wss://react.test/prod?token=stored",
  ]);
});

test("a component's effect may come before initSocket(), and its cleanup ends what it began", async () => {
  // LandingHub's dashboard, as its useEffect runs it.
  const updates: unknown[] = [];
  const joined = vi.fn();
  const effect = () => {
    socket.on("dashboard:joined", joined);
    void socket.joinDashboard("u1", "user");
    const cleanup = socket.onDashboardUpdate((data) => updates.push(data));
    return () => {
      cleanup();
      socket.off("dashboard:joined", joined);
      void socket.leaveDashboard("u1");
    };
  };
  const cleanup = effect();
  socket.initSocket();
  await pass(10);
  expect(joined).toHaveBeenCalledTimes(1);
  expect(joined.mock.calls[0]![0]).toEqual({ success: true, userRole: "user", room: "dashboard_user_u1" });
  expect(socket.getStatus()).toEqual({ connected: true, state: "connected", rooms: ["dashboard"] });
  server.say("dashboard:update", { type: "new_order", orderId: "123" });
  cleanup();
  await pass(10);
  server.say("dashboard:update", { type: "new_order", orderId: "124" });
  expect(updates).toEqual([{ type: "new_order", orderId: "123" }]);
  expect(server.last.actions).toEqual(["dashboard:join", "dashboard:leave"]);
});

test("chat rooms and refresh, and what is listened to survives a logout", async () => {
  const heard: unknown[] = [];
  socket.on("chat:joined_room", (data) => heard.push(data));
  socket.initSocket();
  const joined = socket.joinChatRoom("42");
  await pass(10);
  expect(await joined).toEqual({ roomId: "42", success: true });
  const refreshed = socket.refreshDashboard();
  void socket.leaveChatRoom("42");
  await pass(10);
  expect(await refreshed).toEqual({ type: "user" });
  expect(server.last.actions).toEqual(["chat:join_room", "dashboard:refresh", "chat:leave_room"]);
  socket.disconnectSocket();
  socket.initSocket();
  void socket.joinChatRoom("43");
  await pass(10);
  expect(heard).toEqual([
    { roomId: "42", success: true },
    { roomId: "43", success: true },
  ]);
});

/** Everything of `socket.js`'s own events, as it comes. */
function listen(): string[] {
  const heard: string[] = [];
  for (const event of ["connected", "disconnected", "not_configured", "reconnect_failed"]) {
    socket.on(event, ({ code }) => heard.push(code === undefined ? event : `${event} ${code}`));
  }
  return heard;
}

test("connected, disconnected with the close code, and reconnect_failed", async () => {
  const heard = listen();
  socket.initSocket();
  await pass(10);
  server.cut(1001, "Going away");
  await pass(60_000);
  socket.disconnectSocket();
  expect(heard.splice(0)).toEqual(["connected", "disconnected 1001", "connected", "disconnected 1000"]);
  server.admit = "refuse";
  socket.initSocket();
  await pass(600_000);
  expect(heard).toEqual(["reconnect_failed auth_failed"]);
  expect(socket.getSocket()).toBeNull();
});

test("sendMessage, joinRoom and leaveRoom", async () => {
  socket.initSocket();
  await pass(10);
  expect(await settled(socket.sendMessage("ping"))).toEqual({ timestamp: "2025-01-17T10:30:00.000Z" });
  expect(await settled(socket.sendMessage("unknown", { a: 1 }))).toMatchObject({ code: "unknown_action" });
  expect(await settled(socket.joinRoom("42"))).toEqual({ roomId: "42", success: true });
  expect(await settled(socket.joinRoom("chat_room_43"))).toEqual({ roomId: "43", success: true });
  expect(await settled(socket.joinRoom("dashboard"))).toMatchObject({ success: true });
  expect(socket.getStatus().rooms).toEqual(["chat_room_42", "chat_room_43", "dashboard"]);
  for (const room of ["42", "chat_room_43", "dashboard"]) await settled(socket.leaveRoom(room));
  expect(socket.getStatus().rooms).toEqual([]);
  expect(server.last.received[1]).toMatchObject({ action: "unknown", a: 1 });
});

test.each(["onChatUpdate", "onRoomUpdate", "onAdminStatus"] as const)(
  "%s hears its event, until its cleanup",
  (name) => {
    const event = { onChatUpdate: "chat:update", onRoomUpdate: "room:update", onAdminStatus: "admin:status" }[name];
    const heard: unknown[] = [];
    const cleanup = socket[name]((data) => heard.push(data));
    socket.initSocket();
    return pass(10).then(() => {
      server.say(event, { a: 1 });
      cleanup();
      server.say(event, { a: 2 });
      expect(heard).toEqual([{ a: 1 }]);
    });
  },
);

test("an event without data is given as its envelope", async () => {
  const heard: any[] = [];
  socket.on("order_delivered", (data) => heard.push(data));
  socket.initSocket();
  await pass(10);
  server.last.text('{"event":"order_delivered","orderId":"7"}');
  expect(heard).toEqual([{ event: "order_delivered", orderId: "7" }]);
});

test("off() takes one listener, or all of an event", async () => {
  const [first, second] = [vi.fn(), vi.fn()];
  socket.on("connected", first);
  socket.on("connected", second);
  socket.off("connected", first);
  socket.initSocket();
  await pass(10);
  expect([first, second].map(({ mock }) => mock.calls.length)).toEqual([0, 1]);
  socket.off("connected");
  server.cut();
  await pass(60_000);
  expect(second).toHaveBeenCalledTimes(1);
});

test("the default export has every function", () => {
  const { default: all, ...named } = socket;
  expect(all).toEqual(named);
});

test("every function may be called before initSocket()", async () => {
  const refreshed = socket.refreshDashboard();
  const sent = socket.sendMessage("ping");
  void socket.joinDashboard();
  await pass(60_000);
  socket.initSocket();
  await pass(10);
  expect(await refreshed).toEqual({ type: "user" });
  expect(await sent).toEqual({ timestamp: "2025-01-17T10:30:00.000Z" });
  expect(server.last.actions.sort()).toEqual(["dashboard:join", "dashboard:refresh", "ping"]);
});

test("what waits for initSocket() is limited, and after a logout nothing waits", async () => {
  const refused = Array.from({ length: 101 }, () => settled(socket.sendMessage("ping"))).at(-1);
  await pass(0);
  expect(await refused).toMatchObject({ code: "queue_full" });
  socket.initSocket();
  await pass(60_000);
  socket.disconnectSocket();
  expect(await settled(socket.sendMessage("order:delete"))).toMatchObject({ code: "disconnected" });
  socket.initSocket();
  await pass(10);
  expect(server.last.actions).toEqual([]);
});

test("a room without an id is refused, quietly", async () => {
  const unhandled = vi.fn();
  process.on("unhandledRejection", unhandled);
  socket.initSocket();
  await pass(10);
  for (const id of ["", undefined, null] as any[]) {
    void socket.joinChatRoom(id);
    void socket.leaveChatRoom(id);
    expect(await settled(socket.joinRoom(id))).toMatchObject({ code: "unknown_room" });
  }
  vi.useRealTimers();
  await new Promise((resolve) => setTimeout(resolve, 10));
  expect(unhandled).not.toHaveBeenCalled();
  process.off("unhandledRejection", unhandled);
  expect(socket.getStatus().rooms).toEqual([]);
});

test("localStorage that throws is as no token", async () => {
  vi.stubGlobal("localStorage", {
    getItem() {
      throw new DOMException("The operation is insecure.", "SecurityError");
    },
  });
  const heard = listen();
  socket.initSocket();
  await pass(10);
  expect(heard).toEqual(["reconnect_failed auth_failed"]);
});

test("a wrong URL is told without the token", async () => {
  const reasons: string[] = [];
  socket.on("client:retry", ({ reason }) => reasons.push(reason));
  socket.initSocket({ url: '"wss://x.test/prod"', token: "SECRET" });
  await pass(10);
  expect(reasons).toEqual([expect.stringMatching(/^the url .* wss:/)]);
  expect(`${reasons}`).not.toContain("SECRET");
});

/** The value or the error of a promise, whichever comes, while time passes. */
async function settled(promise: Promise<unknown>): Promise<unknown> {
  const result = promise.catch((error) => error);
  await pass(10);
  return result;
}
