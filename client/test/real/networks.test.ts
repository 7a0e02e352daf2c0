/** Real browsers in trouble, against the real local run: what a person sees and how soon it is over. */
import type { Browser, Page } from "puppeteer-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type BrowserName, launch, Network, Pages } from "./browsers.ts";
import { LocalRun } from "./local-run.ts";

/** A page with one client in its user's dashboard. It keeps what it is told. */
const PAGE = `<!doctype html><title>client</title><script type="module">
  import { createClient } from "/roomcast/index.js";
  const { url, token, ...options } = JSON.parse(decodeURIComponent(location.search.slice(1)));
  window.states = [];
  window.heard = [];
  window.shown = [];
  addEventListener("pageshow", ({ persisted }) => shown.push(persisted));
  window.client = createClient({ url, getToken: () => token, ...options });
  client.on("client:state", (change) => states.push(change));
  client.on("tick", (data) => heard.push(data));
  client.join("dashboard");
</script>`;

let run: LocalRun;
let pages: Pages;
beforeAll(async () => {
  run = await LocalRun.start();
  pages = await Pages.serve({ "/": PAGE, "/other": "<!doctype html><title>other</title>" });
});
afterAll(async () => {
  pages?.close();
  await run?.end();
});

describe.each(["Chromium", "Firefox"] as const)("%s", (name: BrowserName) => {
  let browser: Browser;
  let network: Network;
  let page: Page;
  let complaints: string[];
  let people = 0;
  let user: string;

  beforeAll(async () => {
    browser = await launch(name);
  });
  afterAll(() => browser?.close());
  beforeEach(async () => {
    network = await Network.to(run.port);
    page = await browser.newPage();
    complaints = [];
    page.on("pageerror", (error) => {
      // Firefox's own line about a connection that failed.
      if (!/Firefox can.t establish a connection|was interrupted while the page/.test(`${error}`))
        complaints.push(`${error}`);
    });
    user = `${name.toLowerCase()}-${++people}`;
  });
  afterEach(async () => {
    await page.close();
    network.close();
    expect(complaints).toEqual([]);
  });

  async function open(options: object = {}): Promise<void> {
    const all = { url: network.url, token: run.sign(user, 3600), ...options };
    await page.goto(pages.url(`/?${encodeURIComponent(JSON.stringify(all))}`));
    await connected();
  }
  const look = <T>(what: (window: any) => T): Promise<T> => page.evaluate(`(${what})(window)`) as Promise<T>;
  const state = () => look(({ client }) => client.state as string);
  const connected = (timeout = 20_000) => seen(async () => (await state()) === "connected", "connected", timeout);
  const codes = () => look(({ states }) => states.map(({ code }: { code: string }) => code));

  /** How many milliseconds it takes. */
  async function seen(condition: () => Promise<boolean>, what: string, timeout: number): Promise<number> {
    const start = Date.now();
    while (!(await condition())) {
      if (Date.now() - start > timeout) throw new Error(`not within ${timeout} ms: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return Date.now() - start;
  }

  /** What is sent to the user's dashboard is heard there, over one connection. */
  async function hears(): Promise<void> {
    const tick = Math.random();
    await run.send("room", `dashboard_user_${user}`, "tick", tick);
    await seen(() => page.evaluate((tick) => (window as any).heard.includes(tick), tick), "the event", 10_000);
  }

  test("the demo page: a person enters, orders, and sees the order", async () => {
    await page.goto(`${run.page}?name=Ugo-${name}&role=user`);
    await page.waitForSelector('#state[data-state="connected"]', { timeout: 30_000 });
    await page.waitForFunction(
      (room) => document.querySelector("#dashboard-room")!.textContent === room,
      {},
      `dashboard_user_ugo-${name.toLowerCase()}`,
    );
    await page.locator("::-p-text(Place an order)").click();
    await page.waitForSelector("#latest tr");
    expect(await page.$eval("#updates", ({ textContent }) => textContent)).toBe("1");
  });

  test("a connection that a NAT forgets is noticed by the keepalive, and the next one works", async () => {
    await open({ keepalive: 2_000 });
    network.forget();
    const noticed = await seen(async () => (await codes()).includes("no_reply"), "that it is of no use", 15_000);
    const back = await connected();
    await hears();
    console.log(`${name}: with a keepalive of 2 s, noticed after ${noticed} ms, back ${back} ms later`);
  });

  test("the network changes just after a message: the dead connection is noticed, with the default keepalive", async () => {
    await open();
    await hears();
    network.forget();
    await page.setOfflineMode(true);
    await page.setOfflineMode(false);
    const noticed = await seen(async () => (await codes()).includes("no_reply"), "that it is of no use", 30_000);
    const back = await connected();
    await hears();
    console.log(`${name}: after online, noticed within ${noticed} ms, back ${back} ms later`);
  });

  test("offline for a while: it comes back with its room as soon as there is a network", async () => {
    await open();
    await page.setOfflineMode(true);
    network.cut();
    await seen(async () => (await state()) === "connecting", "that it is lost", 10_000);
    await new Promise((resolve) => setTimeout(resolve, 4_000));
    network.repair();
    await page.setOfflineMode(false);
    const back = await connected(5_000);
    await hears();
    console.log(`${name}: back ${back} ms after online`);
  });

  test("a browser that says it is offline and is not: it connects, and comes back", async () => {
    await page.evaluateOnNewDocument(() => Object.defineProperty(navigator, "onLine", { value: false }));
    await open();
    expect(await look(({ navigator }) => navigator.onLine as boolean)).toBe(false);
    network.drop();
    await seen(async () => (await codes()).includes("lost"), "that it is lost", 10_000);
    await connected(45_000);
    await hears();
  });

  test("a hidden tab hears events, and one that was cut while hidden is back when it is shown", async () => {
    await open();
    const other = await browser.newPage();
    await other.bringToFront();
    await seen(() => look(({ document }) => document.hidden as boolean), "that it is hidden", 5_000);
    await hears();
    network.cut();
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    network.repair();
    await page.bringToFront();
    await other.close();
    const back = await connected(5_000);
    await hears();
    console.log(`${name}: back ${back} ms after it was shown`);
  });

  test("away to another page and back: connected, in its room, over one connection", async () => {
    await open();
    await page.goto(pages.url("/other"));
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    await page.goBack();
    const back = await seen(
      async () => (await look(({ client }) => client?.state)) === "connected",
      "connected",
      20_000,
    );
    await hears();
    const [persisted] = (await look(({ shown }) => shown as boolean[])).slice(-1);
    console.log(`${name}: ${persisted ? "out of the back/forward cache" : "loaded again"}, connected ${back} ms later`);
    const { sent } = await run.send("room", `dashboard_user_${user}`, "tick", 0);
    expect(sent).toBe(1);
  });
});
