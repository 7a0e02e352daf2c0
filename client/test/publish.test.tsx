// @vitest-environment happy-dom
/** What clients say in their rooms, and who is in them. */
import { act } from "react";
import { createRoot } from "react-dom/client";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Client, createClient } from "../src/index.ts";
import { type Presence, presence } from "../src/presence.ts";
import { publish, signal } from "../src/publish.ts";
import { usePresence, usePublish } from "../src/react.ts";
import { type Action, envelope, FakeServer, reply } from "../src/testing.ts";
import { dice } from "./dice.ts";

const ROOM = "chat_room_r1";
let server: FakeServer;
let client: Client;
const pass = (milliseconds: number) => vi.advanceTimersByTimeAsync(milliseconds);
const sent = (action: string) =>
  server.connections.flatMap(({ received }) => received).filter((one) => one.action === action);

beforeEach(async () => {
  vi.useFakeTimers({ now: Date.UTC(2025, 0, 17, 10, 30) });
  server = new FakeServer();
  client = createClient({ url: "wss://example.test", getToken: () => "t", WebSocket: server.WebSocket });
  void client.join(ROOM);
  await pass(10);
});
afterEach(() => {
  client.disconnect();
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

describe("publish", () => {
  test("resolves with the server's answer, and everybody hears it with who has said it", async () => {
    const heard = vi.fn();
    client.on("chat:edited", (data, { from, room }) => heard(data, from, room));
    const published = publish(client, ROOM, "chat:edited", { text: "Hi" });
    await pass(10);
    const { id } = sent("rooms:send")[0]!;
    expect(await published).toEqual({ room: ROOM, id: `m-${id}` });
    expect(heard).toHaveBeenCalledExactlyOnceWith({ text: "Hi" }, { id: "u1", name: "Ann", replyTo: id }, ROOM);
  });

  test("is sent again with the same id after a lost connection, and a lost answer", async () => {
    server.answer = (action) => (action.action === "rooms:send" ? undefined : reply(action));
    const published = publish(client, ROOM, "a", 1, { id: "own-id" });
    await pass(10);
    server.cut(1006);
    await pass(5_000);
    server.answer = reply;
    await pass(30_000);
    expect((await published).id).toBe("m-own-id");
    expect(new Set(sent("rooms:send").map(({ id }) => id))).toEqual(new Set(["own-id"]));
    expect(sent("rooms:send").length).toBeGreaterThan(1);
  });

  test("rejects with the server's refusal, and when the client is put out", async () => {
    server.answer = ({ action, id, ...rest }) =>
      action === "rooms:send"
        ? envelope("error", { code: "forbidden", message: "You may not publish here" }, id)
        : reply({ action, id, ...rest });
    const refused = publish(client, ROOM, "a", 1).catch((error) => error.code);
    await pass(10);
    expect(await refused).toBe("forbidden");
    client.disconnect();
    await expect(publish(client, ROOM, "a", 1)).rejects.toMatchObject({ code: "disconnected" });
  });

  test("a signal goes out at once or not at all", async () => {
    const results = Array.from({ length: 30 }, (_, number) => signal(client, ROOM, "typing", { number }));
    expect(results.filter(Boolean)).toHaveLength(10);
    await pass(10);
    expect(sent("rooms:signal")).toHaveLength(10);
    await pass(1_000);
    expect(Array.from({ length: 30 }, () => signal(client, ROOM, "typing", {})).filter(Boolean)).toHaveLength(5);
    server.cut(1006);
    expect(signal(client, ROOM, "typing", {})).toBe(false);
    await pass(5_000);
    expect(sent("rooms:signal")).toHaveLength(15);
  });
});

/** A server that says who is in the room, and announces changes in any order, with some lost. */
function room() {
  const users = new Map<string, { id: string }>();
  let version = 0;
  const state = () => ({ room: ROOM, version, count: users.size, listed: true, users: [...users.values()] });
  server.answer = (action: Action) =>
    action.action === "rooms:presence" ? envelope("rooms:presence", state(), action.id) : reply(action);
  return {
    users,
    change(id: string): [string, object] {
      const name = users.delete(id) ? "presence:left" : "presence:joined";
      if (name === "presence:joined") users.set(id, { id });
      return [name, { room: ROOM, version: ++version, user: { id } }];
    },
  };
}
const names = ({ users }: Presence) => users.map(({ id }) => id).sort();

describe("presence", () => {
  test("gives the state and then each change", async () => {
    const { change } = room();
    change("u1");
    const seen: string[][] = [];
    const stop = presence(client, ROOM, (state) => seen.push(names(state)));
    await pass(10);
    server.say(...change("u2"));
    server.say(...change("u1"));
    expect(seen).toEqual([["u1"], ["u1", "u2"], ["u2"]]);
    server.say("presence:joined", { room: "chat_room_other", version: 4, user: { id: "u9" } });
    stop();
    server.say(...change("u3"));
    expect(seen).toHaveLength(3);
    expect(sent("rooms:presence")).toHaveLength(1);
  });

  test("a large room has a count, and its users again when it has become smaller", async () => {
    const { change } = room();
    change("u1");
    let last: Presence | undefined;
    const stop = presence(client, ROOM, (state) => (last = state));
    await pass(10);
    server.say("presence:count", { room: ROOM, version: 2, count: 140, listed: false });
    expect(last).toEqual({ count: 140, listed: false, users: [] });
    change("u2");
    change("u3");
    server.say("presence:count", { room: ROOM, version: 3, count: 80, listed: true });
    await pass(2_000);
    expect(names(last!)).toEqual(["u1", "u2", "u3"]);
    stop();
  });

  test("asks again where the answer is lost, and not where there is none to be had", async () => {
    const listener = vi.fn();
    for (const [code, asked] of [
      ["unavailable", 4],
      ["no_presence", 1],
      ["unknown_action", 1],
    ] as const) {
      server.last.received.length = 0;
      server.answer = ({ id }) => envelope("error", { code, message: code }, id);
      const stop = presence(client, ROOM, listener);
      await pass(16_000);
      stop();
      expect(sent("rooms:presence")).toHaveLength(asked);
    }
    expect(listener).not.toHaveBeenCalled();
  });

  const seed = Number(process.env.SEED ?? 1);
  test(`is what the server says in the end, whatever order and losses: seed ${seed}`, async () => {
    const random = dice(seed);
    const { change, users } = room();
    let last: Presence | undefined;
    const stop = presence(client, ROOM, (state) => (last = state));
    for (let step = 0; step < 300; step++) {
      const event = change(`u${Math.floor(random() * 8)}`);
      if (random() < 0.1) server.cut(1006);
      else if (random() < 0.8) setTimeout(() => server.say(...event), random() * 500);
      await pass(random() * 400);
    }
    await pass(10_000);
    server.say(...change("last"));
    await pass(10_000);
    expect(names(last!)).toEqual([...users.keys()].sort());
    stop();
  });
});

test("the hooks follow the room, and say things in it", async () => {
  const { change } = room();
  change("u1");
  document.body.innerHTML = "<main></main>";
  (globalThis as any).IS_REACT_ACT_ENVIRONMENT = true;
  const root = createRoot(document.querySelector("main")!);
  let say: ReturnType<typeof usePublish>;
  function Page({ of }: { of: Client | null }) {
    say = usePublish(of, ROOM);
    return <p>{usePresence(of, ROOM)?.count ?? "unknown"}</p>;
  }
  await act(async () => root.render(<Page of={null} />));
  expect(document.body.textContent).toBe("unknown");
  await expect(say!.publish("a", 1)).rejects.toMatchObject({ code: "disconnected" });
  expect(say!.signal("a", 1)).toBe(false);
  await act(async () => root.render(<Page of={client} />));
  await act(() => pass(10));
  expect(document.body.textContent).toBe("1");
  await act(async () => server.say(...change("u2")));
  expect(document.body.textContent).toBe("2");
  expect(say!.signal("a", 1)).toBe(true);
  const published = say!.publish("a", 1);
  await act(() => pass(10));
  expect(await published).toMatchObject({ room: ROOM });
  await act(async () => root.unmount());
});
