/**
 * Random walks: an application, a network and a server that do anything in any order, and what must hold all the same.
 * Every second walk is one with `resume`, in which messages are numbered, lost, late and kept for a while.
 * `WALKS=10000` walks further, `SEED=123 WALKS=1` walks one again and prints its steps.
 */
import { afterEach, expect, test, vi } from "vitest";
import { type Client, type ClientOptions, createClient, type Room } from "../src/index.ts";
import { resume, type ResumeCalls } from "../src/resume.ts";
import { type Action, type Admit, type FakeConnection, FakeServer, FakeStreams, reply } from "../src/testing.ts";
import { dice } from "./dice.ts";

const WALKS = Number(process.env.WALKS ?? 300);
const SEED = Number(process.env.SEED ?? 1);
const STEPS = 40;
const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const ROOMS: Room[] = ["dashboard", "chat_room_1", "chat_room_2", "chat_room_3"];

const pass = (milliseconds: number) => vi.advanceTimersByTimeAsync(milliseconds);

afterEach(() => {
  vi.useRealTimers();
});

/** The page: how many listeners it has, and what it says of the network. */
class Page extends EventTarget {
  listeners = 0;
  visibilityState = "visible";
  override addEventListener(...values: Parameters<EventTarget["addEventListener"]>) {
    this.listeners++;
    super.addEventListener(...values);
  }
  override removeEventListener(...values: Parameters<EventTarget["removeEventListener"]>) {
    this.listeners--;
    super.removeEventListener(...values);
  }
}

async function walk(seed: number) {
  const random = dice(seed);
  const below = (count: number) => Math.floor(random() * count);
  const pick = <T>(...values: T[]): T => values[below(values.length)]!;
  vi.useFakeTimers({ now: Date.UTC(2025, 0, 17, 10, 30) });
  vi.spyOn(Math, "random").mockImplementation(random);
  // What a listener throws is reported, which is not what is looked at here.
  vi.stubGlobal("reportError", () => {});
  const page = new Page();
  const network = { onLine: true };
  vi.stubGlobal("addEventListener", page.addEventListener.bind(page));
  vi.stubGlobal("removeEventListener", page.removeEventListener.bind(page));
  vi.stubGlobal("document", page);
  vi.stubGlobal("navigator", network);

  const log: string[] = [];
  const server = new FakeServer();
  const streams = new FakeStreams(server);
  const resumes = seed % 2 === 1;
  const members = resumes ? streams.members : new WeakMap<FakeConnection, Set<string>>();
  const answer = (action: Action, connection: FakeConnection) =>
    (resumes && streams.answer(action, connection)) || reply(action);
  let mood = "well";
  let forbidden = "";
  server.answer = (action, connection) => {
    const now = mood === "mixed" ? pick("well", "silent", "lost", "limited", "broken", "slow") : mood;
    const room = action.action.startsWith("dashboard:") ? "dashboard" : `chat_room_${action.roomId}`;
    const verb = /join|leave/.exec(action.action)?.[0];
    const message = "no";
    const error = (code: string, more = {}) => ({
      event: verb && room !== "dashboard" ? "chat:error" : "error",
      data: { code, message, ...more },
      replyTo: action.id,
    });
    if (now === "silent") return undefined;
    if (now === "limited") return error("rate_limited", { retryAfter: 0.2 });
    if (now === "broken") {
      connection.after(1, () => connection.text('{"message":"Internal server error"}'));
      return undefined;
    }
    if (resumes && !verb) {
      if (now === "lost") return undefined;
      return answer(action, connection);
    }
    if (action.action === "rooms:join") {
      streams.forbidden.clear();
      streams.forbidden.add(forbidden);
      const given = answer(action, connection);
      if (now === "lost") return undefined;
      if (now !== "slow") return given;
      connection.after(below(5_000), () => connection.text(JSON.stringify(given)));
      return undefined;
    }
    if (verb === "join" && room === forbidden) return error("forbidden");
    const inside = members.get(connection) ?? new Set();
    members.set(connection, inside);
    if (verb === "join") inside.add(room);
    if (verb === "leave") inside.delete(room);
    // It was carried out, and nobody hears of it.
    if (now === "lost") return undefined;
    if (now === "slow") {
      connection.after(below(5_000), () => connection.text(JSON.stringify(reply(action))));
      return undefined;
    }
    return reply(action);
  };

  let token = "good";
  const getToken: ClientOptions["getToken"] = () => {
    switch (token) {
      case "nothing":
        return Promise.reject();
      case "undefined":
        throw undefined;
      case "never":
        return new Promise(() => {});
      case "slow":
        return new Promise((resolve) => setTimeout(resolve, below(20_000), "late-token"));
      case "none":
        return null;
      default:
        return token;
    }
  };
  const client: Client = createClient({
    url: "wss://example.test/prod",
    getToken,
    WebSocket: server.WebSocket,
    replyTimeout: pick(1_000, 10_000),
    ...(random() < 0.5 && { keepalive: 30_000 }),
    ...(resumes && { resume }),
  });
  // What the application hears of each room: the next number, or a gap was told, or it was out of the room.
  const heard = new Map<string, number>();
  const faults: string[] = [];
  client.on("news", (_, { room, seq, epoch }) => {
    if (typeof seq !== "number") return;
    const last = heard.get(room!);
    if (last !== undefined && seq !== last + 1) faults.push(`${room} ${epoch}: ${seq} after ${last}`);
    heard.set(room!, seq);
  });
  const anew = ({ room }: { room: string }) => heard.delete(room === "user" ? "user_u1" : room);
  let forgets = false;
  client.on("client:gap", ({ room }) => {
    if (!forgets) faults.push(`${room}: a gap, and the server has everything`);
    anew({ room });
  });
  client.on("client:room_lost", anew);
  client.on("client:state", ({ code, state }) => {
    if (state === "disconnected" && code === "requested") heard.clear();
  });
  const leave = (room: Room) => {
    const left = client.leave(room);
    heard.delete(room);
    return left;
  };
  let mischief = "";
  client.on("*", () => {
    if (mischief === "throw") throw undefined;
    if (mischief === "reject") return Promise.reject() as never;
    return undefined;
  });
  client.on("client:state", ({ state }) => {
    if (mischief === "disconnect" && state === "connected") client.disconnect();
    if (mischief === "connect" && state === "disconnected") client.connect();
    if (mischief === "leave") for (const room of client.rooms) void leave(room);
  });

  const promises: { what: string; settled: boolean }[] = [];
  const watch = (what: string, promise: Promise<unknown>) => {
    const own = { what: `${log.length}: ${what}`, settled: false };
    promises.push(own);
    promise.then(
      () => (own.settled = true),
      () => (own.settled = true),
    );
  };
  const moves: [string, number, () => unknown][] = [
    ["join", 8, () => ROOMS.slice(below(4)).map((room) => watch(`join ${room}`, client.join(room)))],
    ["join one", 6, () => watch("join", client.join(pick(...ROOMS)))],
    ["leave one", 6, () => watch("leave", leave(pick(...ROOMS)))],
    [
      "leave and join",
      4,
      () => {
        const room = pick(...ROOMS);
        watch("join", client.join(room));
        watch("leave", leave(room));
        watch("join", client.join(room));
      },
    ],
    ["send", 6, () => watch("send", client.send("dashboard:refresh"))],
    ["many sends", 2, () => Array.from({ length: 60 }, () => watch("send", client.send("dashboard:refresh")))],
    ["cut", 6, () => server.cut(pick(1006, 1001, 1000))],
    ["admit", 5, () => (server.admit = pick<Admit>("open", "open", "open", "busy", "down", "hang", "flash", "refuse"))],
    ["explains", 1, () => (server.explains = random() < 0.5)],
    ["mood", 6, () => (mood = pick("well", "well", "mixed", "mixed", "silent", "lost", "limited", "slow"))],
    ["forbid", 2, () => (forbidden = pick("", ...ROOMS))],
    ["token", 4, () => (token = pick("good", "good", "better", "nothing", "undefined", "never", "slow", "none"))],
    ["mischief", 2, () => (mischief = pick("", "", "throw", "reject", "disconnect", "connect", "leave"))],
    ["disconnect", 1, () => client.disconnect()],
    ["connect", 3, () => client.connect()],
    ["clock", 2, () => vi.setSystemTime(Date.now() + pick(-1, 1) * below(3 * 60) * MINUTE)],
    [
      "online",
      2,
      () => {
        network.onLine = random() < 0.5;
        page.dispatchEvent(new Event(network.onLine ? "online" : "offline"));
      },
    ],
    [
      "show",
      2,
      () => {
        page.visibilityState = pick("visible", "hidden");
        page.dispatchEvent(new Event("visibilitychange"));
      },
    ],
    [
      "ended",
      1,
      () =>
        server.say("error", {
          code: pick("token_expired", "unknown_connection", "connection_limit"),
          message: "ended",
        }),
    ],
    ["latency", 2, () => (server.latency = pick(1, 20, 300, 3_000))],
    [
      "facts",
      1,
      () => (server.facts = pick(undefined, { expiresIn: 60, spread: 1_000 }, { expiresIn: 7_200, spread: 5_000 })),
    ],
    ["event", 3, () => server.say("news", 1, { id: `${below(50)}` })],
    ["numbered", resumes ? 12 : 0, () => void publish(1 + below(4))],
    ["posts", resumes ? 3 : 0, () => (streams.posts = pick(true, true, false) ? () => true : () => random() < 0.6)],
    ["delay", resumes ? 2 : 0, () => (streams.delay = pick(true, false) ? () => 1 : () => below(1_500))],
    ["keeps", resumes ? 1 : 0, () => ([streams.keeps, forgets] = pick([1_000, forgets], [3, true]))],
    ["an hour and more", 1, () => pass(110 * MINUTE)],
    ["a while", 12, () => pass(below(8_000))],
    ["a moment", 14, () => pass(below(20))],
  ];
  const numbered = ["chat_room_1", "chat_room_2", "chat_room_3", "user_u1"];
  const publish = (count: number) => {
    const room = pick(...numbered);
    for (let number = 0; number < count; number++) streams.send(room, "news", number);
  };
  const total = moves.reduce((sum, [, weight]) => sum + weight, 0);

  try {
    for (let number = 0; number < STEPS; number++) {
      let at = below(total);
      const [name, , move] = moves.find(([, weight]) => (at -= weight) < 0)!;
      log.push(name);
      await move();
      log[log.length - 1] += ` (${client.state} ${server.admit} ${mood} ${token})`;
      expect(server.open.length, "connections at a time").toBeLessThanOrEqual(2);
    }

    // All is well again: what is wanted comes true, and everybody who waited has been told.
    log.push("all is well");
    Object.assign(server, { admit: "open", latency: 20, explains: true, facts: { expiresIn: 86_400, spread: 1_000 } });
    [mood, forbidden, token, mischief] = ["well", "", "good", ""];
    network.onLine = true;
    page.dispatchEvent(new Event("online"));
    client.connect();
    await pass(3 * MINUTE);
    if (client.state === "disconnected") client.connect();
    await pass(2 * MINUTE);
    // A handover may have begun just now: then the old connection stays for half a minute.
    if (server.open.length === 2) await pass(MINUTE);
    expect(client.state).toBe("connected");
    expect(promises.filter(({ settled }) => !settled).map(({ what }) => what)).toEqual([]);
    expect(server.open).toHaveLength(1);
    expect(faults).toEqual([]);
    if (resumes) {
      // What is sent now is heard, and what was missed before it too.
      streams.posts = () => true;
      for (const room of numbered) streams.send(room, "news", "last");
      await pass(2 * MINUTE);
      // The last one of all is lost, which leaves no hole: a wake-up finds out.
      streams.posts = () => false;
      for (const room of numbered) streams.send(room, "news", "lost");
      streams.posts = () => true;
      page.dispatchEvent(new Event("online"));
      await pass(2 * MINUTE);
      expect(faults).toEqual([]);
      const positions = (client as Client & ResumeCalls).positions();
      for (const room of numbered) {
        const name = room === "user_u1" ? "user" : (room as Room);
        if (name !== "user" && !client.joined.includes(name)) continue;
        expect([room, heard.get(room)], "heard to the end").toEqual([room, positions[name]?.seq]);
        expect([room, positions[name]], "at the head").toEqual([room, streams.head(room)]);
      }
    }
    const wanted = [...client.rooms].sort();
    expect([...client.joined].sort(), "joined").toEqual(wanted);
    const inside = [...(members.get(server.open[0]!) ?? [])].filter((room) => room !== "user_u1");
    expect(inside.sort(), "what the server thinks").toEqual(wanted);

    client.disconnect();
    await pass(0);
    expect(server.open).toHaveLength(0);
    expect(client.rooms).toEqual([]);
    expect(page.listeners, "listeners left").toBe(0);
    expect(vi.getTimerCount(), "timers left").toBe(0);
  } catch (error) {
    throw new Error(`seed ${seed}: ${(error as Error).message}\n${log.join("\n")}`, { cause: error });
  } finally {
    client.disconnect();
    vi.restoreAllMocks();
    vi.unstubAllGlobals();
    vi.useRealTimers();
  }
}

test(`${WALKS} random walks from seed ${SEED}`, { timeout: 3_600_000 }, async () => {
  const rejections: unknown[] = [];
  const note = (reason: unknown) => rejections.push(reason);
  process.on("unhandledRejection", note);
  for (let seed = SEED; seed < SEED + WALKS; seed++) await walk(seed);
  await new Promise((resolve) => setTimeout(resolve, 10));
  process.off("unhandledRejection", note);
  expect(rejections).toEqual([]);
  console.log(`walked with the seeds ${SEED} to ${SEED + WALKS - 1}: ${WALKS * STEPS} steps`);
});
