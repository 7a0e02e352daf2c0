/** Places that only a browser has: a page that is not a secure context, a worker, a frame that may store nothing. */
import type { Browser, Page } from "puppeteer-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ProtocolServer } from "../protocol-server.ts";
import { launch, Pages } from "./browsers.ts";
import { PROOF, USE } from "./use.ts";

/** A module for a browser, which does not know where `roomcast` is. */
const module = (run: string) => `
  import { createClient, RoomcastError } from "/roomcast/index.js";
  import { io } from "/roomcast/io.js";
  import { resume } from "/roomcast/resume.js";
  import * as socket from "/roomcast/socket.js";
  ${USE}
  const say = (text) => globalThis.document ? (document.title = text) : postMessage(text);
  ${run}.then(say, (error) => say(String(error)));`;

let server: ProtocolServer;
let pages: Pages;
beforeAll(async () => {
  server = await ProtocolServer.start();
  const lan = JSON.stringify({ url: server.url.replace("127.0.0.1", "lan.test") });
  pages = await Pages.serve({
    "/page": `<!doctype html><script type="module">${module(`use({ createClient, RoomcastError }, { io }, { resume }, socket, ${lan})`)}</script>`,
    "/worker.js": module(`use({ createClient, RoomcastError }, { io }, { resume }, socket, ${lan})`),
    "/worker": `<!doctype html><script>
      const worker = new Worker("/worker.js", { type: "module" });
      worker.onmessage = ({ data }) => (document.title = data);
      worker.onerror = ({ message }) => (document.title = message);
    </script>`,
    "/inside": `<!doctype html><script type="module">
      import { initSocket, on } from "/roomcast/socket.js";
      on("reconnect_failed", ({ code, message }) => parent.postMessage(code + ": " + message, "*"));
      initSocket({ url: "${server.url}" });
    </script>`,
    "/frame": `<!doctype html><script>onmessage = ({ data }) => (document.title = data);</script>
      <iframe sandbox="allow-scripts" src="/inside"></iframe>`,
  });
});
afterAll(() => {
  pages?.close();
  server?.close();
});

describe.each(["Chromium", "Firefox"] as const)("%s", (name) => {
  let browser: Browser;
  let page: Page;
  beforeAll(async () => {
    browser = await launch(name);
    page = await browser.newPage();
  });
  afterAll(() => browser?.close());

  /** What the page has to say. */
  async function title(path: string, host?: string): Promise<string> {
    await page.goto(pages.url(path, host));
    await page.waitForFunction(() => document.title, { timeout: 20_000 });
    return page.title();
  }

  test("every entry connects on an http:// page of the LAN, which is not a secure context", async () => {
    expect(await title("/page", "lan.test")).toBe(PROOF);
    expect(await page.evaluate(() => [isSecureContext, typeof crypto.randomUUID])).toEqual([false, "undefined"]);
  });

  test("every entry connects in a worker", async () => {
    expect(await title("/worker", "lan.test")).toBe(PROOF);
  });

  test("in a sandboxed frame, where localStorage throws, nobody is logged in", async () => {
    expect(await title("/frame")).toBe("auth_failed: no token");
  });
});
