/**
 * docs/recording.gif, the moving picture of the README: the demo page in Chromium, and a backend's Python under it,
 * both of one real run. `make recording` writes it; without that the run is played, measured, and thrown away.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type Browser, type CDPSession, chromium, type Locator, type Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Frame, gif } from "../gif.ts";
import { CHROMIUM_FLAGS, find } from "./browsers.ts";
import { LocalRun, until } from "./local-run.ts";

const root = join(import.meta.dirname, "..", "..", "..");
const RECORDING = join(root, process.env.RECORDING ?? "build/recording.gif");
const [WIDTH, HEIGHT] = [960, 690];
const SHORTEST = 80; // milliseconds between two frames
const TYPED = 45; // characters in a second
const MOST_BYTES = 1_000_000;

/** What the reader's backend would have: its service, and an order as its views make them. */
const SHOP = `
from itertools import count
from roomcast import WebSocketService

realtime = WebSocketService.from_env()
number = count(4711)

def order(customer):
    amount = {"Grace": 48.3, "Lin": 12.5, "Omar": 96}[customer]
    return {"type": "new_order", "orderId": str(next(number)), "customer": customer, "amount": amount}
`;

const STYLE = `
  #terminal { position: fixed; inset: auto 0 0; height: 172px; margin: 0; padding: 12px 18px; z-index: 8;
    background: #15181f; color: #e8eaee; font: 14px/21px "DejaVu Sans Mono", monospace; white-space: pre; }
  #terminal b { display: block; font: 600 14px/22px "DejaVu Sans", sans-serif; color: #f2b94b; margin-bottom: 4px; }
  #terminal i { font-style: normal; color: #93a4ff; }
  #pointer { position: fixed; left: 0; top: 0; z-index: 9; pointer-events: none; }
  .orders tr:first-child td { animation: none !important; background: color-mix(in srgb, var(--accent) 9%, transparent); }
  .after, .grid > :not(.dashboard, .connection) { display: none; }
  .bar .inner, main { padding-block: 8px !important; }
  .grid { gap: 8px !important; }
  .grid > * { min-height: 454px; }
`;

let run: LocalRun;
let browser: Browser;
let backend: ChildProcess;
let shop: string;

beforeAll(async () => {
  run = await LocalRun.start();
  browser = await chromium.launch({ executablePath: find("Chromium"), args: CHROMIUM_FLAGS });
  shop = mkdtempSync(join(tmpdir(), "roomcast-shop-"));
  writeFileSync(join(shop, "shop.py"), SHOP);
});
afterAll(async () => {
  backend?.kill();
  await browser?.close();
  await run?.end();
  rmSync(shop, { recursive: true });
});

/** A Python prompt, shown at the bottom of the page. */
class Prompt {
  private readonly page: Page;
  private shown = "";
  private answers = "";
  private caption = "";

  constructor(page: Page) {
    this.page = page;
    backend = spawn(join(root, ".venv", "bin", "python"), ["-q", "-i", "-u"], {
      cwd: shop,
      env: { ...process.env, ...run.environment },
    });
    backend.stdout!.on("data", (text) => (this.answers += text));
  }

  /** Types a line; what it prints is shown when `lines` lines have come. */
  async type(line: string, lines: number): Promise<void> {
    this.shown += "<i>&gt;&gt;&gt;</i> ";
    const began = performance.now();
    for (let typed = 0; typed < line.length; await this.page.waitForTimeout(SHORTEST)) {
      typed = Math.ceil(((performance.now() - began) / 1000) * TYPED);
      await this.show(`${line.slice(0, typed)}▏`);
    }
    this.answers = "";
    backend.stdin!.write(`${line}\n${line.startsWith("for ") ? "\n" : ""}`);
    await until(() => this.answers.split("\n").length > lines, line);
    this.shown += `${line}\n${this.answers}`;
    await this.say(this.caption);
  }

  /** What the watcher is to know, above the prompt. */
  say(caption: string): Promise<void> {
    this.caption = caption;
    return this.show("<i>&gt;&gt;&gt;</i> ▏");
  }

  private show(typing: string): Promise<void> {
    const lines = `${this.shown}${typing}`.split("\n").slice(-6).join("\n");
    const html = `<b>${this.caption}</b>${lines}`;
    return this.page.evaluate((html) => void (document.getElementById("terminal")!.innerHTML = html), html);
  }
}

/** Moves the pointer there as a hand does, and clicks. */
async function click(page: Page, button: Locator): Promise<void> {
  const { x, y, width, height } = (await button.boundingBox())!;
  await page.mouse.move(x + width / 2, y + height / 2, { steps: 12 });
  await page.waitForTimeout(400);
  await page.mouse.down();
  await page.mouse.up();
}

/** Every picture that Chromium paints, with the time of it. */
async function record(page: Page): Promise<{ stop: () => Promise<{ png: string; at: number }[]> }> {
  const chrome: CDPSession = await page.context().newCDPSession(page);
  const pictures: { png: string; at: number }[] = [];
  chrome.on("Page.screencastFrame", ({ data, metadata, sessionId }) => {
    pictures.push({ png: data, at: metadata.timestamp! * 1000 });
    void chrome.send("Page.screencastFrameAck", { sessionId });
  });
  await chrome.send("Page.startScreencast", { format: "png" });
  return {
    stop: async () => {
      await chrome.send("Page.stopScreencast");
      return pictures;
    },
  };
}

/** The pictures as pixels, at most one in `SHORTEST` milliseconds, each with how long it was seen. */
async function frames(page: Page, pictures: { png: string; at: number }[], last: number): Promise<Frame[]> {
  const kept = pictures.filter(({ at }, index) => (pictures[index + 1]?.at ?? Infinity) - at >= SHORTEST);
  const made: Frame[] = [];
  for (const [index, { png, at }] of kept.entries()) {
    const pixels = await page.evaluate(async (png) => {
      const bytes = await (await fetch(`data:image/png;base64,${png}`)).blob();
      const bitmap = await createImageBitmap(bytes);
      const paint = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d")!;
      paint.drawImage(bitmap, 0, 0);
      const { data } = paint.getImageData(0, 0, bitmap.width, bitmap.height);
      let text = "";
      for (let from = 0; from < data.length; from += 32_768)
        text += String.fromCharCode(...data.subarray(from, from + 32_768));
      return btoa(text);
    }, png);
    made.push({ pixels: Buffer.from(pixels, "base64"), shown: (kept[index + 1]?.at ?? at + last) - at });
  }
  return made;
}

test("orders arrive, the network is cut, and those of meanwhile arrive too", async () => {
  const context = await browser.newContext({
    viewport: { width: WIDTH, height: HEIGHT },
    colorScheme: "light",
    bypassCSP: true, // for the terminal and the pointer, which are not the page's own
  });
  const page = await context.newPage();
  await page.goto(`${run.page}?name=Ada&role=user`);
  await page.locator("#dashboard-room", { hasText: "dashboard_user_ada" }).waitFor();
  await page.addStyleTag({ content: STYLE });
  await page.evaluate(() => {
    document.body.insertAdjacentHTML(
      "beforeend",
      `<pre id="terminal"></pre><svg id="pointer" width="22" height="28" viewBox="0 0 11 14">
        <path d="M0 0v12l3-2.8 2 4.6 1.8-.8-2-4.5H9z" fill="#000" stroke="#fff"/></svg>`,
    );
    addEventListener("mousemove", ({ x, y }) => {
      document.getElementById("pointer")!.style.transform = `translate(${x}px, ${y}px)`;
    });
  });
  await page.mouse.move(700, 430);
  const prompt = new Prompt(page);
  await prompt.say("Your backend");
  await prompt.type("from shop import order, realtime", 0);

  const recording = await record(page);
  await prompt.say("Your backend sends to a user, wherever she is connected.");
  await page.waitForTimeout(1_200);
  await prompt.type('realtime.send_to_user("ada", "dashboard:update", order("Grace")).sent', 1);
  await page.locator("#latest tr", { hasText: "4711" }).waitFor();
  await page.waitForTimeout(2_000);
  await click(page, page.getByRole("button", { name: "Cut the network" }));
  await page.locator('#state[data-state="connecting"]').waitFor();
  await prompt.say("Her network is cut. The backend goes on sending: her inbox keeps what nobody takes.");
  await page.waitForTimeout(300);
  await prompt.type(
    'for customer in "Lin", "Omar": realtime.send_to_user("ada", "dashboard:update", order(customer)).sent',
    2,
  );
  expect(await page.locator("#latest tr").count()).toBe(1); // it is away
  await page.locator("#latest tr", { hasText: "4713" }).waitFor();
  await page.locator('#state[data-state="connected"]').waitFor();
  await prompt.say("The page is back by itself, with both orders. Nothing is lost, and nothing comes twice.");
  await page.waitForTimeout(1_700);
  const pictures = await recording.stop();

  expect(await page.locator("#latest td:nth-child(2)").allTextContents()).toEqual(["4713", "4712", "4711"]);
  expect(await page.locator("#replayed").textContent()).toBe("2");
  expect(await page.locator("#lost").textContent()).toBe("0");
  const file = gif(WIDTH, HEIGHT, await frames(page, pictures, 4_000));
  expect(file.length).toBeLessThan(MOST_BYTES);
  mkdirSync(dirname(RECORDING), { recursive: true });
  writeFileSync(RECORDING, file);
  // Chromium reads it as it was written.
  const read = await page.evaluate(async (base64) => {
    const data = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const decoder = new (globalThis as any).ImageDecoder({ data, type: "image/gif" });
    await decoder.completed;
    await decoder.tracks.ready;
    const { image } = await decoder.decode({ frameIndex: decoder.tracks.selectedTrack.frameCount - 1 });
    return { frames: decoder.tracks.selectedTrack.frameCount, width: image.displayWidth, height: image.displayHeight };
  }, file.toString("base64"));
  expect(read).toMatchObject({ width: WIDTH, height: HEIGHT });
  expect(read.frames).toBeGreaterThan(20);
  console.log(`${RECORDING}: ${file.length} bytes, ${read.frames} frames`);
}, 120_000);
