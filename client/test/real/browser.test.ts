/** The demo page in Chromium against the real local run. Screenshots go to build/screenshots/, to be looked at. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { CHROMIUM_FLAGS, find, Network } from "./browsers.ts";
import { LocalRun } from "./local-run.ts";

const SCREENSHOTS = join(import.meta.dirname, "..", "..", "..", "build", "screenshots");
const HOSTILE = [
  "<img src=x onerror=\"window.hacked='img'\">",
  "<script>window.hacked='script'</script>",
  "</li></ol><h1>injected</h1>",
  "javascript:window.hacked=1",
  "\u202Ereversed \u0000 \u{1F4A9} {{7*7}} ${7*7} %s",
];

let run: LocalRun;
let browser: Browser;
let contexts: BrowserContext[];
/** Whatever a page complained of: nothing is to be. */
let complaints: string[];

beforeAll(async () => {
  run = await LocalRun.start();
  browser = await chromium.launch({ executablePath: find("Chromium"), args: CHROMIUM_FLAGS });
});
afterAll(async () => {
  await browser?.close();
  await run?.end();
});
beforeEach(() => {
  contexts = [];
  complaints = [];
});
afterEach(async () => {
  for (const context of contexts) await context.close();
  expect(complaints).toEqual([]);
});

/** A person's own browser. */
async function open(options: Parameters<Browser["newContext"]>[0] = {}, path = "", site = run.page): Promise<Page> {
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, ...options });
  contexts.push(context);
  context.setDefaultTimeout(15_000);
  const page = await context.newPage();
  page.on("pageerror", (error) => complaints.push(`${error}`));
  page.on("console", (message) => {
    // A connection that is refused while the run is stopped is the browser's own line.
    if (message.type() === "error" && !/ERR_(CONNECTION|EMPTY)_|WebSocket connection to/.test(message.text())) {
      complaints.push(message.text());
    }
  });
  await page.goto(site + path);
  return page;
}

async function enter(name: string, role: "admin" | "user", options = {}, site = run.page): Promise<Page> {
  const page = await open(options, "", site);
  await page.getByLabel("Name").fill(name);
  await page.getByRole("button", { name: `Enter as ${role}` }).click();
  await isConnected(page);
  return page;
}

const isConnected = (page: Page) => page.locator('#state[data-state="connected"]').waitFor({ timeout: 30_000 });
const message = (page: Page, text: string) => page.locator("#messages li", { hasText: text });
/** The WCAG rules that a program can check. */
async function barriers(page: Page): Promise<string[]> {
  await page.evaluate(readFileSync(createRequire(import.meta.url).resolve("axe-core"), "utf8"));
  const { violations } = await page.evaluate(() => (window as any).axe.run());
  return violations.map(({ id, nodes }: any) => `${id}: ${nodes.map(({ html }: any) => html).join(" ")}`);
}

test("an admin and a user, side by side: what the user orders, the admin sees", async () => {
  const admin = await enter("Anna", "admin");
  const user = await enter("Ugo", "user");
  expect(await admin.locator("#dashboard-room").textContent()).toBe("dashboard_admin");
  expect(await user.locator("#dashboard-room").textContent()).toBe("dashboard_user_ugo");
  await user.getByRole("button", { name: "Place an order" }).click();
  await admin.locator("#latest tr", { hasText: "Ugo" }).waitFor();
  expect(await admin.locator("#latest td.amount").textContent()).toMatch(/^€\d+\.\d\d$/);
  expect(await user.locator("#backend-code").textContent()).toContain('send_to_room("dashboard_user_ugo"');
  expect(await admin.locator("#orders").textContent()).toBe("1");
  expect(await admin.locator("#chart rect").count()).toBe(1);
  await user.locator("#latest tr").waitFor();
  expect(await user.locator("#updates").textContent()).toBe("1");
});

test("a link with name and role enters at once, and a reload comes back as the same", async () => {
  const page = await open({}, "?name=Grace&role=admin");
  await isConnected(page);
  await page.reload();
  await isConnected(page);
  expect(await page.locator("#who").textContent()).toBe("Grace · admin · user id grace");
  await page.locator("#dashboard-room", { hasText: "dashboard_admin" }).waitFor();
});

test("the roomcast command's sends are seen by whom they are for", async () => {
  const admin = await enter("Anna", "admin");
  const user = await enter("Ugo", "user");
  await run.command("send", "room", "dashboard_admin", "dashboard:update", '{"type":"new_order","orderId":"123"}');
  await run.command("send", "user", "ugo", "notice", '{"text":"for Ugo"}');
  await run.command("send", "all", "notice", '{"text":"for all"}');
  await message(admin, '"orderId":"123"').waitFor();
  await message(user, "for Ugo").waitFor();
  await message(admin, "for all").waitFor();
  await message(user, "for all").waitFor();
  expect(await message(user, '"orderId":"123"').count()).toBe(0);
  expect(await message(admin, "for Ugo").count()).toBe(0);
});

test("rooms, grants, actions and sends by the page's own forms", async () => {
  const user = await enter("Ugo", "user");
  await user.getByLabel("Chat room").fill("lobby");
  await user.getByRole("button", { name: "Join", exact: true }).click();
  await user.getByRole("alert").filter({ hasText: "You may not join this room" }).waitFor();
  await user.getByRole("button", { name: /Grant it/ }).click();
  await user.locator("#rooms", { hasText: "chat_room_lobby" }).waitFor();
  await message(user, "joined chat_room_").waitFor();
  await user.getByLabel("To", { exact: true }).selectOption("room");
  await user.getByLabel("Who").fill("chat_room_lobby");
  await user.getByLabel("Data (JSON)").fill('{"text":"to the lobby"}');
  await user.getByRole("button", { name: "Send", exact: true }).click();
  await message(user, "to the lobby").waitFor();
  expect(await user.locator("#report").textContent()).toBe("sent 1, gone 0, failed 0, unknown 0");
  await user.getByLabel("Data (JSON)").fill("{no json");
  await user.getByRole("button", { name: "Send", exact: true }).click();
  await user.locator("#report.problem").waitFor();
  for (const [button, event] of [
    ["Refresh", "dashboard:refresh_data"],
    ["Ping", "pong"],
  ] as const) {
    await user.getByRole("button", { name: button }).click();
    await message(user, event).waitFor();
  }
  await user.getByRole("button", { name: "Leave chat_room_lobby" }).click();
  await message(user, "chat:left_room").waitFor();
  await user.getByRole("button", { name: "Disconnect" }).click();
  await user.locator('#state[data-state="disconnected"]').waitFor();
  await user.getByRole("button", { name: "Connect", exact: true }).click();
  await isConnected(user);
});

test("the run is stopped and started: both pages come back by themselves, with their rooms", async () => {
  const admin = await enter("Anna", "admin");
  const user = await enter("Ugo", "user");
  await user.getByLabel("Chat room").fill("lobby");
  await user.getByRole("button", { name: "Join", exact: true }).click();
  await user
    .getByRole("button", { name: /Grant it|Leave chat_room_lobby/ })
    .first()
    .waitFor();
  if (await user.getByRole("button", { name: /Grant it/ }).isVisible()) {
    await user.getByRole("button", { name: /Grant it/ }).click();
  }
  await message(user, "joined chat_room_").waitFor();
  await run.stop();
  for (const page of [admin, user]) await page.locator('#state[data-state="connecting"]').waitFor();
  await run.start();
  await isConnected(admin);
  await run.command("grant", "chat_room_lobby", "ugo"); // a new run begins with empty tables
  await isConnected(user);
  await run.send("room", "dashboard_admin", "dashboard:update", { type: "after", orderId: "1" });
  await run.send("room", "dashboard_user_ugo", "dashboard:update", { type: "after", orderId: "2" });
  await message(admin, '"orderId":"1"').waitFor();
  await message(user, '"orderId":"2"').waitFor();
});

test("hostile strings are shown as text, wherever they come from", async () => {
  const page = await enter(HOSTILE[0]!, "user");
  const id = (await page.locator("#who").textContent())!.split("user id ").at(-1)!;
  expect(await page.locator("#who").textContent()).toContain(HOSTILE[0]);
  for (const text of HOSTILE) {
    await run.send("user", id, text.slice(0, 100), { [text]: text });
    await run.send("user", id, "dashboard:update", { type: text, orderId: text, [text]: [text] });
  }
  await page.locator("#updates", { hasText: `${HOSTILE.length}` }).waitFor();
  const shown = await page.locator("#messages").textContent();
  for (const text of HOSTILE) expect(shown).toContain(JSON.stringify(text));
  expect(await page.locator("#latest").textContent()).toContain(JSON.stringify(HOSTILE[0]));
  expect(await page.evaluate(() => (window as any).hacked)).toBeUndefined();
  expect(await page.locator("#inside img, #inside script, #inside h1, .bar img").count()).toBe(0);
});

test("the lid is closed and opened again: nothing is missing, and the page says so", async () => {
  const network = await Network.to(run.port);
  const user = await enter("Lida", "user", {}, network.url.replace("ws", "http"));
  await user.getByLabel("Chat room").fill("lid");
  await user.getByRole("button", { name: "Join", exact: true }).click();
  await user.getByRole("button", { name: /Grant it/ }).click();
  await message(user, "joined chat_room_lid").waitFor();
  network.cut();
  await user.locator('#state[data-state="connecting"]').waitFor();
  for (const text of ["one", "two", "three"]) await run.send("room", "chat_room_lid", "chat:message", { text });
  network.repair();
  await message(user, "chat_room_lid: nothing is missing, 3 messages came while this page was away").waitFor();
  // The newest is at the top.
  const shown = await message(user, "chat:message").allTextContents();
  expect(shown.map((line) => /one|two|three/.exec(line)![0])).toEqual(["three", "two", "one"]);
  network.close();
});

test("a chat: who is here and who types is shown, what one says the others read, what was missed is marked", async () => {
  const admin = await enter("Anna", "admin");
  const user = await enter("Ugo", "user");
  await run.command("grant", "chat_room_kitchen", "ugo");
  for (const page of [admin, user]) {
    await page.getByLabel("Chat room").fill("kitchen");
    await page.getByRole("button", { name: "Join", exact: true }).click();
    await page.locator("#chat", { hasText: "Nobody has said anything yet" }).waitFor();
  }
  await admin.locator("#here", { hasText: "Here now: Ugo, you" }).waitFor();
  await user.locator("#here", { hasText: "Here now: Anna, you" }).waitFor();
  const say = async (page: Page, text: string) => {
    await page.getByLabel("Say something").fill(text);
    await page.getByRole("button", { name: "Say it" }).click();
  };
  await say(admin, "The ovens are on.");
  await user.locator("#chat li", { hasText: "Anna" }).filter({ hasText: "The ovens are on." }).waitFor();
  await admin.locator("#chat li.mine", { hasText: "The ovens are on." }).waitFor();
  await user.getByLabel("Say something").pressSequentially("Com");
  await admin.locator("#typing", { hasText: "Ugo is typing" }).waitFor();
  await admin.getByRole("button", { name: "Cut the network" }).click();
  await admin.locator('#state[data-state="connecting"]').waitFor();
  await say(user, HOSTILE[0]!);
  await admin.locator("#chat li.missed", { hasText: HOSTILE[0]! }).waitFor({ timeout: 30_000 });
  expect(await admin.locator("#chat li").count()).toBe(2);
  // Who comes later reads what the room has kept.
  await admin.reload();
  await isConnected(admin);
  await admin.getByLabel("Chat room").fill("kitchen");
  await admin.getByRole("button", { name: "Join", exact: true }).click();
  await admin.locator("#chat li", { hasText: "The ovens are on." }).waitFor();
  expect(await barriers(admin)).toEqual([]);
  // A reload is nobody's leave, and a leave is told after 15 s.
  await user.locator("#here", { hasText: "Here now: Anna, you" }).waitFor();
  await user.getByRole("button", { name: "Leave chat_room_kitchen" }).click();
  await admin.locator("#here", { hasText: /^Here now: you$/ }).waitFor({ timeout: 60_000 });
});

test("the network is cut with a button: what was ordered meanwhile arrives, and is counted", async () => {
  const page = await enter("Kurt", "user");
  await page.locator("#dashboard-room", { hasText: "dashboard_user_kurt" }).waitFor();
  await page.getByRole("button", { name: "Cut the network" }).click();
  await page.locator('#state[data-state="connecting"]').waitFor();
  expect(await page.getByRole("button", { name: /Cut for \d s more/ }).isDisabled()).toBe(true);
  await page.getByRole("button", { name: "Place an order" }).click();
  await isConnected(page);
  await page.locator("#latest tr").waitFor();
  await page.locator("#replayed", { hasText: "1" }).waitFor();
  expect(await page.locator("#back").textContent()).toBe("1");
  expect(await page.locator("#lost").textContent()).toBe("0");
});

test("what is offline comes back when it is online again", async () => {
  const page = await enter("Ugo", "user");
  await page.context().setOffline(true);
  await page.evaluate(() => dispatchEvent(new Event("offline")));
  await page.context().setOffline(false);
  await isConnected(page);
  await run.send("all", "", "notice", { text: "still there" });
  await message(page, "still there").waitFor();
});

test.each([
  ["light", 1200],
  ["dark", 1200],
  ["light", 375],
  ["dark", 375],
] as const)("in %s at %i px nothing sticks out and nobody is shut out", async (colorScheme, width) => {
  const options = { colorScheme, viewport: { width, height: 900 } };
  const start = await open(options);
  expect(await barriers(start)).toEqual([]);
  await start.screenshot({ path: join(SCREENSHOTS, `enter-${colorScheme}-${width}.png`) });
  const page = await enter("Anna", "admin", options);
  for (const amount of [12.5, 80.25, 31]) {
    await run.send("room", "dashboard_admin", "dashboard:update", {
      type: "new_order",
      orderId: `A${amount}`,
      customer: "Ugo",
      amount,
    });
    if (amount === 80.25) await page.waitForTimeout(1_000); // two bars in the chart
  }
  await run.send("user", "anna", "notice", { text: "a long word: " + "x".repeat(300) });
  await message(page, "a long word").waitFor();
  await page.getByLabel("Chat room").fill("lobby");
  await page.getByRole("button", { name: "Join", exact: true }).click();
  await page.locator("#rooms", { hasText: "chat_room_lobby" }).waitFor();
  expect(await barriers(page)).toEqual([]);
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(width);
  await page.screenshot({ path: join(SCREENSHOTS, `inside-${colorScheme}-${width}.png`), fullPage: true });
});
