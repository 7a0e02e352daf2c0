/** A client with `resume`, against the fake server's streams. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Client, type ClientOptions, createClient } from "../src/index.ts";
import { resume, type ResumeCalls } from "../src/resume.ts";
import { FakeServer, FakeStreams, reply } from "../src/testing.ts";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const ROOM = "chat_room_1";

let server: FakeServer;
let streams: FakeStreams;
let client: Client & ResumeCalls;
let heard: unknown[];
let told: string[];
let page: EventTarget;

beforeEach(() => {
  vi.spyOn(Math, "random").mockReturnValue(0.5); // a second is enough to come back in
  vi.useFakeTimers({ now: Date.UTC(2025, 0, 17, 10, 30) });
  page = new EventTarget();
  vi.stubGlobal("addEventListener", page.addEventListener.bind(page));
  vi.stubGlobal("removeEventListener", page.removeEventListener.bind(page));
  server = new FakeServer();
  streams = new FakeStreams(server);
});
afterEach(() => {
  client.disconnect();
  expect(vi.getTimerCount()).toBe(0);
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

const pass = (milliseconds: number) => vi.advanceTimersByTimeAsync(milliseconds);
const say = (data: unknown, room: string = ROOM) => streams.send(room, "news", data);

function make(options: Partial<ClientOptions> = {}): typeof client {
  heard = [];
  told = [];
  client = createClient({
    url: "wss://example.test",
    getToken: () => "t",
    WebSocket: server.WebSocket,
    reconnectWindow: 100,
    resume,
    ...options,
  });
  client.on("news", (data) => heard.push(data));
  client.on("client:recovered", ({ room, count }) => told.push(`${room} recovered ${count}`));
  client.on("client:gap", ({ room }) => told.push(`${room} gap`));
  return client;
}

async function joined(options?: Partial<ClientOptions>) {
  make(options);
  const promise = client.join(ROOM);
  await pass(100);
  await promise;
}

test("one action joins every wanted room and the inbox, at each connection", async () => {
  make();
  const joins = [client.join("dashboard"), client.join(ROOM), client.join("chat_room_2")];
  await pass(100);
  await Promise.all(joins);
  expect(server.last.actions).toEqual(["rooms:join"]);
  expect(server.last.received[0]!["rooms"]).toEqual(
    ["dashboard", ROOM, "chat_room_2", "user"].map((room) => ({ room })),
  );
  say(1);
  server.cut();
  await pass(SECOND);
  expect(server.connections).toHaveLength(2);
  expect(server.last.actions).toEqual(["rooms:join"]);
  expect(client.joined).toEqual(["dashboard", ROOM, "chat_room_2"]);
});

test("what was sent while the connection was cut comes afterwards, in order, once, and it is said", async () => {
  await joined();
  say(1);
  await pass(10);
  server.cut();
  for (let number = 2; number <= 35; number++) say(number);
  say("for the user", "user_u1");
  await pass(SECOND);
  say(36);
  await pass(SECOND);
  expect(heard.filter((data) => typeof data === "number")).toEqual(Array.from({ length: 36 }, (_, index) => index + 1));
  expect(heard).toContain("for the user");
  expect(told.sort()).toEqual([`${ROOM} recovered 34`, "user recovered 1"]);
  expect(client.positions()[ROOM]).toEqual({ epoch: "a", seq: 36 });
});

test("what the server does not keep any more is a gap, told once", async () => {
  await joined();
  streams.keeps = 5;
  server.cut();
  for (let number = 1; number <= 6; number++) say(number);
  await pass(SECOND);
  say(7);
  await pass(MINUTE);
  expect(told).toEqual([`${ROOM} gap`, "user recovered 0"]);
  expect(heard).toEqual([7]);
});

test("a post that is lost is asked for", async () => {
  await joined();
  streams.posts = () => false;
  say(1);
  streams.posts = () => true;
  say(2);
  await pass(5 * SECOND);
  expect(heard).toEqual([1, 2]);
  expect(server.last.actions.filter((action) => action === "rooms:history")).toHaveLength(1);
});

test("posts that overtake each other are put in order, and nothing is asked", async () => {
  await joined();
  let delay = 300;
  streams.delay = () => (delay -= 50);
  for (let number = 1; number <= 5; number++) say(number);
  await pass(MINUTE);
  expect(heard).toEqual([1, 2, 3, 4, 5]);
  expect(server.last.actions).not.toContain("rooms:history");
});

test("the last post of all is lost: a wake-up finds out, and so does the keepalive", async () => {
  await joined({ keepalive: MINUTE });
  streams.posts = () => false;
  say(1);
  page.dispatchEvent(new Event("online"));
  await pass(5 * SECOND);
  expect(heard).toEqual([1]);
  say(2);
  await pass(MINUTE + 5 * SECOND);
  expect(heard).toEqual([1, 2]);
});

test("a handover replays nothing, and nothing is heard twice or not at all", async () => {
  server.facts = undefined;
  await joined();
  for (let minute = 0; minute < 130; minute++) {
    say(minute);
    await pass(MINUTE);
  }
  expect(server.connections.length).toBeGreaterThan(1);
  expect(heard).toEqual(Array.from({ length: 130 }, (_, minute) => minute));
  expect(server.last.received[0]).toEqual({
    action: "rooms:join",
    id: expect.any(String),
    rooms: [{ room: ROOM }, { room: "user" }],
  });
  expect(told).toEqual([]);
});

test("one refused room leaves the others joined", async () => {
  streams.forbidden.add("chat_room_2");
  make();
  const good = client.join(ROOM);
  const bad = client.join("chat_room_2").catch(({ code, message }) => `${code}: ${message}`);
  await pass(100);
  await good;
  expect(await bad).toBe("forbidden: no");
  expect(client.rooms).toEqual([ROOM]);
});

test("a position that the application kept outlives the page", async () => {
  for (let number = 1; number <= 4; number++) say(number);
  make();
  void client.join(ROOM, { since: { epoch: "a", seq: 2 } });
  await pass(100);
  expect(heard).toEqual([3, 4]);
});

test("sync: what comes while the state is loaded is heard after it", async () => {
  make();
  const promise = client.sync(ROOM, async () => {
    say("during");
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    heard.push("state");
    return "loaded";
  });
  await pass(5 * SECOND);
  expect(await promise).toBe("loaded");
  expect(heard).toEqual(["state", "during"]);
});

test("51 rooms are two actions", async () => {
  make();
  for (let number = 0; number < 51; number++) void client.join(`chat_room_${number}`);
  await pass(100);
  expect(server.last.actions).toEqual(["rooms:join", "rooms:join"]);
  expect(client.joined).toHaveLength(51);
});

test("a server that knows no rooms:join is asked for one room at a time", async () => {
  server.answer = (action) => reply(action);
  await joined();
  expect(server.last.actions).toEqual(["rooms:join", "chat:join_room"]);
  expect(client.joined).toEqual([ROOM]);
});

test("with opaque tokens the server's word shows that the user is another", async () => {
  await joined();
  say(1);
  await pass(10);
  const answer = server.answer;
  server.answer = (action, connection) =>
    JSON.parse(JSON.stringify(answer(action, connection)).replaceAll("user_u1", "user_u2"));
  const lost: string[] = [];
  client.on("client:room_lost", ({ code }) => lost.push(code));
  server.cut();
  await pass(SECOND);
  expect(lost).toEqual(["user_changed"]);
  expect(client.rooms).toEqual([]);
  expect(client.positions()).toEqual({});
});

test("a room that nobody ever answers for does not keep the others out", async () => {
  const answer = server.answer;
  server.answer = (action, connection) =>
    JSON.stringify(action).includes("chat_room_bad") ? undefined : answer(action, connection);
  make();
  const bad = client.join("chat_room_bad").catch(({ code }) => code);
  const good = client.join(ROOM);
  await pass(MINUTE);
  expect(await bad).toBe("timeout");
  expect(await good).toMatchObject({ room: ROOM });
  expect(client.joined).toEqual([ROOM]);
});

test("a confirmed room is joined again although another room of the same action is not answered for", async () => {
  await joined();
  const answer = server.answer;
  server.answer = (action, connection) =>
    JSON.stringify(action).includes("chat_room_bad") ? undefined : answer(action, connection);
  void client.join("chat_room_bad");
  server.cut();
  await pass(MINUTE);
  expect(client.joined).toEqual([ROOM]);
  say(1);
  await pass(SECOND);
  expect(heard).toEqual([1]);
});
