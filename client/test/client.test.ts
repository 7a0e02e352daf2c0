import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Client, type ClientOptions, createClient, type StateChange } from "../src/index.ts";
import { envelope, FakeServer, forbidden, jwt, reply } from "../src/testing.ts";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

let server: FakeServer;
let clients: Client[];

beforeEach(() => {
  vi.useFakeTimers({ now: Date.UTC(2025, 0, 17, 10, 30) });
  server = new FakeServer();
  clients = [];
});

afterEach(() => {
  for (const client of clients) client.disconnect();
  // A client that was disconnected leaves nothing behind.
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

function make(options: Partial<ClientOptions> = {}) {
  const client = createClient({
    url: "wss://example.test/prod",
    getToken: () => "t0ken",
    WebSocket: server.WebSocket,
    ...options,
  });
  clients.push(client);
  const states: StateChange[] = [];
  client.on("client:state", (change) => states.push(change));
  return { client, states };
}

async function connected(options: Partial<ClientOptions> = {}) {
  const made = make(options);
  await pass(10);
  expect(made.client.state).toBe("connected");
  return made;
}

const pass = (milliseconds: number) => vi.advanceTimersByTimeAsync(milliseconds);
const code = (promise: Promise<unknown>) =>
  promise.then(
    () => "fulfilled",
    (error) => error.code,
  );

describe("connecting", () => {
  test("goes from disconnected over connecting to connected, each with a code and a reason", async () => {
    const { client, states } = make({ autoConnect: false });
    expect(client.state).toBe("disconnected");
    await pass(MINUTE);
    expect(server.attempts).toHaveLength(0);
    client.connect();
    await pass(10);
    client.disconnect();
    expect(states.map(({ previous, state, code }) => [previous, state, code])).toEqual([
      ["disconnected", "connecting", "requested"],
      ["connecting", "connected", "opened"],
      ["connected", "disconnected", "requested"],
    ]);
    expect(states.every(({ reason }) => reason.length > 0)).toBe(true);
  });

  test("puts the token into the URL, encoded, beside a query that is there already", async () => {
    await connected({ getToken: () => "a+b/c=&", url: "wss://example.test/prod?v=2" });
    expect(server.last.url).toBe("wss://example.test/prod?v=2&token=a%2Bb%2Fc%3D%26");
  });

  test("sends the token as a ticket or as a subprotocol where it is told to", async () => {
    await connected({ getToken: () => "a+b", sendTokenAs: "ticket" });
    expect([server.last.url, server.last.protocols]).toEqual(["wss://example.test/prod?ticket=a%2Bb", undefined]);
    await connected({ getToken: () => "a.b", sendTokenAs: "subprotocol" });
    expect([server.last.url, server.last.protocols]).toEqual(["wss://example.test/prod", ["landinghub.v1", "a.b"]]);
  });

  test("asks for URL and token before every attempt, and both may be promises", async () => {
    let asked = 0;
    await connected({ getToken: async () => `t${++asked}`, url: async () => `wss://example.test/${asked}` });
    server.cut();
    await pass(33 * SECOND);
    expect(server.attempts.map(({ url }) => url)).toEqual([
      "wss://example.test/0?token=t1",
      "wss://example.test/1?token=t2",
    ]);
  });

  test("gives a handshake that is never answered up after 15 seconds", async () => {
    server.admit = "hang";
    const { client } = make();
    await pass(14_999);
    expect(server.last.state).toBe("connecting");
    server.admit = "open";
    await pass(10 * SECOND);
    expect(server.connections[0]!.state).toBe("closed");
    expect(client.state).toBe("connected");
  });

  test("does not call a connection connected that was closed as soon as it was open", async () => {
    server.admit = "flash";
    const { client, states } = make();
    await pass(10 * MINUTE);
    expect(client.state).toBe("connecting");
    expect(states).toEqual([]);
    expect(server.attempts.length).toBeLessThan(100);
    server.admit = "open";
    await pass(30 * SECOND + 10);
    expect(client.state).toBe("connected");
  });

  test("disconnect() in the middle of an attempt ends it", async () => {
    server.admit = "hang";
    const { client } = make();
    await pass(10);
    client.disconnect();
    expect(server.last.state).toBe("closed");
    await pass(10 * MINUTE);
    expect(server.attempts).toHaveLength(1);
    expect(client.state).toBe("disconnected");
  });

  test("disconnect() while the token is being fetched opens nothing", async () => {
    const { client } = make({ getToken: () => new Promise((resolve) => setTimeout(resolve, 500, "late")) });
    await pass(100);
    client.disconnect();
    await pass(MINUTE);
    expect(server.attempts).toHaveLength(0);
  });

  test("an error of getToken is told and tried again", async () => {
    const getToken = vi.fn().mockRejectedValueOnce(new Error("503")).mockResolvedValue("t");
    const { client } = make({ getToken });
    const retries: string[] = [];
    client.on("client:retry", ({ reason }) => retries.push(reason));
    await pass(2 * SECOND);
    expect(retries).toEqual(["503"]);
    expect(client.state).toBe("connected");
  });
});

describe("reconnecting", () => {
  test.each([1_000, 32_000, 320_000])("waits a random time of the stage's spread, %i ms", async (spread) => {
    for (const random of [0.01, 0.5, 0.999]) {
      server.facts!.spread = spread;
      const { client, states } = await connected();
      vi.spyOn(Math, "random").mockReturnValue(random);
      await Promise.all([client.join("dashboard"), pass(20 * SECOND)]);
      const before = server.attempts.length;
      server.last.cut(1001, "Going away");
      expect(client.state).toBe("connecting");
      expect(states.at(-1)).toMatchObject({ code: "lost", reason: "closed: 1001 Going away" });
      await pass(Math.ceil(random * spread) - 1);
      expect(server.attempts).toHaveLength(before);
      await pass(2);
      expect(server.attempts).toHaveLength(before + 1);
      client.disconnect();
    }
  });

  test("of a client that is alone comes within a second, whether or not it has a room", async () => {
    vi.spyOn(Math, "random").mockReturnValue(0.999);
    const { client } = await connected();
    for (let cuts = 0; cuts < 10; cuts++) {
      await pass(6 * SECOND);
      server.cut();
      await pass(SECOND + 10);
      expect(client.state).toBe("connected");
    }
  });

  test("a client without a room asks for the connection's facts once; one with a room has them", async () => {
    await connected();
    await pass(MINUTE);
    expect(server.last.actions).toEqual(["ping"]);
    const { client } = await connected();
    await Promise.all([client.join("dashboard"), pass(MINUTE)]);
    expect(server.last.actions).toEqual(["dashboard:join"]);
  });

  test("takes the window of the option before the server's, and 32 seconds of a server that says none", async () => {
    vi.spyOn(Math, "random").mockReturnValue(0.5);
    for (const [facts, options, expected] of [
      [{ spread: 100_000 }, { reconnectWindow: 2_000 }, 1_000],
      [undefined, {}, 16_000],
      [{ spread: Number.NaN, expiresIn: "x" }, {}, 16_000],
      [{ spread: 1e12 }, {}, 1_800_000],
    ] as const) {
      server.facts = facts as any;
      const { client } = await connected(options);
      await Promise.all([client.join("dashboard"), pass(MINUTE)]);
      const before = server.attempts.length;
      server.cut();
      await pass(expected - 1);
      expect(server.attempts).toHaveLength(before);
      await pass(2);
      expect(server.attempts).toHaveLength(before + 1);
      client.disconnect();
    }
  });

  test("waits longer after each failure, and a lone client never over ten seconds", async () => {
    vi.spyOn(Math, "random").mockReturnValue(1);
    server.admit = "down";
    const { client } = make();
    const delays: number[] = [];
    client.on("client:retry", ({ delay }) => delays.push(delay));
    await pass(4 * MINUTE);
    expect(delays.slice(0, 8)).toEqual([2_000, 2_500, 4_000, 8_000, 10_000, 10_000, 10_000, 10_000]);
    server.admit = "open";
    await pass(10_010);
    expect(client.state).toBe("connected");
  });

  test("waits longer after a connection that was cut at once, and forgets that after a second of one", async () => {
    vi.spyOn(Math, "random").mockReturnValue(0.999_999);
    const { client } = await connected({ reconnectWindow: 100 });
    const waits: number[] = [];
    for (const life of [2_000, 0, 0, 0, 0, 0, 1_000]) {
      await pass(life);
      const cutAt = Date.now();
      server.cut();
      while (!client.connected) await pass(10);
      waits.push(Math.round((Date.now() - cutAt) / 100) / 10);
    }
    expect(waits).toEqual([0.1, 1, 2, 4, 8, 10, 0.1]);
  });

  test("of one that is let in, what it was refused before does not count", async () => {
    vi.spyOn(Math, "random").mockReturnValue(0.999_999);
    server.admit = "down";
    const { client } = make({ reconnectWindow: 100 });
    const delays: number[] = [];
    client.on("client:retry", ({ delay }) => delays.push(Math.round(delay / 100) / 10));
    await pass(20 * SECOND);
    server.admit = "flash";
    await pass(25 * SECOND);
    expect(delays).toEqual([1, 2, 4, 8, 10, 1, 2, 4, 8, 10]);
  });

  test("joins the rooms again before connected is told", async () => {
    const { client } = await connected();
    await Promise.all([client.join("dashboard"), client.join("chat_room_7"), pass(10)]);
    server.cut();
    let before: string[] = [];
    client.on("client:state", ({ state }) => {
      if (state === "connected") before = server.last.actions;
    });
    await pass(33 * SECOND);
    expect(before).toEqual(["dashboard:join", "chat:join_room"]);
    expect(server.last.received[1]).toMatchObject({ roomId: "7" });
  });

  test("a room that may not be joined any more is told as lost, and the rest goes on", async () => {
    const { client } = await connected();
    await Promise.all([client.join("dashboard"), client.join("chat_room_7"), pass(10)]);
    const lost: unknown[] = [];
    client.on("client:room_lost", (data) => lost.push(data));
    server.answer = (action) => (action.action === "chat:join_room" ? forbidden(action) : reply(action));
    server.cut();
    await pass(33 * SECOND);
    expect(client.state).toBe("connected");
    expect(lost).toEqual([
      { room: "chat_room_7", code: "forbidden", message: "chat:join_room: You may not join this room" },
    ]);
    expect(client.rooms).toEqual(["dashboard"]);
  });

  test("a connection on which nothing is answered is not told as connected", async () => {
    const { client } = await connected();
    await Promise.all([client.join("dashboard"), pass(10 * SECOND)]);
    vi.spyOn(Math, "random").mockReturnValue(0.5);
    server.answer = () => undefined;
    server.cut();
    await pass(510);
    expect(server.last.actions).toEqual(["dashboard:join"]);
    expect(client.state).toBe("connecting");
    await pass(15 * SECOND + 10);
    expect(server.connections[1]!.state).toBe("closed");
    expect(client.state).toBe("connecting");
    server.answer = reply;
    await pass(20 * SECOND);
    expect(client.state).toBe("connected");
    expect(server.open).toHaveLength(1);
  });

  test("a connection that the server does not know any more is replaced, and the rooms are kept", async () => {
    const { client } = await connected();
    await pass(MINUTE);
    server.answer = (action, { server }) => {
      if (server.connections.length > 1) return reply(action);
      const data = { code: "unknown_connection", message: "This connection has ended; connect again" };
      return { event: "error", data, replyTo: action.id };
    };
    const joined = client.join("dashboard");
    await pass(33 * SECOND);
    expect(await joined).toMatchObject({ success: true });
    expect(server.open).toEqual([server.connections[1]]);
  });

  test("that there is no WebSocket here is told", async () => {
    vi.stubGlobal("WebSocket", undefined);
    const client = createClient({ url: "wss://example.test", getToken: () => "t" });
    clients.push(client);
    const reasons: string[] = [];
    client.on("client:retry", ({ reason }) => reasons.push(reason));
    await pass(10);
    expect(reasons[0]).toMatch(/no WebSocket/);
  });
});

describe("a refused token", () => {
  test("is auth_failed when the server has said so, and then there is peace", async () => {
    server.admit = "refuse";
    const { client, states } = make();
    const waiting = code(client.send("ping"));
    await pass(MINUTE);
    expect(client.state).toBe("disconnected");
    expect(states.at(-1)).toMatchObject({ code: "auth_failed", reason: "the token is refused: expired" });
    expect(await waiting).toBe("auth_failed");
    await pass(60 * MINUTE);
    expect(server.attempts.map(({ url }) => url.includes("explain=1"))).toEqual([false, false, false, true]);
    expect(server.last.received).toMatchObject([{ action: "auth:check", token: "t0ken" }]);
    expect(server.open).toHaveLength(0);
  });

  test.each(["subprotocol", "ticket"] as const)("is told the same way when it travels as a %s", async (sendTokenAs) => {
    server.admit = "refuse";
    server.refusal = "invalid";
    const { states } = make({ sendTokenAs });
    await pass(MINUTE);
    expect(states.at(-1)).toMatchObject({ code: "auth_failed", reason: "the token is refused: invalid" });
    expect(server.last.received[0]).toMatchObject(sendTokenAs === "ticket" ? { ticket: "t0ken" } : { token: "t0ken" });
  });

  test("can be followed by connect() with a better one, and the rooms come back", async () => {
    let token = "good";
    const { client } = await connected({ getToken: () => token });
    await Promise.all([client.join("dashboard"), pass(10)]);
    token = "";
    server.cut();
    await pass(33 * SECOND);
    expect(client.state).toBe("disconnected");
    token = "better";
    client.connect();
    await pass(10);
    expect(client.state).toBe("connected");
    expect(server.last.actions).toEqual(["dashboard:join"]);
  });

  // 2 (C1): a 429, a 5xx, a proxy's page and an outage look to a page like a refused token.
  test.each(["busy", "down", "hang"] as const)(
    "is not what a server looks like that is %s: tried for ever",
    async (admit) => {
      server.admit = admit;
      const { client } = make();
      await pass(24 * 60 * MINUTE);
      expect(client.state).toBe("connecting");
      expect(server.attempts.length).toBeGreaterThan(1_000);
      server.admit = "open";
      await pass(45 * SECOND);
      expect(client.state).toBe("connected");
    },
  );

  // 2: the question itself may meet a server that is no better, or one that has got well meanwhile.
  test("is not believed of an answer that does not come, or of one that says nothing", async () => {
    server.admit = "refuse";
    const usual = server.check;
    const { client } = make();
    for (const answer of [
      undefined,
      { event: "error", data: { code: "internal_error" } },
      { event: "auth:checked", data: {} },
      { event: "auth:checked", data: null },
    ]) {
      server.check = ({ id }) => answer && { ...answer, replyTo: id };
      await pass(10 * MINUTE);
      expect(client.state).toBe("connecting");
    }
    server.check = usual;
    await pass(10 * MINUTE);
    expect(client.state).toBe("disconnected");
  });

  test("and a good one, after refusals that had another cause: the connection is as any other", async () => {
    vi.spyOn(Math, "random").mockReturnValue(0.5);
    server.admit = "busy";
    const { client } = make();
    const joined = client.join("dashboard");
    while (server.attempts.length < 3) await pass(100);
    server.admit = "open";
    await pass(MINUTE);
    expect(server.last.url).toContain("explain=1");
    expect(server.last.actions).toEqual(["auth:check", "dashboard:join"]);
    expect(await joined).toMatchObject({ success: true });
    expect(client.state).toBe("connected");
  });

  test("is not proved by a server that does not know the question: it is tried for ever, and let in in the end", async () => {
    server.explains = false;
    server.facts = undefined;
    server.admit = "refuse";
    const { client } = make();
    await pass(60 * MINUTE);
    expect(client.state).toBe("connecting");
    server.admit = "open";
    await pass(2 * MINUTE);
    expect(client.state).toBe("connected");
  });

  test("is asked about after maxRefusals, and never with Infinity", async () => {
    server.admit = "refuse";
    const first = make({ maxRefusals: 1 });
    await pass(10 * SECOND);
    expect(first.client.state).toBe("disconnected");
    expect(server.attempts).toHaveLength(2);
    const second = make({ maxRefusals: Number.POSITIVE_INFINITY });
    await pass(60 * MINUTE);
    expect(second.client.state).toBe("connecting");
  });

  test("without a token nothing is tried at all", async () => {
    const { client, states } = make({ getToken: () => null });
    await pass(10);
    expect(client.state).toBe("disconnected");
    expect(states.at(-1)).toMatchObject({ code: "auth_failed", reason: "no token" });
    expect(server.attempts).toHaveLength(0);
  });

  test("an application that connects again in its listener is asked for a token ever more rarely", async () => {
    let asked = 0;
    let token: string | null = null;
    const { client } = make({ getToken: () => (asked++, token) });
    client.on("client:state", ({ code }) => code === "auth_failed" && client.connect());
    await pass(10 * MINUTE);
    expect(asked).toBeGreaterThan(10);
    expect(asked).toBeLessThan(100);
    // After a login nobody waits.
    token = "t";
    client.connect();
    await pass(SECOND + 10);
    expect(client.connected).toBe(true);
  });

  test("a page on which nobody is logged in connects at once after a login", async () => {
    let token: string | null = null;
    const { client } = make({ getToken: () => token });
    await pass(MINUTE);
    token = "t";
    client.connect();
    await pass(10);
    expect(client.connected).toBe(true);
  });
});

describe("a token's end", () => {
  test("is moved by a new token a minute before, without a new connection", async () => {
    server.facts!.expiresIn = 15 * 60;
    const { states } = await connected({ getToken: () => jwt(15 * 60) });
    await pass(13 * MINUTE + 58 * SECOND);
    expect(server.last.actions).not.toContain("auth:refresh");
    await pass(2 * SECOND);
    expect(server.last.actions.at(-1)).toBe("auth:refresh");
    expect(server.last.received.at(-1)!.token).toBeTypeOf("string");
    await pass(60 * MINUTE);
    expect(server.last.actions.filter((action) => action === "auth:refresh")).toHaveLength(5);
    expect(server.connections).toHaveLength(1);
    expect(states.map(({ state }) => state)).toEqual(["connected"]);
  });

  test("is moved by a new connection where the new token is not taken on the old one", async () => {
    server.facts = undefined;
    const { states } = await connected({ getToken: () => jwt(15 * 60) });
    server.answer = (action) => {
      if (action.action !== "auth:refresh") return reply(action);
      return { event: "error", data: { code: "invalid_token", message: "no" }, replyTo: action.id };
    };
    await pass(16 * MINUTE);
    expect(server.open).toEqual([server.connections[1]]);
    expect(states.map(({ state }) => state)).toEqual(["connected"]);
  });

  test("without a newer token is the end of the connection, and of a token that is refused then", async () => {
    const token = jwt(60 * 60);
    server.facts!.expiresIn = 3_600;
    const { client, states } = await connected({ getToken: () => token });
    const join = client.join("dashboard");
    await pass(60 * MINUTE - SECOND);
    await join;
    expect(client.state).toBe("connected");
    server.admit = "refuse";
    await pass(2 * MINUTE);
    expect(states.slice(1).map(({ state, code, reason }) => [state, code, reason])).toEqual([
      ["connecting", "no_reply", "token expired"],
      ["disconnected", "auth_failed", "the token is refused: expired"],
    ]);
  });

  test("that the server tells first is answered with a new connection and a new token", async () => {
    const tokens = ["old", "new"];
    const { client } = await connected({ getToken: () => tokens.shift() ?? "newer" });
    server.answer = () => undefined;
    server.say("error", { code: "token_expired", message: "The token has expired; connect with a new one" });
    await pass(2 * SECOND);
    expect(client.state).toBe("connected");
    expect(server.last.url).toMatch(/token=new$/);
  });

  test("is not believed of a clock that must be wrong", async () => {
    const token = jwt(-60 * 60);
    const { states } = await connected({ getToken: () => token });
    await pass(60 * MINUTE);
    expect(states.map(({ state }) => state)).toEqual(["connected"]);
  });

  test("in the application's own data means nothing to the client", async () => {
    const { states } = await connected();
    server.say("payment", { code: "token_expired" });
    await pass(SECOND);
    expect(states.map(({ state }) => state)).toEqual(["connected"]);
  });

  test("is asked for again when asking failed, until it comes", async () => {
    const answers = [jwt(15 * 60)];
    const { client, states } = await connected({
      getToken() {
        const token = answers.pop();
        if (!token) throw new Error("503");
        return token;
      },
    });
    await pass(14 * MINUTE + 30 * SECOND);
    expect(client.state).toBe("connected");
    await pass(20 * SECOND);
    answers.push(jwt(15 * 60), jwt(15 * 60));
    await pass(2 * MINUTE);
    expect(client.state).toBe("connected");
    expect(states.length).toBeLessThanOrEqual(3);
  });

  test("far away or unknown is left to the rotation", async () => {
    for (const token of [jwt(60 * 86_400), "opaque", "a.b.c", `a.${btoa("{}")}.c`]) {
      const { client } = await connected({ getToken: () => token });
      const before = server.connections.length;
      await pass(60 * MINUTE);
      expect(server.last.actions).not.toContain("auth:refresh");
      expect(server.connections).toHaveLength(before);
      client.disconnect();
    }
  });
});

describe("events", () => {
  test("of a connection that was given up are not heard any more", async () => {
    const { client } = await connected();
    const listener = vi.fn();
    client.on("a", listener);
    client.disconnect();
    server.last.state = "open"; // a real socket may still hand out what it had received
    server.last.say("a", 1);
    server.last.cut();
    expect(listener).not.toHaveBeenCalled();
    expect(client.state).toBe("disconnected");
  });

  test("reach every listener, the cleanup and off() end it, once() hears one", async () => {
    const { client } = await connected();
    const heard: string[] = [];
    const cleanup = client.on("a", () => heard.push("first"));
    client.on("a", (data, envelope) => heard.push(`second ${data} ${envelope.room}`));
    client.once("a", () => heard.push("once"));
    server.say("a", 1, { room: "r" });
    cleanup();
    server.say("a", 2);
    client.off("a");
    server.say("a", 3);
    expect(heard).toEqual(["first", "second 1 r", "once", "second 2 undefined"]);
  });

  test("a listener can be registered twice; a cleanup ends its own registration alone", async () => {
    const { client } = await connected();
    const listener = vi.fn();
    const cleanup = client.on("a", listener);
    client.on("a", listener);
    cleanup();
    cleanup();
    server.say("a", 1);
    expect(listener).toHaveBeenCalledTimes(1);
    client.off("a", listener);
    server.say("a", 2);
    expect(listener).toHaveBeenCalledTimes(1);
  });

  test("a listener that throws stops neither the others nor the client", async () => {
    const { client } = await connected();
    const uncaught: Error[] = [];
    vi.stubGlobal("reportError", (error: Error) => uncaught.push(error));
    const second = vi.fn();
    client.on("a", () => {
      throw new Error("mine");
    });
    client.on("a", second);
    server.say("a", 1);
    expect(second).toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(0);
    expect(uncaught).toMatchObject([{ message: "mine" }]);
    expect(client.state).toBe("connected");
  });

  // A connection that nobody wanted stayed open, and the timer of its handover ran on.
  test.each(["client:rooms", "client:state", "client:retry", "client:room_lost"])(
    "disconnect() in a listener of %s is the last word",
    async (event) => {
      const token = (userId: string) => `x.${btoa(JSON.stringify({ userId }))}.x`;
      let user = "u1";
      const { client, states } = make({ getToken: () => token(user) });
      client.on(event, (data: any) => {
        if (event === "client:state" ? data.code === "user_changed" : event !== "client:rooms" || client.joined.length)
          client.disconnect();
      });
      if (event === "client:room_lost") server.answer = forbidden;
      if (event === "client:retry") server.admit = "down";
      void client.join("chat_room_r1");
      await pass(10);
      if (event === "client:state") {
        user = "u2";
        await pass(120 * MINUTE); // the handover asks for the token again
      }
      expect(client.state).toBe("disconnected");
      expect(states.at(-1)).toMatchObject({ state: "disconnected", code: "requested" });
      expect(server.open).toHaveLength(0);
      expect(vi.getTimerCount()).toBe(0);
    },
  );

  test("a repeat among the last 1,000 ids is dropped", async () => {
    const { client } = await connected();
    const listener = vi.fn();
    client.on("a", listener);
    for (let number = 0; number < 1_000; number++) server.say("a", number, { id: `id${number}` });
    for (let number = 0; number < 1_000; number++) server.say("a", number, { id: `id${number}` });
    expect(listener).toHaveBeenCalledTimes(1_000);
    server.say("a", "new", { id: "new" });
    server.say("a", "old", { id: "id0" }); // 1,001 ids ago
    expect(listener).toHaveBeenCalledTimes(1_002);
    server.say("b", 1);
    server.say("a", "without an id");
    server.say("a", "without an id");
    expect(listener).toHaveBeenCalledTimes(1_004);
  });

  test("'*' hears every message of the server; the client's own names can not be spoken by it", async () => {
    const { client, states } = await connected();
    const all: string[] = [];
    client.on("*", (_, { event }) => all.push(event));
    server.say("a", 1);
    server.say("client:state", { state: "disconnected" });
    server.say("*", 1);
    server.say("__proto__", 1);
    expect(all).toEqual(["a", "client:state", "*", "__proto__"]);
    expect(states.map(({ state }) => state)).toEqual(["connected"]);
  });

  test("what is no envelope is an error event, the function's failure among them", async () => {
    const { client } = await connected();
    const errors: unknown[] = [];
    client.on("error", (data) => errors.push(data));
    server.last.text('{"message": "Internal server error", "connectionId": "a=", "requestId": "b="}');
    for (const text of ["no json", "null", "[1]", "7", '{"event": 7}']) server.last.text(text);
    expect(errors[0]).toEqual({ code: "internal_error", message: "Internal server error" });
    expect(errors).toHaveLength(6);
  });
});

describe("send", () => {
  test("resolves with the data of its reply, however the replies are ordered", async () => {
    const { client } = await connected();
    server.answer = (action, connection) => {
      connection.after(action.action === "ping" ? 50 : 5, () => connection.text(JSON.stringify(reply(action))));
      return undefined;
    };
    const done: string[] = [];
    const ping = client.send("ping").then((data) => (done.push("ping"), data));
    const refresh = client.send("dashboard:refresh").then((data) => (done.push("refresh"), data));
    await pass(100);
    expect(await ping).toEqual({ timestamp: "2025-01-17T10:30:00.000Z" });
    expect(await refresh).toEqual({ type: "user" });
    expect(done).toEqual(["refresh", "ping"]);
  });

  test("rejects with the server's code, message and data", async () => {
    const { client } = await connected();
    const sent = client.send("no_such_action").catch((error) => error);
    await pass(10);
    expect(await sent).toMatchObject({
      name: "RoomcastError",
      code: "unknown_action",
      message: "no_such_action: Unknown action",
      data: { code: "unknown_action", message: "Unknown action" },
    });
  });

  test("rejects with timeout when there is no reply, and with connection_lost when there can be none", async () => {
    const { client } = await connected({ replyTimeout: 3_000 });
    server.answer = () => undefined;
    const slow = code(client.send("ping"));
    await pass(2_999);
    expect(await Promise.race([slow, "still waiting"])).toBe("still waiting");
    await pass(1);
    expect(await slow).toBe("timeout");
    const cut = code(client.send("ping"));
    server.cut();
    expect(await cut).toBe("connection_lost");
  });

  test("waits while there is no connection, in order, and the hundred-and-first is refused", async () => {
    const { client } = make();
    const sends = Array.from({ length: 100 }, (_, number) => client.send("ping", { number }));
    expect(await code(client.send("ping"))).toBe("queue_full");
    await pass(5 * SECOND);
    await Promise.all(sends);
    expect(server.last.received.map(({ number }) => number)).toEqual(Array.from({ length: 100 }, (_, n) => n));
  });

  test("is refused at once when the client is not even trying", async () => {
    const { client } = make({ autoConnect: false });
    expect(await code(client.send("ping"))).toBe("disconnected");
    client.connect();
    const queued = code(client.send("ping"));
    client.disconnect();
    expect(await queued).toBe("disconnected");
  });

  test("counts bytes, and refuses more than 32 KB before the gateway closes the connection", async () => {
    const { client } = await connected();
    const rest = JSON.stringify({ text: "", action: "x", id: "10000" }).length;
    expect(await code(client.send("x", { text: "é".repeat(16 * 1024) }))).toBe("too_large");
    expect(server.last.received).toHaveLength(0);
    const fits = code(client.send("x", { text: "a".repeat(32 * 1024 - rest) }));
    await pass(10);
    expect(await fits).toBe("unknown_action");
  });

  test("keeps action and id its own", async () => {
    const { client } = await connected();
    void client.send("ping", { action: "evil", id: "evil", a: 1 });
    await pass(10);
    expect(server.last.received[0]).toMatchObject({ action: "ping", a: 1 });
    expect(server.last.received[0]!.id).not.toBe("evil");
  });
});

describe("rooms", () => {
  test("join() resolves with the reply; a second one says nothing on the wire", async () => {
    const { client } = await connected();
    const joined = client.join("chat_room_42");
    await pass(10);
    expect(await joined).toEqual({ roomId: "42", success: true });
    expect(await client.join("chat_room_42")).toEqual({ roomId: "42", success: true });
    await pass(10);
    expect(server.last.actions).toEqual(["chat:join_room"]);
    expect(client.rooms).toEqual(["chat_room_42"]);
  });

  test("join() before there is a connection is made good when there is one", async () => {
    const { client } = make({ autoConnect: false });
    const joined = client.join("dashboard");
    client.connect();
    await pass(10);
    expect(await joined).toMatchObject({ success: true, room: "dashboard_user_u1" });
    expect(server.last.actions).toEqual(["dashboard:join"]);
  });

  test("join() that the connection loses is made good on the next one", async () => {
    const { client } = await connected();
    server.answer = () => undefined;
    const joined = client.join("dashboard");
    await pass(10);
    server.answer = reply;
    server.cut();
    await pass(33 * SECOND);
    expect(await joined).toMatchObject({ success: true });
  });

  test("join() rejects when the server refuses, and when it does not answer", async () => {
    const { client } = await connected();
    server.answer = forbidden;
    const refused = code(client.join("chat_room_1"));
    await pass(10);
    expect(await refused).toBe("forbidden");
    server.answer = (action) => (action.action === "ping" ? reply(action) : undefined);
    const silent = code(client.join("chat_room_1"));
    await pass(10 * SECOND);
    expect(await silent).toBe("timeout");
    expect(client.rooms).toEqual([]);
  });

  test("join, leave and join again at once ends in the room; join and leave ends outside", async () => {
    const { client } = await connected();
    const inside = () => {
      const rooms = new Set<unknown>();
      for (const { action, roomId } of server.last.received) {
        if (action === "chat:join_room") rooms.add(roomId);
        if (action === "chat:leave_room") rooms.delete(roomId);
      }
      return [...rooms];
    };
    client.join("chat_room_1");
    void client.leave("chat_room_1");
    const again = client.join("chat_room_1");
    await pass(50);
    expect(await again).toMatchObject({ roomId: "1" });
    expect(inside()).toEqual(["1"]);
    const first = code(client.join("chat_room_2"));
    await pass(0); // on its way
    const left = client.leave("chat_room_2");
    await pass(50);
    expect(await first).toBe("left");
    await left;
    expect(inside()).toEqual(["1"]);
  });

  test("more rooms than the server lets in at once are all joined in the end", async () => {
    const { client } = await connected();
    let allowed = 0;
    setInterval(() => (allowed = 0), SECOND);
    server.answer = (action) => {
      if (++allowed <= 20) return reply(action);
      const data = { code: "rate_limited", message: "At most 20 actions a second", retryAfter: 0.5 };
      return { event: "chat:error", data, replyTo: action.id };
    };
    const lost = vi.fn();
    client.on("client:room_lost", lost);
    const joins = Array.from({ length: 50 }, (_, number) => client.join(`chat_room_${number}`));
    await pass(10 * SECOND);
    expect(await Promise.all(joins)).toHaveLength(50);
    expect(lost).not.toHaveBeenCalled();
    vi.clearAllTimers();
  });

  test("join() is made good whatever moment of connecting it comes in", async () => {
    for (let moment = 0; moment < 20; moment++) {
      const { client } = make();
      void client.join("dashboard").then(async () => {
        for (let step = 0; step < moment; step++) await null;
        await client.join("chat_room_1");
      });
      await pass(100);
      expect(server.last.actions).toEqual(["dashboard:join", "chat:join_room"]);
      client.disconnect();
    }
  });

  test("leave() that the connection loses has left", async () => {
    const { client } = await connected();
    await Promise.all([client.join("dashboard"), pass(10)]);
    server.answer = () => undefined;
    const left = client.leave("dashboard");
    await pass(10);
    server.cut();
    await left;
    expect(client.rooms).toEqual([]);
  });

  test("leave() while away is not joined again", async () => {
    const { client } = await connected();
    await Promise.all([client.join("dashboard"), pass(10)]);
    server.cut();
    await client.leave("dashboard");
    await pass(4 * SECOND);
    expect(client.state).toBe("connected");
    expect(server.last.actions).toEqual([]);
  });

  test("disconnect() forgets the rooms and rejects a join that waits", async () => {
    const { client } = make();
    const joined = code(client.join("dashboard"));
    client.disconnect();
    expect(await joined).toBe("disconnected");
    client.connect();
    await pass(10);
    expect(server.last.actions).toEqual([]);
  });

  test("a room that an application has declared is joined and left by its name", async () => {
    const { client } = await connected();
    const room = "order_5" as any;
    await Promise.all([client.join(room), pass(10)]);
    expect(client.joined).toEqual([room]);
    server.cut();
    await pass(2 * SECOND);
    await Promise.all([client.leave(room), pass(10)]);
    expect(server.last.received.filter(({ rooms }) => rooms).map(({ action, rooms }) => [action, rooms])).toEqual([
      ["rooms:join", [{ room }]],
      ["rooms:leave", [room]],
    ]);
    expect(client.rooms).toEqual([]);
  });

  test("a room that the server does not know is refused, also in its part of an answer", async () => {
    const { client } = await connected();
    server.answer = ({ action, id, ...rest }) =>
      action === "rooms:join"
        ? envelope(
            "rooms:joined",
            { rooms: [{ room: "", success: false, code: "invalid_room", message: "There can be no such room" }] },
            id,
          )
        : reply({ action, id, ...rest });
    const lost = vi.fn();
    client.on("client:room_lost", lost);
    for (const room of ["general", "chat_room_", 5, undefined] as any[]) {
      const refused = code(client.join(room));
      await pass(10);
      expect(await refused).toBe("invalid_room");
    }
    expect(lost).toHaveBeenCalledTimes(4);
    expect(client.rooms).toEqual([]);
  });
});

describe("keepalive", () => {
  test("pings only after nine minutes without traffic, in either direction", async () => {
    const { client } = await connected();
    await Promise.all([client.join("dashboard"), pass(10)]);
    server.last.received.length = 0;
    await pass(9 * MINUTE - 1 * SECOND);
    expect(server.last.actions).toEqual([]);
    server.say("a", 1); // traffic from the server
    await pass(9 * MINUTE - 1 * SECOND);
    expect(server.last.actions).toEqual([]);
    void client.send("dashboard:refresh"); // and from the client
    await pass(9 * MINUTE - 1 * SECOND);
    expect(server.last.actions).toEqual(["dashboard:refresh"]);
    await pass(2 * SECOND);
    expect(server.last.actions).toEqual(["dashboard:refresh", "ping"]);
  });

  test("is six pings in a silent hour, and the application hears none of them", async () => {
    const { client } = await connected();
    await Promise.all([client.join("dashboard"), pass(10)]);
    const all = vi.fn();
    client.on("*", all);
    await pass(60 * MINUTE);
    expect(server.last.actions).toEqual(["dashboard:join", ...Array(6).fill("ping")]);
    expect(all).not.toHaveBeenCalled();
  });

  test("26, 27: comes as often as the option says", async () => {
    const { client } = await connected({ keepalive: 30_000 });
    await Promise.all([client.join("dashboard"), pass(10)]);
    await pass(10 * MINUTE);
    expect(server.last.actions.filter((action) => action === "ping").length).toBeGreaterThan(18);
  });

  test("a ping without a pong within five seconds is the end of that connection", async () => {
    const { client, states } = await connected();
    await pass(6 * SECOND);
    server.answer = () => undefined;
    await pass(9 * MINUTE + 3 * SECOND);
    expect(client.state).toBe("connected");
    await pass(2 * SECOND);
    expect(states[1]).toMatchObject({ state: "connecting", code: "no_reply" });
    await pass(2 * SECOND); // its own trouble, nobody else's: no waiting
    expect(client.state).toBe("connected");
  });
});

describe("rotation", () => {
  async function untilRotation(random: number) {
    vi.spyOn(Math, "random").mockReturnValue(random);
    const made = await connected();
    await Promise.all([made.client.join("dashboard"), made.client.join("chat_room_7"), pass(10)]);
    return made;
  }

  test.each([
    [0, 100],
    [0.5, 107.5],
    [0.999, 114.985],
  ])("comes at a random time between 100 and 115 minutes (%f)", async (random, minutes) => {
    await untilRotation(random);
    await pass(minutes * MINUTE - SECOND);
    expect(server.connections).toHaveLength(1);
    await pass(2 * SECOND);
    expect(server.connections).toHaveLength(2);
  });

  test("shows the application no change, no gap and no repeat", async () => {
    const { client, states } = await untilRotation(0);
    const heard: unknown[] = [];
    client.on("dashboard:update", (data) => heard.push(data.number));
    const all: string[] = [];
    client.on("*", (_, { event }) => all.push(event));
    // A message to the room every 100 ms: one copy to each connection that is a member at that moment.
    let number = 0;
    const joinedBy = (connection: { actions: string[] }) => connection.actions.includes("dashboard:join");
    const backend = setInterval(() => {
      const id = `m${++number}`;
      for (const connection of server.open.filter(joinedBy)) connection.say("dashboard:update", { number }, { id });
    }, 100);
    await pass(102 * MINUTE);
    clearInterval(backend);
    expect(server.connections).toHaveLength(2);
    expect(server.open).toHaveLength(1);
    expect(heard).toEqual(Array.from({ length: number }, (_, index) => index + 1));
    expect(new Set(all)).toEqual(new Set(["dashboard:update"]));
    expect(states.map(({ state }) => state)).toEqual(["connected"]);
    expect(server.last.actions).toEqual(["dashboard:join", "chat:join_room"]);
  });

  test("the first connection closes after the second has joined, and 30 seconds for what is on its way", async () => {
    const { client } = await untilRotation(0);
    const heard: unknown[] = [];
    client.on("late", (data) => heard.push(data));
    await pass(100 * MINUTE);
    expect(server.open).toHaveLength(2);
    server.connections[0]!.say("late", 1, { id: "late" });
    await pass(29 * SECOND);
    expect(server.open).toHaveLength(2);
    await pass(2 * SECOND);
    expect(server.open).toEqual([server.connections[1]]);
    expect(heard).toEqual([1]);
  });

  test("a reply to what was asked on the first connection still arrives", async () => {
    const { client } = await untilRotation(0);
    await pass(100 * MINUTE - 20);
    server.answer = (action, connection) => {
      connection.after(action.action === "ping" ? 5_000 : 1, () => connection.text(JSON.stringify(reply(action))));
      return undefined;
    };
    const slow = client.send("ping");
    await pass(6 * SECOND);
    expect(server.open).toHaveLength(2);
    expect(await slow).toHaveProperty("timestamp");
  });

  test("rooms joined and left while it happens are right on the second connection", async () => {
    const { client } = await untilRotation(0);
    server.latency = 100;
    await pass(100 * MINUTE - 150);
    client.join("chat_room_8");
    await pass(200);
    client.join("chat_room_9");
    void client.leave("chat_room_7");
    await pass(MINUTE);
    const rooms = new Set<unknown>();
    for (const { action, roomId } of server.last.received) {
      if (action === "chat:join_room") rooms.add(roomId);
      if (action === "chat:leave_room") rooms.delete(roomId);
    }
    expect(server.open).toHaveLength(1);
    expect(rooms).toEqual(new Set(["8", "9"]));
  });

  test("that fails leaves the connection alone and is tried again", async () => {
    const { client, states } = await untilRotation(0);
    server.admit = "refuse";
    await pass(101 * MINUTE);
    expect(client.state).toBe("connected");
    expect(server.open).toHaveLength(1);
    server.admit = "open";
    await pass(2 * MINUTE);
    expect(server.open).toEqual([server.last]);
    expect(states.map(({ state }) => state)).toEqual(["connected"]);
  });

  test("whose first connection dies meanwhile ends connected on one", async () => {
    const { client } = await untilRotation(0.9);
    server.latency = 200;
    await pass(113.5 * MINUTE + 100);
    expect(server.connections).toHaveLength(2);
    server.connections[0]!.cut();
    expect(client.state).toBe("connecting");
    await pass(SECOND);
    expect(client.state).toBe("connected");
    await pass(MINUTE);
    expect(server.open).toHaveLength(1);
    expect(server.connections).toHaveLength(2);
  });

  test("goes on for a day: thirteen connections, each ended in time", async () => {
    const { states } = await untilRotation(0.5);
    await pass(24 * 60 * MINUTE);
    expect(server.connections.length).toBe(14);
    expect(server.open).toHaveLength(1);
    expect(states).toHaveLength(1);
  });
});

describe("the browser around it", () => {
  let page: EventTarget & { visibilityState?: string };
  let network: { onLine: boolean };
  beforeEach(() => {
    page = new EventTarget();
    network = { onLine: true };
    const events = new EventTarget();
    vi.stubGlobal("addEventListener", events.addEventListener.bind(events));
    vi.stubGlobal("dispatchEvent", events.dispatchEvent.bind(events));
    vi.stubGlobal("document", page);
    vi.stubGlobal("navigator", network);
  });
  const online = (onLine: boolean) => {
    network.onLine = onLine;
    dispatchEvent(new Event(onLine ? "online" : "offline"));
  };
  const show = (visible: boolean) => {
    page.visibilityState = visible ? "visible" : "hidden";
    page.dispatchEvent(new Event("visibilitychange"));
  };

  test("11: offline is a hint: attempts are slow, and online one comes within a second", async () => {
    const { client } = await connected();
    await pass(MINUTE);
    online(false);
    server.admit = "down";
    server.cut();
    await pass(60 * MINUTE);
    expect(server.attempts.length).toBeGreaterThan(60);
    expect(server.attempts.length).toBeLessThan(125);
    server.admit = "open";
    online(true);
    await pass(1_010);
    expect(client.state).toBe("connected");
  });

  test("11: a server that is reached although the browser says offline is connected to", async () => {
    online(false);
    const { client } = make();
    await pass(10);
    expect(client.state).toBe("connected");
  });

  test("online cuts a long wait short", async () => {
    const { client } = await connected();
    vi.spyOn(Math, "random").mockReturnValue(0.9);
    server.cut();
    await pass(SECOND);
    online(true);
    await pass(1_010);
    expect(client.state).toBe("connected");
    expect(server.attempts).toHaveLength(2);
    await pass(MINUTE);
    expect(server.attempts).toHaveLength(2);
  });

  test("a tab that is shown again asks whether its connection still lives, and replaces a dead one", async () => {
    const { client } = await connected();
    await Promise.all([client.join("dashboard"), pass(10)]);
    show(false);
    await pass(5 * MINUTE);
    expect(server.last.actions).toEqual(["dashboard:join"]);
    show(true);
    await pass(10);
    expect(server.last.actions).toEqual(["dashboard:join", "ping"]);
    expect(client.state).toBe("connected");
    show(false);
    await pass(5 * MINUTE);
    server.answer = () => undefined;
    show(true);
    await pass(5 * SECOND);
    expect(client.state).toBe("connecting");
    server.answer = reply;
    await pass(1_010);
    expect(client.state).toBe("connected");
  });

  test("a tab that is shown often does not ping each time", async () => {
    const { client } = await connected();
    await Promise.all([client.join("dashboard"), pass(10)]);
    for (let times = 0; times < 20; times++) {
      server.say("a", 1);
      show(false);
      show(true);
      await pass(SECOND);
    }
    expect(server.last.actions).toEqual(["dashboard:join"]);
  });

  test("a laptop that slept with its lid closed asks when it wakes", async () => {
    const { client } = await connected();
    vi.spyOn(Math, "random").mockReturnValue(0.5); // at 0 it asks again before the server answers
    await Promise.all([client.join("dashboard"), pass(MINUTE)]);
    vi.setSystemTime(Date.now() + 8 * 60 * MINUTE); // timers stand still, the clock does not
    server.answer = () => undefined;
    await pass(30 * SECOND);
    expect(server.last.actions).toEqual(["dashboard:join", "ping"]);
    await pass(5 * SECOND);
    server.answer = reply;
    await pass(1_010);
    expect(client.state).toBe("connected");
    expect(server.connections).toHaveLength(2);
  });

  test("after disconnect() the page's events mean nothing", async () => {
    const { client } = await connected();
    client.disconnect();
    online(true);
    show(true);
    await pass(MINUTE);
    expect(server.attempts).toHaveLength(1);
  });
});
