/** LandingHub's functions, used as its components use them. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { FakeServer } from "./fake-server.ts";

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

test("without any URL it is told which key to set", async () => {
  vi.stubEnv("REACT_APP_WEBSOCKET_URL", undefined);
  const reasons: string[] = [];
  socket.on("client:retry", ({ reason }) => reasons.push(reason));
  socket.initSocket();
  await pass(10);
  expect(reasons[0]).toMatch(/REACT_APP_WEBSOCKET_URL/);
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
