/** A client with `resume` against the real local run, over a network that is cut again and again. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import { type Client, createClient } from "../../src/index.ts";
import { resume, type ResumeCalls } from "../../src/resume.ts";
import { Network } from "./browsers.ts";
import { LocalRun, until } from "./local-run.ts";

const ROOM = "chat_room_resume";
let run: LocalRun;
let network: Network;
let client: Client & ResumeCalls;
let told: string[];

beforeAll(async () => {
  run = await LocalRun.start();
  await run.command("grant", ROOM, "u1");
});
afterAll(() => run?.end());
beforeEach(async () => {
  network = await Network.to(run.port);
  told = [];
  client = createClient({
    url: network.url,
    getToken: () => run.sign("u1", 3600),
    WebSocket: WebSocket as any,
    resume,
  });
  client.on("client:gap", ({ room }) => told.push(`gap ${room}`));
  client.on("client:recovered", ({ room }) => told.push(`recovered ${room}`));
});
afterEach(() => {
  client.disconnect();
  network.close();
});

test("cut four times, a client hears every message of a room and of its inbox, in order and once", async () => {
  const heard: Record<string, unknown[]> = { tick: [], mail: [] };
  for (const event of ["tick", "mail"]) client.on(event, (data) => heard[event]!.push(data));
  await client.join(ROOM);
  await until(() => Object.keys(client.positions()).length === 2, "two positions");
  const all = Array.from({ length: 80 }, (_, number) => number);
  for (const number of all) {
    if (number % 20 === 10) network.cut();
    if (number % 20 === 18) network.repair();
    await run.send("room", ROOM, "tick", number);
    await run.send("user", "u1", "mail", number);
  }
  await until(() => heard.tick!.length >= 80 && heard.mail!.length >= 80, "all that was sent");
  expect(heard).toEqual({ tick: all, mail: all });
  expect(told).toContain(`recovered ${ROOM}`);
  expect(told.filter((line) => line.startsWith("gap"))).toEqual([]);
});

test("a page that was closed goes on where it was", async () => {
  await client.join(ROOM);
  const { [ROOM]: since } = client.positions();
  client.disconnect();
  await run.send("room", ROOM, "tick", "meanwhile");
  const heard: unknown[] = [];
  client.on("tick", (data) => heard.push(data));
  client.connect();
  await client.join(ROOM, { since: since! });
  expect(heard).toEqual(["meanwhile"]);
});

test("a stranger's room is refused, and the others are joined", async () => {
  const refused = client.join("chat_room_of_others").catch(({ code }) => code);
  await client.join(ROOM);
  expect(await refused).toBe("forbidden");
  expect(client.joined).toEqual([ROOM]);
});
