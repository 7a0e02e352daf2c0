/** The client against the real local run: real handlers, real tokens, real sends. */
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { type Client, type ClientOptions, createClient, type StateChange } from "../../src/index.ts";
import { publish, signal } from "../../src/publish.ts";
import { LocalRun, until } from "./local-run.ts";

let run: LocalRun;
let clients: Client[] = [];
beforeAll(async () => {
  run = await LocalRun.start();
});
afterAll(() => run?.end());
afterEach(() => {
  for (const client of clients) client.disconnect();
  clients = [];
  vi.unstubAllGlobals();
});

function make(getToken: ClientOptions["getToken"], options: Partial<ClientOptions> = {}) {
  const client = createClient({
    url: run.url,
    getToken,
    WebSocket: WebSocket as any,
    reconnectWindow: 500,
    ...options,
  });
  const states: StateChange[] = [];
  client.on("client:state", (change) => states.push(change));
  clients.push(client);
  return { client, states };
}

test("every action of the protocol has its typed reply", async () => {
  const token = await run.token("u1");
  const { client } = make(() => token);
  expect(await client.join("dashboard")).toEqual({ success: true, userRole: "user", room: "dashboard_user_u1" });
  expect(await client.send("dashboard:refresh")).toEqual({ type: "user" });
  expect(await client.send("ping")).toEqual({ timestamp: expect.stringMatching(/^\d{4}-.*Z$/) });
  await expect(client.join("chat_room_r1")).rejects.toMatchObject({ code: "forbidden" });
  await run.command("grant", "chat_room_r1", "u1");
  expect(await client.join("chat_room_r1")).toEqual({ roomId: "r1", success: true });
  expect(await client.send("auth:refresh", { token: run.sign("u1", 7200) })).toMatchObject({ success: true });
  await expect(client.send("auth:refresh", { token: run.sign("u2", 7200) })).rejects.toMatchObject({
    code: "invalid_token",
  });
  await client.leave("chat_room_r1");
  await client.leave("dashboard");
  await expect(client.join("chat_room_a b" as any)).rejects.toMatchObject({ code: "invalid_room" });
  await expect(client.send("nonsense")).rejects.toMatchObject({ code: "unknown_action" });
  expect(await run.send("room", "dashboard_user_u1", "a", 1)).toMatchObject({ sent: 0 });
});

test("sends reach who they are for, in the envelope of the protocol", async () => {
  const admin = make(await run.token("anna", "admin").then((token) => () => token)).client;
  const user = make(await run.token("ugo").then((token) => () => token)).client;
  await Promise.all([admin.join("dashboard"), user.join("dashboard")]);
  const heard: unknown[] = [];
  admin.on("*", (data, { event, room, id, timestamp }) =>
    heard.push(["admin", event, data, room, typeof id, typeof timestamp]),
  );
  user.on("*", (data, { event }) => heard.push(["user", event, data]));
  await run.command("send", "room", "dashboard_admin", "dashboard:update", '{"type":"new_order","orderId":"123"}');
  await run.command("send", "user", "ugo", "notice", '"é 名前 <b>"');
  await until(() => heard.length === 2, "two messages");
  expect(heard).toEqual([
    ["admin", "dashboard:update", { type: "new_order", orderId: "123" }, "dashboard_admin", "string", "string"],
    ["user", "notice", "é 名前 <b>"],
  ]);
});

test("members publish: everybody hears it once, with who has said it, and a repeat is the same message", async () => {
  const people = ["ann", "bob"].map(async (user) => {
    const token = await run.token(user);
    const { client } = make(() => token);
    await run.command("grant", "chat_room_p1", user);
    await client.join("chat_room_p1");
    const heard: unknown[] = [];
    client.on("chat:edited", (data, { from, seq, id }) => heard.push([data, from?.id, seq, id]));
    client.on("typing", (data, { from, seq }) => heard.push([data, from?.id, seq]));
    return { client, heard };
  });
  const [ann, bob] = await Promise.all(people);
  const sent = await publish(ann!.client, "chat_room_p1", "chat:edited", { text: "Hi" }, { id: "own-id-1" });
  const again = await publish(ann!.client, "chat_room_p1", "chat:edited", { text: "Hi" }, { id: "own-id-1" });
  expect([again.seq, again.epoch]).toEqual([sent.seq, sent.epoch]);
  const message = [{ text: "Hi" }, "ann", sent.seq, sent.id];
  await until(() => bob!.heard.length > 0 && ann!.heard.length > 0, "the message");
  expect(signal(bob!.client, "chat_room_p1", "typing", { on: true })).toBe(true);
  await until(() => ann!.heard.length > 1, "the signal");
  expect(ann!.heard).toEqual([message, [{ on: true }, "bob", undefined]]);
  expect(bob!.heard).toEqual([message]);
  await expect(publish(bob!.client, "chat_room_other", "chat:edited", {})).rejects.toMatchObject({
    code: expect.stringMatching(/not_a_member|forbidden/),
  });
});

test("the token may travel as a subprotocol, or as a one-time ticket", async () => {
  const token = await run.token("u5");
  const first = make(() => token, { sendTokenAs: "subprotocol" }).client;
  expect(await first.join("dashboard")).toMatchObject({ room: "dashboard_user_u5" });
  const code = "from roomcast import WebSocketService; print(WebSocketService.from_env().create_ticket('u6'))";
  const second = make(() => run.python(code), { sendTokenAs: "ticket" }).client;
  expect(await second.join("dashboard")).toMatchObject({ room: "dashboard_user_u6" });
});

test("a wrong token ends in auth_failed", async () => {
  const { client, states } = make(() => "wrong", { maxRefusals: 2 });
  await until(() => client.state === "disconnected", "auth_failed");
  expect(states.at(-1)).toMatchObject({ code: "auth_failed" });
});

test("a message of almost 32 KB passes, a larger one is refused here and costs no connection", async () => {
  const token = await run.token("u2");
  const { client, states } = make(() => token);
  await until(() => client.connected, "connected");
  await expect(client.send("ping", { text: "é".repeat(16_300) })).resolves.toBeTruthy();
  await expect(client.send("ping", { text: "é".repeat(16_400) })).rejects.toMatchObject({ code: "too_large" });
  await client.send("ping");
  expect(states.map(({ state }) => state)).toEqual(["connected"]);
});

test("a token that ends is followed by a new one, and the application notices nothing", async () => {
  const tokens: string[] = [];
  const { client, states } = make(() => (tokens.push(run.sign("u3", 10)), tokens.at(-1)!), { replyTimeout: 300 });
  await client.join("dashboard");
  const heard: number[] = [];
  client.on("tick", (data) => heard.push(data as number));
  await new Promise((resolve) => setTimeout(resolve, 21_500)); // the first token and its ten seconds of leeway have ended by now
  expect(tokens.length).toBeGreaterThan(1);
  await run.send("room", "dashboard_user_u3", "tick", 1);
  await until(() => heard.length === 1, "an event after the first token's end", 3_000);
  expect(states.map(({ state }) => state)).toEqual(["connected"]);
});

test("rotation: no gap, no repeat and no word of it, while messages come all the time", async () => {
  // The long times run faster, so that 100 minutes are 6 seconds, and the 30 seconds of overlap are 2.
  const real = globalThis.setTimeout;
  vi.stubGlobal("setTimeout", (task: () => void, delay = 0) =>
    real(task, delay === 30_000 ? 2_000 : delay >= 6_000_000 ? delay / 1_000 : delay),
  );
  const token = await run.token("u4", "user", 86_400);
  let opened = 0;
  let open = 0;
  class Counted extends WebSocket {
    constructor(url: string) {
      super(url);
      this.on("open", () => (opened++, open++));
      this.on("close", () => open--);
    }
  }
  const { client, states } = make(() => token, { WebSocket: Counted as any });
  await client.join("dashboard");
  const heard: number[] = [];
  client.on("tick", (data) => heard.push(data as number));
  let sent = 0;
  const most: number[] = [];
  while (opened < 2 || open > 1) {
    most.push((await run.send("room", "dashboard_user_u4", "tick", ++sent)).sent);
    await new Promise((resolve) => real(resolve, 10));
  }
  for (let more = 0; more < 20; more++) await run.send("room", "dashboard_user_u4", "tick", ++sent);
  await until(() => heard.length >= sent, `${sent} messages`);
  expect([...heard].sort((a, b) => a - b)).toEqual(Array.from({ length: sent }, (_, index) => index + 1));
  expect(Math.max(...most)).toBe(2); // both connections were members at the same time
  expect(states.map(({ state }) => state)).toEqual(["connected"]);
  console.log(`${sent} messages over a rotation, each heard once`);
});

test("the run is stopped and started: both come back with their rooms", async () => {
  const [admin, user] = await Promise.all([run.token("anna", "admin"), run.token("ugo")]);
  const made = [make(() => admin), make(() => user)];
  await Promise.all(made.map(({ client }) => client.join("dashboard")));
  await run.stop();
  await until(() => made.every(({ client }) => client.state === "connecting"), "connecting");
  await run.start();
  await until(() => made.every(({ client }) => client.state === "connected"), "connected");
  const heard: string[] = [];
  for (const { client } of made) client.on("hello", (_, { room }) => heard.push(room!));
  await run.send("room", "dashboard_admin", "hello", 1);
  await run.send("room", "dashboard_user_ugo", "hello", 1);
  await until(() => heard.length === 2, "both rooms");
  expect(heard).toEqual(["dashboard_admin", "dashboard_user_ugo"]);
});
