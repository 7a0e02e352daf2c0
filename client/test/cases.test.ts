/**
 * What other clients were reported to do wrong. The numbers are those of the list of public bug reports that this client
 * was tried on; each test names the kind of fault.
 */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Client, type ClientOptions, createClient, type StateChange } from "../src/index.ts";
import { FakeServer, jwt, reply } from "../src/testing.ts";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOiJ1MSIsIm5hbWUiOiJBbm5hIn0.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg";

let server: FakeServer;
let clients: Client[];
let page: EventTarget & { visibilityState?: string };
let rejections: unknown[];
const note = (reason: unknown) => rejections.push(reason);

beforeEach(() => {
  vi.useFakeTimers({ now: Date.UTC(2025, 0, 17, 10, 30) });
  server = new FakeServer();
  clients = [];
  rejections = [];
  process.on("unhandledRejection", note);
  page = new EventTarget();
  for (const name of ["addEventListener", "removeEventListener", "dispatchEvent"] as const) {
    vi.stubGlobal(name, page[name].bind(page));
  }
  vi.stubGlobal("document", page);
});

afterEach(async () => {
  for (const client of clients) client.disconnect();
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
  await new Promise((resolve) => setTimeout(resolve, 0));
  process.off("unhandledRejection", note);
  expect(rejections).toEqual([]);
});

const pass = (milliseconds: number) => vi.advanceTimersByTimeAsync(milliseconds);

function make(options: Partial<ClientOptions> = {}) {
  const client: Client = createClient({
    url: "wss://example.test/prod",
    getToken: () => "secret-token",
    WebSocket: server.WebSocket,
    ...options,
  });
  clients.push(client);
  const states: StateChange[] = [];
  const retries: string[] = [];
  client.on("client:state", (change) => states.push(change));
  client.on("client:retry", ({ reason }) => retries.push(reason));
  return { client, states, retries };
}

async function connected(options: Partial<ClientOptions> = {}) {
  const made = make(options);
  await pass(10);
  expect(made.client.state).toBe("connected");
  return made;
}

const outcome = (promise: Promise<unknown>) =>
  promise.then(
    () => "fulfilled",
    ({ code }) => code as string,
  );

/** Rate limits as the backend has them (GCRA); the connection is closed when they are not minded. */
function limited(perSecond: number, burst: number, debt = 80) {
  const interval = 1_000 / perSecond;
  let used = 0;
  const carriedOut: { action: string }[] = [];
  server.answer = (action, connection) => {
    used = Math.max(used, Date.now()) + interval;
    const over = used - Date.now() - burst * interval;
    if (over <= 0) {
      carriedOut.push(action);
      return reply(action);
    }
    const data = { code: "rate_limited", message: `At most ${perSecond} actions a second`, retryAfter: over / 1_000 };
    if (over > debt * interval) connection.after(1, () => connection.cut(1000));
    return { event: action.action.startsWith("chat:") ? "chat:error" : "error", data, replyTo: action.id };
  };
  return carriedOut;
}

describe("intent and fact", () => {
  test.each([0, 1, 2, 5])("1: join, leave and join again within a round trip (%i ms apart)", async (apart) => {
    const { client } = await connected();
    server.latency = 5;
    const first = outcome(client.join("chat_room_1"));
    await pass(apart);
    const left = outcome(client.leave("chat_room_1"));
    const again = outcome(client.join("chat_room_1"));
    await pass(100);
    expect(await Promise.all([first, left, again])).toEqual([
      apart === 5 ? expect.any(String) : "left",
      "fulfilled",
      "fulfilled",
    ]);
    expect([client.rooms, client.joined]).toEqual([["chat_room_1"], ["chat_room_1"]]);
  });

  test("7: one room that is never answered keeps neither the others nor the actions out", async () => {
    server.answer = (action) => (action.roomId === "bad" ? undefined : reply(action));
    const { client } = make();
    const good = outcome(client.join("dashboard"));
    const bad = outcome(client.join("chat_room_bad"));
    const sent = outcome(client.send("dashboard:refresh"));
    await pass(3 * SECOND);
    expect(client.state).toBe("connected");
    expect(await Promise.all([good, sent])).toEqual(["fulfilled", "fulfilled"]);
    await pass(10 * SECOND);
    expect(await bad).toBe("timeout");
    expect(client.rooms).toEqual(["dashboard"]);
    expect(server.connections).toHaveLength(1);
  });

  test("7: a room that was joined before and is not answered for after a cut is tried again, while the others live", async () => {
    const { client } = await connected();
    await Promise.all([client.join("dashboard"), client.join("chat_room_bad"), pass(2 * SECOND)]);
    const lost = vi.fn();
    client.on("client:room_lost", lost);
    server.answer = (action) => (action.roomId === "bad" ? undefined : reply(action));
    server.cut();
    await pass(40 * SECOND);
    expect(client.state).toBe("connected");
    expect([client.rooms, client.joined]).toEqual([["dashboard", "chat_room_bad"], ["dashboard"]]);
    server.answer = reply;
    await pass(MINUTE);
    expect(client.joined).toEqual(["dashboard", "chat_room_bad"]);
    expect(lost).not.toHaveBeenCalled();
    expect(server.connections).toHaveLength(2);
  });

  test("7: half an emoji in a room's name is as one that is not answered", async () => {
    server.answer = (action) => (/\ud83d/.test(`${action.roomId}`) ? undefined : reply(action));
    const { client } = make();
    const bad = outcome(client.join("chat_room_\ud83d"));
    await pass(15 * SECOND);
    expect(client.state).toBe("connected");
    expect(await bad).toBe("timeout");
  });

  test("10: a leave that is rate_limited is made good", async () => {
    const { client } = await connected();
    await Promise.all([client.join("chat_room_1"), pass(10)]);
    let refused = 0;
    server.answer = (action) => {
      if (action.action !== "chat:leave_room" || refused++) return reply(action);
      return { event: "chat:error", data: { code: "rate_limited", message: "", retryAfter: 0.5 }, replyTo: action.id };
    };
    const left = outcome(client.leave("chat_room_1"));
    await pass(2 * SECOND);
    expect(await left).toBe("fulfilled");
    expect(server.last.actions.filter((action) => action === "chat:leave_room")).toHaveLength(2);
  });

  test("10: a leave that is not answered is told, and goes on until the server is out of the room", async () => {
    const { client } = await connected({ replyTimeout: 1_000 });
    await Promise.all([client.join("chat_room_1"), pass(10)]);
    server.answer = (action) => (action.action === "chat:leave_room" ? undefined : reply(action));
    const left = outcome(client.leave("chat_room_1"));
    await pass(1_100);
    expect(await left).toBe("timeout");
    server.answer = reply;
    await pass(10 * SECOND);
    expect(server.last.actions.filter((action) => action === "chat:leave_room")).toHaveLength(2);
    expect(await outcome(client.leave("chat_room_1"))).toBe("fulfilled");
  });

  test("9: what is wanted and what is joined are told when they change", async () => {
    const { client } = await connected();
    const told: unknown[] = [];
    client.on("client:rooms", ({ wanted, joined }) => told.push([wanted, joined]));
    void client.join("dashboard");
    await pass(10);
    server.cut();
    await pass(3 * SECOND);
    client.disconnect();
    expect(told).toEqual([
      [["dashboard"], []],
      [["dashboard"], ["dashboard"]],
      [["dashboard"], []],
      [["dashboard"], ["dashboard"]],
      [["dashboard"], []],
      [[], []],
    ]);
  });
});

describe("callbacks may do anything", () => {
  const throws = (value: unknown) => () => {
    throw value;
  };
  test.each<[string, ClientOptions["getToken"]]>([
    ["rejects with nothing", () => Promise.reject()],
    ["throws undefined", throws(undefined)],
    ["throws null", throws(null)],
    ["throws an object without a prototype", throws(Object.create(null))],
    ["rejects with null", () => Promise.reject(null)],
  ])("3: a getToken that %s is asked again, first or in the middle", async (_, bad) => {
    let getToken = bad;
    const { client, retries } = make({ getToken: () => getToken() });
    await pass(SECOND);
    expect(retries.length).toBeGreaterThan(0);
    getToken = () => "good";
    await pass(3 * SECOND);
    expect(client.state).toBe("connected");
    getToken = bad;
    server.cut();
    await pass(3 * SECOND);
    expect(client.state).toBe("connecting");
    getToken = () => "good";
    await pass(20 * SECOND);
    expect(client.state).toBe("connected");
  });

  test.each(["getToken", "url"] as const)("4: a %s that never settles is asked again", async (which) => {
    let asked = 0;
    const value = { getToken: "t", url: "wss://example.test" }[which];
    const { client, retries } = make({ [which]: () => (++asked === 1 ? new Promise(() => {}) : value) });
    await pass(29 * SECOND);
    expect(client.state).toBe("connecting");
    await pass(5 * SECOND);
    expect(client.state).toBe("connected");
    expect(retries).toEqual([`${which}: no reply in 30000 ms`]);
  });

  test("4: a wake-up while it hangs is not forgotten: the next attempt comes within a second of the limit", async () => {
    vi.spyOn(Math, "random").mockReturnValue(0.999);
    let asked = 0;
    server.admit = "down";
    const { client } = make({ getToken: () => (++asked === 6 ? new Promise(() => {}) : "t") });
    while (asked < 6) await pass(100);
    server.admit = "open";
    dispatchEvent(new Event("online"));
    await pass(31.1 * SECOND);
    expect(client.state).toBe("connected");
  });

  test("a listener may throw nothing, reject, disconnect and connect", async () => {
    const reported: unknown[] = [];
    vi.stubGlobal("reportError", (error: unknown) => reported.push(error));
    const { client, states } = await connected();
    client.on("a", () => {
      throw undefined;
    });
    client.on("a", async () => {
      throw new Error("later");
    });
    client.on("a", () => client.disconnect());
    client.on("a", () => client.connect());
    const last = vi.fn();
    client.on("a", last);
    server.say("a", 1);
    await pass(10);
    expect(last).toHaveBeenCalledTimes(1);
    expect(reported).toMatchObject([undefined, { message: "later" }]);
    expect(states.map(({ state }) => state)).toEqual(["connected", "disconnected", "connecting", "connected"]);
  });

  test("every listener hears the states in one order, also when one of them changes the state", async () => {
    const { client } = make({ autoConnect: false });
    const heard: string[] = [];
    client.on("client:state", ({ state }) => state === "connected" && client.disconnect());
    client.on("client:state", ({ state, previous }) => heard.push(`${previous}-${state}`));
    client.connect();
    await pass(10);
    expect(heard).toEqual(["disconnected-connecting", "connecting-connected", "connected-disconnected"]);
  });

  test("25: what nobody awaits is no unhandled rejection, whatever it is", async () => {
    const { client } = make({ autoConnect: false });
    void client.send("x");
    void client.send("x", { big: "x".repeat(40_000) });
    void client.send("x", {
      circle: {} as object,
      toJSON: () => {
        throw undefined;
      },
    });
    void client.join("general" as any);
    void client.join(undefined as any);
    void client.leave("chat_room_1");
    client.connect();
    await pass(10);
    server.answer = () => undefined;
    void client.join("chat_room_1");
    void client.send("x");
    void client.leave("chat_room_1");
    await pass(MINUTE);
  });
});

describe("time", () => {
  test.each([-5, -60, 5, 600])(
    "6: a clock that is %i minutes off hears events up to and beyond the token's end",
    async (off) => {
      const real = Date.now();
      vi.setSystemTime(real + off * MINUTE);
      const ends = { at: real + 10 * MINUTE };
      server.facts = { expiresIn: 600, spread: 1_000 };
      let asked = 0;
      const getToken = () => {
        asked++;
        const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
        const exp = Math.floor((Date.now() - off * MINUTE) / 1_000) + 600;
        return `${part({})}.${part({ userId: "u1", exp, n: asked })}.x`;
      };
      const { client, states } = await connected({ getToken });
      await pass(9 * MINUTE + 30 * SECOND);
      expect(server.last.actions).toContain("auth:refresh");
      expect(Date.now() - off * MINUTE).toBeLessThan(ends.at);
      await pass(60 * MINUTE);
      expect(client.state).toBe("connected");
      expect(states.map(({ state }) => state)).toEqual(["connected"]);
    },
  );

  test("6: an opaque ticket's end is known too: a new connection comes in time", async () => {
    server.facts = { expiresIn: 600, spread: 1_000 };
    let tickets = 0;
    const { client, states } = await connected({ sendTokenAs: "ticket", getToken: () => `ticket-${++tickets}` });
    await Promise.all([client.join("dashboard"), pass(9.5 * MINUTE)]);
    expect(server.last.url).toContain("ticket=ticket-2");
    expect(server.last.actions).toEqual(["dashboard:join"]);
    expect(states.map(({ state }) => state)).toEqual(["connected"]);
  });

  test("19: a token that the application renews late is asked for again, nearer the end", async () => {
    server.facts = { expiresIn: 40, spread: 1_000 };
    const begin = Date.now();
    const [old, young] = [jwt(40), jwt(3_600)];
    const { states } = await connected({ getToken: () => (Date.now() - begin < 35 * SECOND ? old : young) });
    server.facts.expiresIn = 3_600;
    await pass(50 * SECOND);
    expect(server.last.actions).toContain("auth:refresh");
    expect(states.map(({ state }) => state)).toEqual(["connected"]);
    expect(server.connections).toHaveLength(1);
  });

  test.each([Number.POSITIVE_INFINITY, 2 ** 31, 2 ** 33])(
    "23: a replyTimeout of %d is no time at all",
    async (replyTimeout) => {
      const { client } = await connected({ replyTimeout });
      server.answer = (action, connection) => {
        connection.after(action.action === "ping" ? 1 : 5 * MINUTE, () =>
          connection.text(JSON.stringify(reply(action))),
        );
        return undefined;
      };
      const slow = outcome(client.join("dashboard"));
      await pass(6 * MINUTE);
      expect(await slow).toBe("fulfilled");
    },
  );

  test("18: an action that finds no connection in time is refused, and not carried out afterwards", async () => {
    server.admit = "down";
    const { client } = make();
    const sent = outcome(client.send("order:create"));
    await pass(10 * SECOND + 10);
    expect(await sent).toBe("timeout");
    server.admit = "open";
    await pass(MINUTE);
    expect(client.state).toBe("connected");
    expect(server.last.actions).not.toContain("order:create");
  });
});

describe("networks", () => {
  test("5: a network that changes seconds after a message is noticed within half a minute", async () => {
    const { client, states } = await connected();
    await pass(MINUTE);
    server.say("a", 1);
    await pass(5 * SECOND);
    server.answer = () => undefined;
    dispatchEvent(new Event("online"));
    await pass(30 * SECOND);
    expect(states[1]).toMatchObject({ state: "connecting", code: "no_reply" });
    server.answer = reply;
    await pass(3 * SECOND);
    expect(client.state).toBe("connected");
  });

  test("26: behind a proxy that cuts what is idle for 60 s it learns to ping in time", async () => {
    const { client, states } = await connected();
    await Promise.all([client.join("dashboard"), pass(10)]);
    const cutWhenIdle = setInterval(() => {
      for (const connection of server.open) {
        if (Date.now() - idleSince.get(connection)! >= 60 * SECOND) connection.cut(1006);
      }
    }, 100);
    const idleSince = new WeakMap<object, number>();
    const look = setInterval(() => {
      for (const connection of server.open) {
        const count = connection.received.length;
        if (counts.get(connection) !== count) idleSince.set(connection, Date.now());
        counts.set(connection, count);
      }
    }, 50);
    const counts = new WeakMap<object, number>();
    await pass(60 * MINUTE);
    clearInterval(cutWhenIdle);
    clearInterval(look);
    const cuts = states.filter(({ code }) => code === "lost").length;
    expect(cuts).toBeGreaterThan(0);
    expect(cuts).toBeLessThanOrEqual(5);
  });

  test("27: a machine that slept for two minutes asks whether its connection outlived it", async () => {
    const { client } = await connected();
    await Promise.all([client.join("dashboard"), pass(MINUTE)]);
    vi.setSystemTime(Date.now() + 2 * MINUTE);
    server.answer = () => undefined;
    await pass(30 * SECOND + 6 * SECOND);
    expect(server.connections[0]!.state).toBe("closed");
    expect(client.state).toBe("connecting");
  });

  test("a lone client that is cut again and again is back as fast as one can be", async () => {
    const { client } = await connected();
    let up = 0;
    const look = setInterval(() => (up += client.connected ? 1 : 0), 100);
    for (let cut = 0; cut < 60; cut++) {
      server.admit = "down";
      server.cut();
      await pass(2 * SECOND);
      server.admit = "open";
      await pass(3 * SECOND);
    }
    clearInterval(look);
    // It can be up for three seconds of five.
    expect(up / (60 * 50)).toBeGreaterThan(0.35);
  });
});

describe("pace", () => {
  test("8: a full queue is sent in the stage's pace, and all of it is carried out once", async () => {
    const carriedOut = limited(20, 40);
    const { client } = make();
    const sent = Array.from({ length: 100 }, () => outcome(client.send("dashboard:refresh")));
    await pass(10 * SECOND);
    expect(new Set(await Promise.all(sent))).toEqual(new Set(["fulfilled"]));
    expect(carriedOut.filter(({ action }) => action === "dashboard:refresh")).toHaveLength(100);
    expect(server.connections).toHaveLength(1);
  });

  test("8: 49 rooms and 60 actions come through together", async () => {
    limited(20, 40);
    const { client } = make();
    const joins = Array.from({ length: 49 }, (_, number) => outcome(client.join(`chat_room_${number}`)));
    const sent = Array.from({ length: 60 }, () => outcome(client.send("dashboard:refresh")));
    await pass(20 * SECOND);
    expect(new Set(await Promise.all([...joins, ...sent]))).toEqual(new Set(["fulfilled"]));
    expect(client.joined).toHaveLength(49);
    expect(server.connections).toHaveLength(1);
  });

  test("8: a stage that allows much less than others is found out, without a flood", async () => {
    const carriedOut = limited(2, 5);
    const { client } = await connected();
    const joins = Array.from({ length: 30 }, (_, number) => outcome(client.join(`chat_room_${number}`)));
    await pass(2 * MINUTE);
    expect(new Set(await Promise.all(joins))).toEqual(new Set(["fulfilled"]));
    expect(server.connections).toHaveLength(1);
    expect(carriedOut.length).toBeGreaterThanOrEqual(30);
  });

  test("30: nothing of the first user is sent or kept when another one's token comes", async () => {
    const token = (userId: string) => `x.${Buffer.from(JSON.stringify({ userId })).toString("base64url")}.x`;
    let user = "anna";
    const { client, states } = await connected({ getToken: () => token(user) });
    await Promise.all([client.join("chat_room_anna"), pass(10)]);
    const lost = vi.fn();
    client.on("client:room_lost", lost);
    user = "ben";
    server.cut();
    const order = outcome(client.send("order:delete"));
    await pass(5 * SECOND);
    expect(await order).toBe("user_changed");
    expect(client.state).toBe("connected");
    expect(server.last.actions).toEqual([]);
    expect(client.rooms).toEqual([]);
    expect(lost).toHaveBeenCalledWith(
      expect.objectContaining({ room: "chat_room_anna", code: "user_changed" }),
      undefined,
    );
    expect(states.at(-1)).toMatchObject({ state: "connected" });
  });

  test("30: another user's token at a renewal ends the first one's connection", async () => {
    const end = Math.floor(Date.now() / 1_000);
    const token = (userId: string, exp: number) =>
      `x.${Buffer.from(JSON.stringify({ userId, exp })).toString("base64url")}.x`;
    server.facts = { expiresIn: 600, spread: 1_000 };
    let user = "anna";
    const { client, states } = await connected({ getToken: () => token(user, end + 600) });
    await Promise.all([client.join("dashboard"), pass(10)]);
    user = "ben";
    await pass(10 * MINUTE);
    expect(states.map(({ code }) => code)).toEqual(["opened", "user_changed", "opened"]);
    expect(server.open).toEqual([server.last]);
    expect(server.last.actions).not.toContain("dashboard:join");
    expect(client.rooms).toEqual([]);
  });

  test("30: after disconnect() the next user's rooms are the next user's", async () => {
    const token = (userId: string) => `x.${Buffer.from(JSON.stringify({ userId })).toString("base64url")}.x`;
    let user = "anna";
    const { client } = await connected({ getToken: () => token(user) });
    client.disconnect();
    user = "ben";
    const joined = outcome(client.join("dashboard"));
    client.connect();
    await pass(10);
    expect(await joined).toBe("fulfilled");
  });

  test("an action that the server refused since the connection had ended is sent on the next one", async () => {
    const { client } = await connected();
    await pass(6 * SECOND);
    server.answer = (action, { server }) =>
      server.connections.length > 1
        ? reply(action)
        : { event: "error", data: { code: "token_expired", message: "The token has expired" }, replyTo: action.id };
    const sent = outcome(client.send("dashboard:refresh"));
    await pass(3 * SECOND);
    expect(await sent).toBe("fulfilled");
  });
});

describe("what the server tells", () => {
  test("17: an application's own error event means nothing to the connection", async () => {
    const { client, states } = await connected();
    const heard: unknown[] = [];
    client.on("payment:error", (data) => heard.push(data));
    client.on("error", (data) => heard.push(data));
    for (const code of ["token_expired", "unknown_connection", "connection_limit"]) {
      server.say("payment:error", { code });
      server.say("error", { code }, { id: `send-${code}` });
    }
    await pass(SECOND);
    expect(heard).toHaveLength(6);
    expect(states.map(({ state }) => state)).toEqual(["connected"]);
  });

  test("S67: a tab that a newer one has replaced stays out, with a reason, until it is wanted again", async () => {
    const { client, states } = await connected();
    await Promise.all([client.join("dashboard"), pass(10)]);
    server.say("error", { code: "connection_limit", message: "A newer connection of this user was let in" });
    expect(states.at(-1)).toMatchObject({
      state: "disconnected",
      code: "connection_limit",
      reason: "A newer connection of this user was let in",
    });
    expect(server.open).toHaveLength(0);
    dispatchEvent(new Event("online"));
    await pass(24 * 60 * MINUTE);
    expect(server.attempts).toHaveLength(1);
    page.visibilityState = "visible";
    dispatchEvent(new Event("visibilitychange"));
    await pass(10);
    expect(client.state).toBe("connected");
    expect(client.joined).toEqual(["dashboard"]);
    server.say("error", { code: "connection_limit", message: "again" });
    client.connect();
    await pass(10);
    expect(client.state).toBe("connected");
  });
});

describe("secrets", () => {
  const spilled = (values: unknown[]) =>
    JSON.stringify(values.map((value) => (value instanceof Error ? value.message : value)));

  test.each([
    ["a URL with a fragment", { url: "wss://x.test/prod#room" }],
    ["a URL in quotes", { url: '"wss://x.test/prod"' }],
    ["a WebSocket that shows what it was given", { WebSocket: throwing() }],
    ["a WebSocket that shows the subprotocol", { WebSocket: throwing(), sendTokenAs: "subprotocol" }],
    [
      "a getToken that shows its own request",
      { getToken: () => Promise.reject(new Error(`GET /token?jwt=${TOKEN} 500`)) },
    ],
    ["a url function that shows the token", { url: () => Promise.reject(new Error(`no url for ${TOKEN}`)) }],
  ] as [string, Partial<ClientOptions>][])("16: the token is in no event of %s", async (_, options) => {
    const printed = ["log", "warn", "error"].map((name) =>
      vi.spyOn(console, name as "log").mockImplementation(() => {}),
    );
    const { client, states, retries } = make({ getToken: () => TOKEN, ...options });
    const failed = client.send("x").catch((error) => error);
    await pass(15 * SECOND);
    expect(retries.length).toBeGreaterThan(0);
    const all = spilled([...states, ...retries, await failed, ...printed.flatMap(({ mock }) => mock.calls)]);
    expect(all).not.toContain(TOKEN.slice(0, 30));
    expect(all).not.toContain(TOKEN.split(".")[2]);
  });

  test("16: nor in the reason that a server closes with", async () => {
    const { states } = await connected({ getToken: () => TOKEN });
    server.cut(1008, `bad token ${TOKEN}`);
    expect(states.at(-1)!.reason).toBe("closed: 1008 bad token [token]");
  });

  function throwing() {
    return class {
      constructor(url: string, protocols?: string[]) {
        throw new SyntaxError(`Invalid: ${url} ${protocols}`);
      }
    } as any;
  }
});

describe("everywhere", () => {
  test.each([undefined, "", null, '"wss://x.test"', "wss://x.test/a b", "x.test", "ftp://x.test"])(
    "29: the url %j is told in one clear line, and nothing is opened",
    async (url) => {
      const { retries } = make({ url: url as string });
      await pass(SECOND);
      expect(retries[0]).toMatch(/url/);
      expect(retries[0]).not.toMatch(/undefined \(|Cannot read/);
      expect(server.attempts).toHaveLength(0);
    },
  );

  test.each(["http://x.test/prod", "https://x.test/prod"])("29: %s is taken for its WebSocket form", async (url) => {
    await connected({ url });
    expect(server.last.url).toBe(`${url.replace("http", "ws")}?token=secret-token`);
  });

  test("13, 14: nothing is needed that React Native or a test environment lacks", async () => {
    const lacking = ["AbortController", "AbortSignal", "TextEncoder", "fetch", "crypto", "structuredClone", "atob"];
    for (const name of [...lacking, "reportError", "queueMicrotask", "performance", "document", "addEventListener"]) {
      vi.stubGlobal(name, undefined);
    }
    vi.spyOn(console, "error").mockImplementation(() => {});
    const { client } = await connected({ getToken: () => jwt(3_600) });
    const big = outcome(client.send("x", { text: "é".repeat(16_400) }));
    expect(await Promise.all([outcome(client.join("dashboard")), outcome(client.send("ping")), pass(10)])).toEqual([
      "fulfilled",
      "fulfilled",
      expect.anything(),
    ]);
    expect(await big).toBe("too_large");
    client.on("a", () => {
      throw new Error("mine");
    });
    server.say("a", 1);
    server.cut();
    await pass(3 * SECOND);
    expect(client.state).toBe("connected");
  });
});
